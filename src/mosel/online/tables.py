"""𝒟 and 𝒫 as the scheduler reads them: integer arrays of one model, corrected by the estimator.

Strategies are the exact frontiers of `solve/cover.py` (§5.1), built from the latencies as they are estimated
now and kept until the estimates have moved by more than `REBUILD_AT`. A job that lacks modalities has
frontiers of its own, over the modes that it can run in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE, accuracies, latency_table, resumptions
from mosel.core.tables import Profile
from mosel.online.columns import CascadeColumn, cascade_columns, safe_rows, shared_rows
from mosel.online.covers import NO_STRATEGY, Covers
from mosel.online.estimator import Estimator
from mosel.solve.cover import SHORTFALL, Batches, Frontier, cheapest_batches

REBUILD_AT = 0.05
"""By how much a mode's estimate has to move before strategies are computed anew."""

REBUILD_LEAST_NS, REBUILD_OVERHEAD_NS = 50_000, 100_000
"""By how much its slowest batch, or what batches cost besides the device, has to move at least for that: less
says nothing to a client, and the strategies of the fastest models would be computed anew at every batch.
"""

PAUSE_NS = 500_000_000
"""Estimates are taken over so long after the last time at the earliest: they move back and forth."""

FAR, FAR_LEAST_NS, FAR_PAUSE_NS = 0.25, 1_000_000, 50_000_000
"""Those that moved by more than this part, and ns of the slowest batch are taken over after a shorter pause."""

MOST_KNOWN = 20_000
"""How many strategies, and latencies of strategies, are kept to be looked up again."""

__all__ = ["NO_STRATEGY", "ModelTable", "Strategy", "point"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the waiting requests of one job are to run: batches of (mode index, size), §5.1.

    `accuracy` is summed over the requests; `latency_ns` is the estimate when the strategy was made.
    """

    batches: tuple[tuple[int, int], ...]
    latency_ns: int
    accuracy: float

    @property
    def requests(self) -> int:
        """How many requests the strategy runs."""
        return sum(size for _, size in self.batches)


class ModelTable:
    """One model's modes, latencies and frontiers.

    Args:
        profile: its 𝒟.
        pace: how many times as long as profiled the workers that the table is for take.
        number: tells models apart where names would be slow.

    Attributes:
        model: its name.
        modes: mode names, in the profile's order; everything else is indexed alike.
        accuracy: of shape (modes,).
        masks: of shape (modes,), each mode's modalities as bits.
        cascades: further columns, numbered behind the modes.
        column_accuracy, column_masks: of modes and cascades, of shape (columns,).
        shared_ns, safe_ns: of shape (columns, buckets, sizes + 1), see `columns.py`; the modes' as they are.
        covers, wide: the frontiers over modes, and over all columns.
        profiled_ns: 𝒟, of shape (modes, buckets, sizes + 1), indexed by batch size.
        resumed_ns: what last stages take where features of the first are kept, by both; as one mode of 𝒟.
        largest: the largest batch of any mode.
    """

    def __init__(self, profile: Profile, pace: float = 1.0, number: int = 0) -> None:
        self.model = profile.model
        self.number = number
        self.modalities = profile.modalities
        self.modes = profile.mode_names
        self.accuracy: Floats = accuracies(profile)
        self.masks: Ints = np.array([self.mask_of(mode.modalities) for mode in profile.modes], np.int64)
        self.cascades = cascade_columns(profile, self.accuracy)
        self.column_accuracy: Floats = np.append(self.accuracy, [c.accuracy for c in self.cascades])
        self.column_masks: Ints = np.append(self.masks, self.masks[[c.last for c in self.cascades]])
        self.length_buckets = profile.length_buckets
        self.profiled_ns = latency_table(profile)
        names = {name: at for at, name in enumerate(self.modes)}
        self.resumed_ns = {(names[a], names[b]): rows for (a, b), rows in resumptions(profile).items()}
        self.largest = int(profile.batch_sizes[-1])
        self.every_mask = self.mask_of(profile.modalities)
        self._pace = pace
        self._known = self.profiled_ns < UNAVAILABLE
        self._slowest_ns = (pace * np.where(self._known, self.profiled_ns, 0).max(axis=(1, 2))).tolist()
        self._ratios = [1.0] * len(self.modes)
        self._overhead_ns = 0
        self._changes = 0
        self._followed_ns = -PAUSE_NS
        self.latency_ns = self.profiled_ns if pace == 1 else self._scaled()
        self._full: dict[int, int | None] = {}
        self._look_at_latencies()

    def mask_of(self, modalities: tuple[str, ...]) -> int:
        """Return modalities as bits; none given means all of them."""
        names = modalities or self.modalities
        return sum(1 << self.modalities.index(name) for name in names)

    def bucket_of(self, length: float | None) -> int:
        """Return the index of the length bucket that `length` falls into; None counts as the longest.

        Raises:
            ValueError: it is above the last bucket's limit.
        """
        if not self.length_buckets:
            return 0
        if length is None:
            return len(self.length_buckets) - 1
        if not self.takes(length):
            raise ValueError(f"length {length} is above the profile's limit {self.length_buckets[-1]}")
        return int(np.searchsorted(self.length_buckets, length))

    def takes(self, length: float | None) -> bool:
        """Whether `length` falls into a length bucket."""
        return not self.length_buckets or length is None or length <= self.length_buckets[-1]

    def usable(self, mask: int) -> list[int]:
        """Return the modes that a job with these modalities can run in."""
        return [index for index, needs in enumerate(self.masks) if not int(needs) & ~mask]

    def usable_columns(self, mask: int) -> list[int]:
        """Return the modes and cascades that a job with these modalities can run in."""
        return [index for index, needs in enumerate(self.column_masks) if not int(needs) & ~mask]

    def cascade(self, column: int) -> CascadeColumn | None:
        """Return the cascade that stands in a column; None if it is a mode."""
        return self.cascades[column - len(self.modes)] if column >= len(self.modes) else None

    def full_mode(self, mask: int, needed: float, requests: int) -> int:
        """Return the mode that a modality-agnostic server runs: all modalities that the job has.

        Where that one misses the accuracy sum that so many requests need, or is not profiled, the most
        accurate mode stands in; of several precisions the most accurate is meant.
        """
        if mask not in self._full:
            usable = [mode for mode in self.usable(mask) if int(self.masks[mode]) == mask]
            self._full[mask] = max(usable, key=self._by_accuracy, default=None)
        full = self._full[mask]
        if full is not None and self.accuracy[full] * requests >= needed - SHORTFALL:
            return full
        return max(self.usable(mask), key=self._by_accuracy)

    def frontier(self, bucket: int, mask: int, requests: int) -> Frontier:
        """Return the Pareto frontier of a job of this size, bucket and modalities (𝒫, §5.1)."""
        return self.covers.frontier(bucket, mask, requests)

    def point(self, frontier: Frontier, index: int) -> Strategy:
        """Return one point of one of its frontiers as a strategy."""
        found = self._points.get((frontier, index))
        if found is None:
            if len(self._points) >= MOST_KNOWN:
                self._points.clear()
            found = self._points[frontier, index] = point(frontier, index)
        return found

    def batches_ns(self, bucket: int, batches: Batches) -> tuple[int, ...]:
        """Return how long each of these batches takes in all but a few cases."""
        found = self._batches_ns.get((bucket, batches))
        if found is None:
            if len(self._batches_ns) >= MOST_KNOWN:
                self._batches_ns.clear()
            found = tuple(int(self.safe_ns[mode, bucket, size]) for mode, size in batches)
            self._batches_ns[bucket, batches] = found
        return found

    def batch_sizes(self, mode: int, bucket: int) -> Ints:
        """Return the batch sizes that `mode` can run at, ascending."""
        return np.flatnonzero(self.latency_ns[mode, bucket] < UNAVAILABLE)

    def single_mode(self, mode: int, bucket: int, requests: int) -> Strategy:
        """Return the fastest batches that run all requests in one mode."""
        key = (mode, bucket, requests)
        if key not in self._single:
            cost, last = cheapest_batches(self.latency_ns[mode, bucket], requests)
            batches, rest = [], requests
            while rest:
                batches.append((mode, int(last[rest])))
                rest -= batches[-1][1]
            accuracy = requests * float(self.accuracy[mode])
            self._single[key] = Strategy(tuple(batches), int(cost[requests]), accuracy)
        return self._single[key]

    def follow(self, estimator: Estimator, now_ns: int) -> bool:
        """Take over the estimator's corrections if they moved enough; whether they did."""
        if estimator.changes == self._changes:
            return False
        ratios = [estimator.ratio(self.model, mode) for mode in self.modes]
        far, by_ns = self._moved(ratios)
        overhead_ns = abs(estimator.overhead_ns - self._overhead_ns)
        if not far and overhead_ns <= REBUILD_OVERHEAD_NS:
            self._changes = estimator.changes
            return False
        is_far = (far > FAR and by_ns > FAR_LEAST_NS) or overhead_ns > FAR_LEAST_NS
        pause_ns = FAR_PAUSE_NS if is_far else PAUSE_NS
        if now_ns < self._followed_ns + pause_ns:
            return False
        self._changes, self._followed_ns = estimator.changes, now_ns
        self._ratios, self._overhead_ns = ratios, estimator.overhead_ns
        self._rebuild()
        return True

    def is_behind(self, estimator: Estimator) -> bool:
        """Whether there are corrections that were not looked at, or wait to be taken over."""
        return estimator.changes != self._changes

    def limit(self, mode: str, bucket: int, size: int) -> bool:
        """Let batches of `mode` be no larger than `size` in this bucket and those of longer requests.

        Returns whether any was allowed to be before. Batches of the smallest size stay.
        """
        index = self.modes.index(mode)
        least = int(np.flatnonzero(self._known[index, bucket])[0])
        above = self._known[index, bucket:, max(size, least) + 1 :]
        if not above.any():
            return False
        self._known[index, bucket:, max(size, least) + 1 :] = False
        self._rebuild()
        return True

    def expected_ns(self, mode: int, profiled_ns: int) -> int:
        """Return what is expected now of a batch that 𝒟 says this of."""
        return self.corrected_ns(self.modes[mode], round(self._pace * profiled_ns))

    def corrected_ns(self, mode: str, profiled_ns: int) -> int:
        """Return what is expected now of a batch of `mode`; `profiled_ns` has the workers' pace in it."""
        return int(np.rint(profiled_ns * self._ratios[self.modes.index(mode)])) + self._overhead_ns

    def resuming_ns(self, first: int, last: int, bucket: int, fresh: int, size: int) -> int | None:
        """Return what 𝒟 says of a batch of last stages, `fresh` of which run the first one before.

        None if it would take less to run it whole.
        """
        rows = self.resumed_ns.get((first, last))
        if rows is None:
            return None
        before_ns = int(self.profiled_ns[first, bucket, fresh]) if fresh else 0
        found = int(rows[bucket, size]) + before_ns
        return found if found < self.profiled_ns[last, bucket, size] else None

    def unit_ns(self, column: int, bucket: int) -> float:
        """Return a request's share of the column's best batch; at least 1."""
        cascade = self.cascade(column)
        sizes = self.batch_sizes(cascade.first if cascade else column, bucket)
        return max(1.0, float(np.min(self.shared_ns[column, bucket, sizes] / sizes)))

    def spared_ns(self, column: int, bucket: int) -> float:
        """Return how much less than planned a request takes in the mean, as features are kept; 0 for a mode."""
        cascade = self.cascade(column)
        rows = None if cascade is None else self.resumed_ns.get((cascade.first, cascade.last))
        if cascade is None or rows is None:
            return 0.0
        sizes = self.batch_sizes(cascade.last, bucket)
        whole_ns, rest_ns = (
            np.min(each[bucket, sizes] / sizes) for each in (self.profiled_ns[cascade.last], rows)
        )
        return cascade.escalated * self._pace * self._ratios[cascade.last] * max(0.0, float(whole_ns - rest_ns))

    def _moved(self, ratios: Sequence[float]) -> tuple[float, float]:
        """By what part, and ns of its slowest batch, ratios moved at most that moved enough; 0 if none did."""
        furthest = most_ns = 0.0
        for ratio, before, slowest_ns in zip(ratios, self._ratios, self._slowest_ns, strict=True):
            by = abs(ratio - before)
            if by > REBUILD_AT * before and by * slowest_ns > REBUILD_LEAST_NS:
                furthest, most_ns = max(furthest, by / before), max(most_ns, by * slowest_ns)
        return furthest, most_ns

    def _by_accuracy(self, mode: int) -> tuple[float, int]:
        return float(self.accuracy[mode]), -mode

    def _scaled(self) -> Ints:
        factors = self._pace * np.array(self._ratios)
        scaled = np.rint(self.profiled_ns * factors[:, None, None]) + self._overhead_ns
        latency_ns: Ints = np.where(self._known, scaled, UNAVAILABLE).astype(np.int64)
        return latency_ns

    def _rebuild(self) -> None:
        """Take latencies anew, and forget every strategy."""
        self.latency_ns = self._scaled()
        self._look_at_latencies()

    def _look_at_latencies(self) -> None:
        """Take over the latencies that are in force now."""
        self.shared_ns = shared_rows(self.latency_ns, self.cascades)
        self.safe_ns = safe_rows(self.latency_ns, self.cascades)
        self.covers = Covers(self.latency_ns, self.accuracy, self.usable, self.largest)
        self.wide = self.covers
        if self.cascades:
            self.wide = Covers(self.safe_ns, self.column_accuracy, self.usable_columns, self.largest)
        self._single: dict[tuple[int, int, int], Strategy] = {}
        self._points: dict[tuple[Frontier, int], Strategy] = {}
        self._batches_ns: dict[tuple[int, Batches], tuple[int, ...]] = {}


def point(frontier: Frontier, index: int) -> Strategy:
    """Return one point of a frontier as a strategy."""
    return Strategy(frontier.batches[index], int(frontier.latency_ns[index]), float(frontier.accuracy[index]))
