"""What a job is expected to ask of the workers of a group: how much work, and how long if they are idle.

Work is in nanoseconds of the group's average worker, batches shared with other jobs, in the cheapest single
mode that reaches the accuracy SLO. It is what backlogs are counted in; the schedulers themselves know better.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job
from mosel.online.tables import ModelTable
from mosel.solve.cover import SHORTFALL
from mosel.solve.idle import idle_ns

Profiles = Mapping[str, Profile]

MOST_REMEMBERED = 1 << 12
"""Of so many kinds of jobs the costs are remembered."""

NEVER_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job asks: `request_ns` of work for each request; `alone_ns` from start to end on idle workers."""

    request_ns: float
    alone_ns: int


class Costs:
    """The costs of jobs in groups whose workers are made up alike.

    Args:
        workers: the profiles of each worker of such a group, by model.
    """

    def __init__(self, workers: Sequence[Profiles]) -> None:
        self._counts: dict[str, list[tuple[ModelTable, int]]] = {}
        self._workers = len(workers)
        found: dict[tuple[str, int], tuple[ModelTable, int]] = {}
        for profiles in workers:
            for model, profile in profiles.items():
                table, count = found.get((model, id(profile))) or (ModelTable(profile), 0)
                found[model, id(profile)] = table, count + 1
        for (model, _), counted in found.items():
            self._counts.setdefault(model, []).append(counted)
        self._known = lru_cache(MOST_REMEMBERED)(self._find)

    def of(self, job: Job) -> Cost | None:
        """Return what a job asks; None if no worker here can reach its accuracy SLO."""
        rate, alone_ns = 0.0, NEVER_NS
        for menu in self._known(job.model, job.modalities, job.length, job.requests):
            at = menu.first(job.accuracy_slo * job.requests)
            if at is not None:
                alone_ns = min(alone_ns, menu.alone_ns(at))
                rate += menu.workers / menu.request_ns(job.accuracy_slo)
        return Cost(self._workers / rate, alone_ns) if rate else None

    def best(self, job: Job) -> float:
        """Return the highest accuracy that these workers reach for a job; −1 if none, −2 without its model."""
        return max((_best(table, job) for table, _ in self._counts.get(job.model, ())), default=-2.0)

    def _find(
        self, model: str, modalities: tuple[str, ...], length: float | None, requests: int
    ) -> list["_Menu"]:
        return [
            _Menu(table, table.bucket_of(length), table.mask_of(modalities), requests, workers)
            for table, workers in self._counts.get(model, ())
            if table.takes(length)
        ]


class SharedCosts:
    """Costs that groups made up alike have in common."""

    def __init__(self) -> None:
        self._made: list[tuple[list[Profiles], Costs]] = []

    def of(self, workers: list[Profiles]) -> Costs:
        """Return the costs of jobs in a group of these workers."""
        for known, costs in self._made:
            if known == workers:
                return costs
        self._made.append((workers, Costs(workers)))
        return self._made[-1][1]


class _Menu:
    """What jobs of one size cost workers of one kind, by the accuracy that they need."""

    def __init__(self, table: ModelTable, bucket: int, mask: int, requests: int, workers: int) -> None:
        self.workers = workers
        self._table = table
        self._bucket = bucket
        self._frontier = table.frontier(bucket, mask, requests)
        self._sums: list[float] = self._frontier.accuracy.tolist()
        self._alone_ns: dict[int, int] = {}
        usable = sorted(table.usable(mask), key=lambda mode: float(table.accuracy[mode]))
        self._reached = [float(table.accuracy[mode]) - ACCURACY_TOLERANCE for mode in usable]
        units = [table.unit_ns(mode, bucket) for mode in usable]
        self._units = [min(units[first:]) for first in range(len(units))]

    def first(self, needed: float) -> int | None:
        """Return the fastest strategy that reaches an accuracy sum; None if none does."""
        at = bisect_left(self._sums, needed - SHORTFALL)
        return at if at < len(self._sums) else None

    def alone_ns(self, at: int) -> int:
        """Return how long that strategy takes on idle workers."""
        found = self._alone_ns.get(at)
        if found is None:
            batches = self._frontier.batches[at]
            latency_ns = self._table.latency_ns[:, self._bucket]
            found = idle_ns(tuple(int(latency_ns[mode, size]) for mode, size in batches), self.workers)
            self._alone_ns[at] = found
        return found

    def request_ns(self, slo: float) -> float:
        """Return a request's share of the best batch in the cheapest mode that reaches an SLO, or nearest."""
        return self._units[min(bisect_left(self._reached, slo), len(self._units) - 1)]


def _best(table: ModelTable, job: Job) -> float:
    usable = table.usable(table.mask_of(job.modalities)) if table.takes(job.length) else []
    return float(np.max(table.accuracy[usable], initial=-1.0))
