"""Jobs as OpenTelemetry spans, made when a job has its outcome from the times that its receipt holds anyway.

What exports them, and which share of them, is for whoever starts the server to say: only OpenTelemetry's API is
known here. An optional extra brings it; only what has been asked for traces imports this module.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from opentelemetry import trace
from opentelemetry.context import Context

from mosel import __version__
from mosel.core.clock import wall_ns
from mosel.core.errors import UsageError
from mosel.core.states import Reason, State
from mosel.core.types import BatchRun, Receipt
from mosel.frontend.endings import Ended
from mosel.online.events import Complete, Dispatch, Entry

DECISIONS_KEPT = 100_000
"""Jobs whose decision is remembered until they end; of more, the oldest have no span of it."""

Attributes = Mapping[str, str | int | float]
Piece = tuple[str, int, int, Attributes]


def configured_tracer() -> trace.Tracer:
    """Return what makes spans.

    Raises:
        UsageError: nothing in this process would export them.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        raise UsageError(
            "traces: no OpenTelemetry SDK is set up, so that nothing would export them; install "
            "opentelemetry-distro and an exporter, and start with: opentelemetry-instrument -- mosel serve …"
        )
    return provider.get_tracer("mosel", __version__)


class Traces:
    """Makes a span of each job, with spans of its parts within.

    Args:
        tracer: makes the spans.
        wall: the wall clock, in nanoseconds since 1970.
    """

    def __init__(self, tracer: trace.Tracer, wall: Callable[[], int] = wall_ns) -> None:
        self._tracer = tracer
        self._wall = wall
        self._decided: OrderedDict[str, tuple[int, int]] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many jobs' decisions are remembered."""
        return len(self._decided)

    def decided(self, entry: Entry, took_ns: int) -> None:
        """Remember for each job the decision that first sent it to a worker, or else ended it."""
        when = entry.now_ns, entry.now_ns + took_ns
        for action in entry.actions:
            if isinstance(action, Dispatch):
                for part in action.batch.parts:
                    self._decided.setdefault(part.job, when)
            elif isinstance(action, Complete):
                self._complete(action.receipt, when)
        while len(self._decided) > DECISIONS_KEPT:
            self._decided.popitem(last=False)

    def ended(self, ended: Ended) -> None:
        """Make the spans of a job that has its outcome."""
        receipt, job = ended.receipt, ended.receipt.job
        decision = self._decided.pop(job.id, None)
        to_wall_ns = self._wall() - ended.told_ns  # anew for each job: the wall clock may be set meanwhile
        whole = self._tracer.start_span(
            "mosel.job",
            Context(),
            trace.SpanKind.SERVER,
            _attributes(ended),
            start_time=job.arrival_ns + to_wall_ns,
        )
        if whole.is_recording():
            within = trace.set_span_in_context(whole)
            for name, start_ns, finish_ns, attributes in _pieces(ended, decision):
                piece = self._tracer.start_span(
                    name, within, attributes=attributes, start_time=start_ns + to_wall_ns
                )
                piece.end(finish_ns + to_wall_ns)
            if receipt.outcome is State.FAILED:
                whole.set_status(trace.StatusCode.ERROR, receipt.detail)
        whole.end(ended.told_ns + to_wall_ns)

    def _complete(self, receipt: Receipt, when: tuple[int, int]) -> None:
        if receipt.reason is Reason.CANCELLED:
            self._decided.pop(receipt.job.id, None)  # its spans were made when its client went away
        else:
            self._decided.setdefault(receipt.job.id, when)


def _pieces(ended: Ended, decision: tuple[int, int] | None) -> Iterator[Piece]:
    """Yield name, start, finish and attributes of each part of a job, on the engine's clock."""
    receipt, handed_in_ns = ended.receipt, ended.handed_in_ns
    if handed_in_ns is None:
        yield "receive", receipt.job.arrival_ns, receipt.decided_ns, {}
        return
    yield "receive", receipt.job.arrival_ns, handed_in_ns, {}
    first_ns = min((run.start_ns for run in receipt.batches), default=receipt.decided_ns)
    yield "queue", handed_in_ns, max(handed_in_ns, first_ns), {}
    if decision is not None:
        yield "decide", *decision, {"mosel.decision": ended.choice.value}
    for run in receipt.batches:
        yield "compute", run.start_ns, run.finish_ns, _batch(run)
    yield "reply", receipt.decided_ns, ended.told_ns, {}


def _batch(run: BatchRun) -> Attributes:
    return {
        "mosel.batch": run.id,
        "mosel.worker": run.worker,
        "mosel.mode": run.mode,
        "mosel.batch_size": run.size,
        "mosel.requests": run.requests,
    }


def _attributes(ended: Ended) -> Attributes:
    receipt, job = ended.receipt, ended.receipt.job
    return {
        "mosel.job": job.id,
        "mosel.model": job.model,
        "mosel.requests": job.requests,
        "mosel.outcome": receipt.outcome.value,
        "mosel.reason": receipt.reason.value,
        "mosel.decision": ended.choice.value,
        "mosel.modes": ";".join(f"{mode}:{count}" for mode, count in receipt.modes),
    }
