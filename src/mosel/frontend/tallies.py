"""Counters and histograms that only the event loop writes, read as Prometheus' own when they are asked for.

Prometheus' objects take a lock and look up their labels at each count, which is most of what counting costs.
All that is counted for every job is counted here, in plain numbers.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counts(Collector):
    """A counter for each set of labels.

    Args:
        name: without `_total`.
        text: what is counted.
        labels: their names.

    Attributes:
        values: by labels.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.values: dict[Labels, int] = {}
        self._name, self._text, self._labels = name, text, tuple(labels)

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count so many more."""
        self.values[labels] = self.values.get(labels, 0) + count

    def collect(self) -> Iterator[Metric]:
        """Yield the counter."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self.values.items():
            family.add_metric(labels, count)
        yield family


class Endings(Collector):
    """How many jobs, and requests of jobs, came to each outcome, and for which reasons.

    Args:
        models: each is told of from the first.
        outcomes: with each of these.
    """

    def __init__(self, models: Sequence[str], outcomes: Sequence[str]) -> None:
        self._known = [(model, str(outcome)) for model in models for outcome in outcomes]
        self._of: dict[tuple[str, str, str], list[int]] = {}

    def add(self, model: str, outcome: str, reason: str, requests: int) -> None:
        """Count a job of so many requests."""
        found = self._of.get((model, outcome, reason))
        if found is None:
            found = self._of[model, str(outcome), str(reason)] = [0, 0]
        found[0] += 1
        found[1] += requests

    def by_outcome(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return jobs and requests by model and outcome."""
        found = dict.fromkeys(self._known, (0, 0))
        for (model, outcome, _), (jobs, requests) in self._of.items():
            before = found.get((model, outcome), (0, 0))
            found[model, outcome] = before[0] + jobs, before[1] + requests
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the counters."""
        jobs = CounterMetricFamily("mosel_jobs", "Jobs by outcome.", labels=("model", "outcome"))
        text = "Requests by their job's outcome."
        requests = CounterMetricFamily("mosel_requests", text, labels=("model", "outcome"))
        text = "Jobs by the reason of their receipt."
        reasons = CounterMetricFamily("mosel_reasons", text, labels=("model", "reason"))
        for labels, (of_jobs, of_requests) in self.by_outcome().items():
            jobs.add_metric(labels, of_jobs)
            requests.add_metric(labels, of_requests)
        by_reason: dict[tuple[str, str], int] = {}
        for (model, _, reason), counts in self._of.items():
            by_reason[model, reason] = by_reason.get((model, reason), 0) + counts[0]
        for labels, count in by_reason.items():
            reasons.add_metric(labels, count)
        yield from (jobs, requests, reasons)


class Spread:
    """How values are spread: how many up to each bound, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take in a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Spreads(Collector):
    """A histogram for each model.

    Args:
        name: with its unit.
        text: what is observed.
        bounds: ascending, without infinity.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text, self._bounds = name, text, tuple(map(float, bounds))
        self._of: dict[str, Spread] = {}

    def of(self, model: str) -> Spread:
        """Return a model's, which is told of from then on."""
        found = self._of.get(model)
        if found is None:
            found = self._of[model] = Spread(self._bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        metric = Metric(self._name, self._text, "histogram")
        for model, spread in self._of.items():
            for bound, count in zip(names, accumulate(spread.counts), strict=True):
                metric.add_sample(f"{self._name}_bucket", {"model": model, "le": bound}, count)
            metric.add_sample(f"{self._name}_count", {"model": model}, sum(spread.counts))
            metric.add_sample(f"{self._name}_sum", {"model": model}, spread.sum)
        yield metric
