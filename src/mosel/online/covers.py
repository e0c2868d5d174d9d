"""The Pareto frontiers of one model's jobs (𝒫, §5.1), found when a size, bucket or set of modalities comes up.

They hold for the latencies given; what is looked up again and again of a strategy is kept with them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mosel.solve.cover import Frontier, frontiers
from mosel.solve.large import WHOLE, LargeJobs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_STRATEGY = Frontier(np.empty(0), np.empty(0, np.int64), ())
"""The frontier of a job that no mode can serve."""


class Covers:
    """Frontiers by bucket, modalities and number of requests.

    Args:
        latency_ns: of shape (modes, buckets, sizes + 1).
        accuracy: of shape (modes,).
        usable: which of them a job with these modalities can run in.
        largest: the largest batch.
    """

    def __init__(
        self, latency_ns: Ints, accuracy: Floats, usable: Callable[[int], list[int]], largest: int
    ) -> None:
        self._latency_ns = latency_ns
        self._accuracy = accuracy
        self._usable = usable
        self._whole = min(largest, WHOLE)
        self._frontiers: dict[tuple[int, int], list[Frontier]] = {}
        self._large: dict[tuple[int, int, int], Frontier] = {}
        self._splits: dict[tuple[int, int], LargeJobs] = {}
        self._longest: dict[tuple[int, int, int], Ints] = {}
        self._batches: dict[tuple[int, int, int, int], tuple[int, ...]] = {}

    def frontier(self, bucket: int, mask: int, requests: int) -> Frontier:
        """Return the Pareto frontier of a job of this size, bucket and modalities."""
        key = (bucket, mask)
        if key not in self._frontiers:
            self._frontiers[key] = self._cover(bucket, mask)
        known = self._frontiers[key]
        if requests < len(known):
            return known[requests]
        return self._larger(bucket, mask, requests) if self._usable(mask) else NO_STRATEGY

    def longest_ns(self, bucket: int, mask: int, requests: int) -> Ints:
        """Return the longest batch of each strategy of `frontier`, of shape (points,)."""
        key = (bucket, mask, requests)
        if key not in self._longest:
            found = self.frontier(*key).batches
            table = self._latency_ns[:, bucket]
            longest = [max((table[batch] for batch in batches), default=0) for batches in found]
            self._longest[key] = np.array(longest, np.int64)
        return self._longest[key]

    def batches_ns(self, bucket: int, mask: int, requests: int, index: int) -> tuple[int, ...]:
        """Return the latency of each batch of one strategy of `frontier`."""
        key = (bucket, mask, requests, index)
        if key not in self._batches:
            batches = self.frontier(bucket, mask, requests).batches[index]
            self._batches[key] = tuple(int(self._latency_ns[mode, bucket, size]) for mode, size in batches)
        return self._batches[key]

    def _cover(self, bucket: int, mask: int) -> list[Frontier]:
        usable = self._usable(mask)
        if not usable:
            return [NO_STRATEGY] * (self._whole + 1)
        found = frontiers(self._latency_ns[usable, bucket], self._accuracy[usable], self._whole)
        return [_renamed(frontier, usable) for frontier in found]

    def _larger(self, bucket: int, mask: int, requests: int) -> Frontier:
        """Return the frontier of a job of so many that those of all smaller ones are not found first."""
        key = (bucket, mask, requests)
        if key not in self._large:
            self._large[key] = self._large_jobs(bucket, mask).frontier(requests)
        return self._large[key]

    def _large_jobs(self, bucket: int, mask: int) -> LargeJobs:
        key = (bucket, mask)
        if key not in self._splits:
            usable = self._usable(mask)
            latency_ns = np.ascontiguousarray(self._latency_ns[usable, bucket])
            small = self._frontiers[key]
            self._splits[key] = LargeJobs(latency_ns, self._accuracy[usable], small, usable)
        return self._splits[key]


def _renamed(frontier: Frontier, modes: list[int]) -> Frontier:
    batches = tuple(tuple((modes[mode], size) for mode, size in found) for found in frontier.batches)
    return Frontier(frontier.accuracy, frontier.latency_ns, batches)
