"""What `/metrics` tells: outcomes as they are answered, and the engine's counters as they stand when asked.

Names follow Prometheus' conventions: base units in the name, `_total` on counters. The registry is this
server's own, so that several servers can live in one process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mosel.core.clock import to_s
from mosel.core.errors import MoselError
from mosel.core.states import OUTCOMES
from mosel.core.types import Batch, Job, Receipt
from mosel.frontend.best import Best
from mosel.frontend.feedback import Estimate
from mosel.frontend.tallies import Counts, Endings, Spreads
from mosel.online.channel import WorkerState
from mosel.online.decisions import Decisions
from mosel.online.engine import Snapshot

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SLACK_S = (-10, -1, -0.1, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
_ACCURACY = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_ERRORS = (-0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_TIME_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)

LiveEstimates = Callable[[], Mapping[tuple[str, str], Estimate]]
Bins = Callable[[], Mapping[str, Sequence[Mapping[str, object]]]]
"""By model, groups of answers in cascades (`reliability.py`)."""


class Metrics:
    """Counts what the front end answers and carries what the engine counts.

    Args:
        models: the names of the models that are served.
        snapshot: gives the engine's counters as they stand.
        best: knows how accurate jobs could have been.
        live: gives what feedback says of each mode, by model and mode.
        agreement: gives what shadow runs say of it.
        cascades: gives what feedback says of cascades.
    """

    def __init__(
        self,
        models: Sequence[str],
        snapshot: Callable[[], Snapshot],
        best: Best,
        live: LiveEstimates = dict,
        agreement: LiveEstimates = dict,
        cascades: Bins = dict,
    ) -> None:
        self._best = best
        self._registry = CollectorRegistry()
        self._endings = Endings(models, OUTCOMES)
        self._runs = Counts("mosel_mode_requests", "Requests that ran, by mode.", ("model", "mode"))
        self._refused = Counts("mosel_refused_calls", "Calls that became no job, by error.", ("error",))
        self._slack = Spreads("mosel_slack_seconds", "Deadline less finish of served and late jobs.", _SLACK_S)
        self._time = Spreads("mosel_job_seconds", "Arrival to finish of served and late jobs.", _TIME_S)
        self._arrived = Counts("mosel_arrived_requests", "Requests of calls that fit their model.", ("model",))
        self._given_up = Spreads(
            "mosel_accuracy_given_up", "Best accuracy of a job's modalities less its own.", _ACCURACY
        )
        self._sizes = Spreads("mosel_batch_size", "Requests of a batch that ran.", _SIZES)
        self._errors = Spreads(
            "mosel_estimate_error_ratio", "Time of a batch over its estimate, less 1.", _ERRORS
        )
        for model in models:  # what is told from the first scrape on
            self._slack.of(model), self._time.of(model)
        tallies = (
            self._endings, self._runs, self._refused, self._slack, self._time, self._arrived, self._given_up,
            self._sizes, self._errors,
        )  # fmt: skip
        for tally in tallies:
            self._registry.register(tally)
        self._registry.register(_EngineCollector(snapshot))
        self._registry.register(_EstimateCollector(live, _LIVE_ACCURACY))
        self._registry.register(_EstimateCollector(agreement, _AGREEMENT))
        self._registry.register(_CascadeCollector(cascades))

    def answered(self, receipt: Receipt) -> None:
        """Count a job that has its outcome."""
        job, model = receipt.job, receipt.job.model
        self._endings.add(model, receipt.outcome, receipt.reason, job.requests)
        for mode, count in receipt.modes:
            self._runs.add((model, mode), count)
        if (given_up := self._best.given_up(receipt)) is not None:
            self._given_up.of(model).observe(given_up)
        if receipt.finish_ns is not None:
            self._slack.of(model).observe(to_s(job.deadline_ns - receipt.finish_ns))
            self._time.of(model).observe(to_s(receipt.finish_ns - job.arrival_ns))

    def arrived(self, job: Job) -> None:
        """Count a job that came and fits its model."""
        self._arrived.add((job.model,), job.requests)

    def ran(self, batch: Batch, took_ns: int) -> None:
        """Count a batch that ran and took the device so long."""
        self._sizes.of(batch.model).observe(batch.size)
        if batch.expected_ns > 0:
            self._errors.of(batch.model).observe(took_ns / batch.expected_ns - 1)

    def refused(self, error: MoselError) -> None:
        """Count a call that became no job."""
        self._refused.add((type(error).__name__,))

    def ended(self) -> dict[str, int]:
        """Return how many jobs so far came to each outcome, and how many calls were `refused`."""
        counts = {outcome.value: 0 for outcome in OUTCOMES}
        for (_, outcome), (jobs, _) in self._endings.by_outcome().items():
            counts[outcome] += jobs
        return {**counts, "refused": sum(self._refused.values.values())}

    def exposition(self) -> bytes:
        """Return every metric in the text format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)


def last_words(ended: Mapping[str, int]) -> str:
    """Return in one line what became of every job and call, for the end of a server; see `Metrics.ended`."""
    counts = {outcome.value: ended.get(outcome.value, 0) for outcome in OUTCOMES}
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"answered {sum(counts.values()):,} jobs: {parts}; refused {ended.get('refused', 0):,} calls"


class _EngineCollector(Collector):
    """Reads the engine's counters when the metrics are asked for."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        found = self._snapshot()
        yield GaugeMetricFamily("mosel_queued_jobs", "Jobs without an outcome.", value=found.queued_jobs)
        yield GaugeMetricFamily("mosel_backlog_seconds", "Work before each worker.", value=found.backlog_s)
        yield GaugeMetricFamily(
            "mosel_queued_requests", "Requests of jobs without an outcome.", value=found.queued_requests
        )
        yield CounterMetricFamily("mosel_batches", "Batches that ran.", value=found.batches)
        yield CounterMetricFamily(
            "mosel_failed_batches", "Batches on which the model raised.", value=found.failed_batches
        )
        yield CounterMetricFamily(
            "mosel_split_batches", "Batches that memory did not hold.", value=found.split_batches
        )
        yield CounterMetricFamily("mosel_lost_workers", "Workers that died.", value=found.lost_workers)
        yield _workers(found.workers)
        yield _latency_ratios(found.latency_ratios)
        yield CounterMetricFamily("mosel_decisions", "Decisions of the scheduler.", value=found.decisions.count)
        yield _decision_times(found.decisions)


_LIVE_ACCURACY = (
    ("mosel_live_accuracy", "Mean of the last scores that came back."),
    ("mosel_live_accuracy_low", "Lower end of its 95% interval."),
    ("mosel_live_accuracy_high", "Upper end of its 95% interval."),
    ("mosel_live_accuracy_scores", "How many scores these are."),
)
_AGREEMENT = (
    ("mosel_agreement", "Mean agreement of the last answers with those of the most accurate mode."),
    ("mosel_agreement_low", "Lower end of its 95% interval."),
    ("mosel_agreement_high", "Upper end of its 95% interval."),
    ("mosel_agreement_shadows", "How many answers were compared by shadow runs."),
)


class _EstimateCollector(Collector):
    """Works out what feedback, or shadow runs, say when the metrics are asked for."""

    def __init__(self, live: LiveEstimates, told: Sequence[tuple[str, str]]) -> None:
        self._live = live
        self._told = told

    def collect(self) -> Iterator[Metric]:
        families = [GaugeMetricFamily(name, text, labels=("model", "mode")) for name, text in self._told]
        for labels, seen in self._live().items():
            for family, value in zip(families, seen, strict=True):
                family.add_metric(labels, value)
        yield from families


_CASCADES = (
    ("mosel_cascade_expected", "expected", "How many of the last answers in cascades should be right (share)."),
    ("mosel_cascade_live", "live", "How many of them are."),
    ("mosel_cascade_scores", "scores", "How many answers these are."),
)


class _CascadeCollector(Collector):
    """Works out what feedback says of cascades, by first stage and confidence, when metrics are asked for."""

    def __init__(self, cascades: Bins) -> None:
        self._cascades = cascades

    def collect(self) -> Iterator[Metric]:
        found = self._cascades()
        for name, key, text in _CASCADES:
            family = GaugeMetricFamily(name, text, labels=("model", "mode", "escalated", "from", "to"))
            for model, bins in found.items():
                for one in bins:
                    edges = ["" if one[edge] is None else str(one[edge]) for edge in ("from", "to")]
                    went_on = "yes" if one["escalated"] else "no"
                    family.add_metric((model, str(one["mode"]), went_on, *edges), float(str(one[key])))
            yield family


def _workers(states: Sequence[str]) -> Metric:
    """Return one gauge a worker, 1 in the state that it is in and 0 in the others."""
    family = GaugeMetricFamily("mosel_worker_state", "1 in the state it is in.", labels=("worker", "state"))
    for worker, now in enumerate(states):
        for state in WorkerState:
            family.add_metric((str(worker), state.value), float(state.value == now))
    return family


def _latency_ratios(ratios: Mapping[tuple[str, str], float]) -> Metric:
    text = "Median of seen over profiled latency of the last batches; a profile holds while it is near 1."
    family = GaugeMetricFamily("mosel_latency_ratio", text, labels=("model", "mode"))
    for (model, mode), ratio in ratios.items():
        family.add_metric((model, mode), ratio)
    return family


def _decision_times(times: Decisions) -> Metric:
    text = "Wall time of the scheduler's last decisions, by quantile; 1 is the longest."
    family = GaugeMetricFamily("mosel_decision_seconds", text, labels=("quantile",))
    for quantile, us in (("0.5", times.p50_us), ("0.99", times.p99_us), ("1", times.max_us)):
        family.add_metric((quantile,), us / 1e6)
    return family
