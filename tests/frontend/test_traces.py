import pytest
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from mosel.core.errors import UsageError
from mosel.core.states import Reason, State
from mosel.core.types import Batch, BatchRun, Job, Part, Receipt
from mosel.frontend.best import Choice
from mosel.frontend.endings import Ended
from mosel.frontend.traces import DECISIONS_KEPT, Traces, configured_tracer
from mosel.online.events import Complete, Dispatch, Entry

EPOCH = 1_000_000
"""What the wall clock is ahead of the engine's."""

TOLD = 60
JOB = Job("j1", "m", 2, 0.5, 10, 100)
RUNS = (BatchRun(4, 0, "text", 3, 20, 30, 1), BatchRun(5, 1, "sound", 1, 25, 45, 1))
SERVED = Receipt(JOB, State.SERVED, Reason.ON_TIME, "", 50, 50, 0.8, (("text", 1), ("sound", 1)), RUNS)


class World:
    """Traces whose spans stay in memory."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider.get_tracer("test"), lambda: EPOCH + TOLD)

    @property
    def spans(self) -> list[ReadableSpan]:
        """What was exported."""
        return list(self.exporter.get_finished_spans())

    def end(self, receipt: Receipt = SERVED, handed_in_ns: int | None = 12) -> None:
        """Tell of a job that has its outcome."""
        self.traces.ended(Ended(receipt, Choice.CHEAPER_FOR_DEADLINES, handed_in_ns, TOLD))

    def times(self) -> list[tuple[str, int, int]]:
        """Return name, start and finish of each span on the engine's clock."""
        return [(one.name, (one.start_time or 0) - EPOCH, (one.end_time or 0) - EPOCH) for one in self.spans]


def dispatched(job: str, now_ns: int) -> Entry:
    """Return a decision that sends a job to a worker."""
    return Entry((), now_ns, (Dispatch(Batch(now_ns, 0, "m", "text", 0, (Part(job, (0,)),), 9)),))


def test_spans_of_a_served_job() -> None:
    """One span a job, and within it those of its parts, from the times of its receipt on the wall clock."""
    world = World()
    world.traces.decided(dispatched("j1", 17), 2)
    world.traces.decided(dispatched("j1", 24), 1)
    world.end()
    assert world.times() == [
        ("receive", 10, 12),
        ("queue", 12, 20),
        ("decide", 17, 19),
        ("compute", 20, 30),
        ("compute", 25, 45),
        ("reply", 50, 60),
        ("mosel.job", 10, 60),
    ]
    *parts, whole = world.spans
    assert whole.parent is None
    assert {part.parent.span_id for part in parts if part.parent} == {_id(whole)}
    assert len({_trace(one) for one in world.spans}) == 1


def test_attributes() -> None:
    """A job's span carries the codes of its receipt, a batch's span where and how it ran."""
    world = World()
    world.end()
    found = {one.name: dict(one.attributes or {}) for one in world.spans}
    assert found["mosel.job"] == {
        "mosel.job": "j1",
        "mosel.model": "m",
        "mosel.requests": 2,
        "mosel.outcome": "served",
        "mosel.reason": "on_time",
        "mosel.decision": "cheaper_for_deadlines",
        "mosel.modes": "text:1;sound:1",
    }
    assert found["compute"] == {
        "mosel.batch": 5,
        "mosel.worker": 1,
        "mosel.mode": "sound",
        "mosel.batch_size": 1,
        "mosel.requests": 1,
    }
    assert world.spans[-1].status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize(("outcome", "status"), [(State.FAILED, "ERROR"), (State.DROPPED, "UNSET")])
def test_a_job_that_did_not_run(outcome: State, status: str) -> None:
    """It waits until the decision that ended it, and computes nothing; a failure is one of its span too."""
    world = World()
    receipt = Receipt(JOB, outcome, Reason.SHUTDOWN, "stopped", 50)
    world.traces.decided(Entry((), 48, (Complete(receipt),)), 2)
    world.end(receipt)
    assert world.times()[:-1] == [("receive", 10, 12), ("queue", 12, 50), ("decide", 48, 50), ("reply", 50, 60)]
    assert world.spans[-1].status.status_code.name == status


def test_an_offer_without_its_tensors() -> None:
    """It was received until it was given up, and never waited."""
    world = World()
    world.end(Receipt(JOB, State.DROPPED, Reason.NOT_UPLOADED, "", 50), None)
    assert world.times() == [("receive", 10, 50), ("mosel.job", 10, 60)]


def test_traces_that_are_not_sampled() -> None:
    """Nothing is exported of a job that the sampler leaves out."""
    world = World(ALWAYS_OFF)
    world.end()
    assert world.spans == []


def test_decisions_are_forgotten() -> None:
    """What is remembered of decisions ends with the jobs, those whose clients went away included."""
    world = World()
    world.traces.decided(dispatched("j1", 17), 2)
    world.end()
    gone = replace(SERVED, outcome=State.DROPPED, reason=Reason.CANCELLED)
    world.traces.decided(dispatched("j1", 24), 1)
    world.traces.decided(Entry((), 30, (Complete(gone),)), 1)
    assert world.traces.remembered == 0
    for number in range(DECISIONS_KEPT + 3):
        world.traces.decided(dispatched(f"j{number}", 17), 2)
    assert world.traces.remembered == DECISIONS_KEPT


def test_nothing_would_export() -> None:
    """Traces without an SDK are refused with what to do."""
    with pytest.raises(UsageError, match="start with: opentelemetry-instrument -- mosel serve"):
        configured_tracer()


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def _trace(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)
