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
from mosel.solve.cover import Frontier, cheapest_reaching
from mosel.solve.line_up import idle_ns

Profiles = Mapping[str, Profile]

MOST_REMEMBERED = 1 << 16
"""Of so many kinds of jobs the cost is remembered."""


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
        return self._known(job.model, job.modalities, job.length, job.requests, job.accuracy_slo)

    def best(self, job: Job) -> float:
        """Return the highest accuracy that these workers reach for a job; −1 if none, −2 without its model."""
        return max((_best(table, job) for table, _ in self._counts.get(job.model, ())), default=-2.0)

    def _find(
        self, model: str, modalities: tuple[str, ...], length: float | None, requests: int, slo: float
    ) -> Cost | None:
        rate, alone_ns = 0.0, []
        for table, count in self._counts.get(model, ()):
            if table.takes(length):
                where = table.bucket_of(length), table.mask_of(modalities)
                frontier = table.frontier(*where, requests)
                first = cheapest_reaching(frontier, slo * requests)
                if first < len(frontier):
                    alone_ns.append(_alone_ns(table, where[0], frontier, first, count))
                    rate += count / _unit_ns(table, *where, slo)
        return Cost(self._workers / rate, min(alone_ns)) if alone_ns else None


def _alone_ns(table: ModelTable, bucket: int, frontier: Frontier, first: int, workers: int) -> int:
    batches = frontier.batches[first]
    return idle_ns(tuple(int(table.latency_ns[mode, bucket, size]) for mode, size in batches), workers)


def _unit_ns(table: ModelTable, bucket: int, mask: int, slo: float) -> float:
    """A request's share of the best batch in the cheapest mode that reaches the SLO, or comes nearest to it."""
    usable = sorted(table.usable(mask), key=lambda mode: float(table.accuracy[mode]))
    reached = [float(table.accuracy[mode]) for mode in usable]
    first = min(bisect_left(reached, slo - ACCURACY_TOLERANCE), len(usable) - 1)
    return min(table.unit_ns(mode, bucket) for mode in usable[first:])


def _best(table: ModelTable, job: Job) -> float:
    usable = table.usable(table.mask_of(job.modalities)) if table.takes(job.length) else []
    return float(np.max(table.accuracy[usable], initial=-1.0))
