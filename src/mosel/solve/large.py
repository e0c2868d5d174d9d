"""Frontiers of large jobs (§5.1), without the frontiers of all sizes below them.

A linear programme over requests needs at most two modes; a third one only fills what whole batches leave over.
So the frontier of a large job is taken over every strategy that runs all but a few requests in two modes, in
any batches, and the few (up to `FILLED`) in any strategy. With two modes it is exact. With more the least
latency of an accuracy is 0.1% above the exact one on average where jobs are too large to be filled.

The least latency of any number of requests in one mode is exact: beyond some number of requests, one more
batch of the size with the most requests per second is always best.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.cover import TIE, Batches, Floats, Frontier, Ints, cheapest_batches, is_dominated, pareto
from mosel.solve.jit import compiled

WHOLE = 128
"""Up to how many requests a scheduler finds the frontiers of all job sizes at once, if batches are as large."""

FILLED, FILLED_UP_TO = 8, 256
"""How many requests are filled with any strategy, in jobs of up to how many."""

STEPS = 4096
"""In jobs of more requests than this, modes change hands in steps of as many requests as needed."""

MOST_POINTS = 512
"""A longer frontier is thinned evenly to this many points; both ends stay."""


class LargeJobs:
    """The frontiers of one model's jobs with the same modalities, for any number of requests.

    Args:
        latency_ns: 𝒟, of shape (modes, sizes + 1), see `cover.frontiers`.
        accuracy: of shape (modes,).
        small: the frontiers of 0.. requests, with modes named as in `names`.
        names: how each mode is called in the batches of the frontiers.
    """

    def __init__(
        self, latency_ns: Ints, accuracy: Floats, small: Sequence[Frontier], names: Sequence[int]
    ) -> None:
        self._latency_ns = latency_ns
        self._accuracy = accuracy
        self._small = small
        self._names = [int(name) for name in names]
        self._rank = {self._names[mode]: rank for rank, mode in enumerate(np.argsort(-accuracy, kind="stable"))}
        self._best = np.array([_best_size(row) for row in latency_ns], np.int64)
        self._cost = np.zeros((len(accuracy), 1), np.int64)
        self._last = self._cost
        self._modes = np.arange(len(accuracy))

    def frontier(self, requests: int) -> Frontier:
        """Return the Pareto frontier of a job of so many requests, empty if no strategy has that many."""
        self._reach(requests)
        most = min(FILLED, len(self._small) - 1, requests)
        filled = range(most + 1 if requests <= FILLED_UP_TO else 1)
        parts = [self._filled(requests, fill) for fill in filled]
        accuracy, latency_ns, which = (np.concatenate(column) for column in zip(*parts, strict=True))
        keep = pareto(latency_ns, accuracy)
        if len(keep) > MOST_POINTS:
            keep = keep[np.unique(np.linspace(0, len(keep) - 1, MOST_POINTS).round().astype(np.int64))]
        return Frontier(accuracy[keep], latency_ns[keep], Mixes(self, requests, which[keep]))

    def counts(self, requests: int, which: Ints) -> Counter[int]:
        """Return how many of a strategy's requests run in each mode; `which` is a row of `Mixes`."""
        first, second, own, fill, point = which.tolist()
        found: Counter[int] = Counter()
        pairs = (self._names[first], own), (self._names[second], requests - fill - own)
        for name, count in (*pairs, *self._small[fill].batches[point]):
            found[name] += count
        return +found

    def batches(self, requests: int, which: Ints) -> Batches:
        """Return a strategy's batches, accurate modes first, large batches first."""
        first, second, own, fill, point = which.tolist()
        found = [*self._chain(first, own), *self._chain(second, requests - fill - own)]
        found += self._small[fill].batches[point]
        return tuple(sorted(found, key=lambda batch: (self._rank[batch[0]], -batch[1])))

    def _filled(self, requests: int, fill: int) -> tuple[Floats, Ints, Ints]:
        """All but `fill` requests in two modes, these in any of their own strategies."""
        step = max(1, -(-requests // STEPS))
        two = _two_modes(
            self._cost, self._best, self._latency_ns, self._accuracy, self._modes, requests - fill, step
        )
        accuracy, latency_ns, which = two
        own = self._small[fill]
        points = np.arange(len(own))
        rows = np.repeat(np.column_stack([which, np.full(len(which), fill)]), len(own), axis=0)
        rows = np.column_stack([rows, np.tile(points, len(which))])
        return (
            np.add.outer(accuracy, own.accuracy).ravel(),
            np.add.outer(latency_ns, own.latency_ns).ravel(),
            rows,
        )

    def _reach(self, requests: int) -> None:
        """Table the least latencies up to so many requests, or up to where they repeat."""
        sizes = self._latency_ns.shape[1] - 1
        enough = min(requests, sizes * (sizes + 1))
        if enough >= self._cost.shape[1]:
            tables = [cheapest_batches(row, max(enough, 2 * self._cost.shape[1])) for row in self._latency_ns]
            self._cost, self._last = (np.stack(columns) for columns in zip(*tables, strict=True))
            modes = range(len(self._accuracy))
            kept = [mode for mode in modes if not is_dominated(mode, self._accuracy, list(self._cost))]
            self._modes = np.array(kept, np.int64)

    def _chain(self, mode: int, requests: int) -> list[tuple[int, int]]:
        """The fastest batches of so many requests in one mode."""
        name, best = self._names[mode], int(self._best[mode])
        more = max(0, -(-(requests - self._cost.shape[1] + 1) // best)) if best else 0
        found = [(name, best)] * more
        requests -= more * best
        while requests:
            found.append((name, int(self._last[mode, requests])))
            requests -= found[-1][1]
        return found


class Mixes(Sequence[Batches]):
    """The batches of a large job's strategies, put together when they are asked for.

    Rows are (first mode, second mode, requests in the first, requests filled, their strategy).
    """

    def __init__(self, jobs: LargeJobs, requests: int, which: Ints) -> None:
        self._jobs = jobs
        self._requests = requests
        self._which = which

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, index: int) -> Batches: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batches]: ...
    def __getitem__(self, index: int | slice) -> Batches | Sequence[Batches]:
        """Return the batches of one strategy, or of several."""
        if isinstance(index, slice):
            return Mixes(self._jobs, self._requests, self._which[index])
        return self._jobs.batches(self._requests, self._which[index])

    def counts(self) -> list[Counter[int]]:
        """Return how many requests run in each mode, per strategy."""
        return [self._jobs.counts(self._requests, which) for which in self._which]


def _best_size(latency_ns: Ints) -> int:
    """The batch size with the most requests per second; 0 if there is none."""
    sizes = np.flatnonzero(latency_ns[1:] < UNAVAILABLE) + 1
    return int(sizes[np.argmin(latency_ns[sizes] / sizes)]) if len(sizes) else 0


@compiled
def _two_modes(cost: Any, best: Any, latency: Any, accuracy: Any, modes: Any, requests: int, step: int) -> Any:
    """(accuracy, latency, (mode, mode, requests in the first)) of running all in at most two modes, Pareto."""
    splits = -(-requests // step) + 1
    pairs = max(1, len(modes) * (len(modes) - 1) // 2)
    total = np.empty(splits * pairs, np.int64)
    gain = np.empty(splits * pairs, np.float64)
    which = np.empty((splits * pairs, 3), np.int64)
    count = 0
    for at in range(max(1, len(modes) - 1)):
        for other in range(min(at + 1, len(modes) - 1), len(modes)):
            first, second = modes[at], modes[other]
            for index in range(splits):
                own = min(index * step, requests)
                spent = _cost(cost, best, latency, first, own)
                spent += _cost(cost, best, latency, second, requests - own)
                if spent < UNAVAILABLE and (first != second or own == requests):
                    total[count] = spent
                    gain[count] = own * accuracy[first] + (requests - own) * accuracy[second]
                    which[count] = first, second, own
                    count += 1
    kept = np.empty(count, np.int64)
    filled = 0
    for index in np.argsort(total[:count]):
        if filled and gain[index] <= gain[kept[filled - 1]] + TIE:
            continue
        if filled and total[index] == total[kept[filled - 1]]:
            filled -= 1
        kept[filled] = index
        filled += 1
    kept = kept[:filled]
    return gain[kept], total[kept], which[kept]


@compiled
def _cost(cost: Any, best: Any, latency: Any, mode: int, requests: int) -> Any:
    """The least latency of so many requests in one mode; beyond the table by batches of the best size."""
    width = cost.shape[1]
    if requests < width:
        return cost[mode, requests]
    if best[mode] == 0:
        return UNAVAILABLE
    more = -(-(requests - width + 1) // best[mode])
    return cost[mode, requests - more * best[mode]] + more * latency[mode, best[mode]]
