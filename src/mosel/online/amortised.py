"""What jobs cost where batches are shared: every job's options, in requests per class instead of batches.

A class is one mode of one model in one length bucket. A request's unit cost is its share of the class's best
batch; a job's options are the Pareto frontier of accuracy against the sum of unit costs, whole requests only
(the same mathematics as §5.1, with batches of one request). `solve/joint.py` reads the arrays.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.online.tables import ModelTable
from mosel.solve.cover import Frontier, cheapest_batches, cheapest_reaching, frontiers
from mosel.solve.joint import Classes, Menu
from mosel.solve.large import LargeJobs, Mixes

COVERED = 512
"""Up to how many requests of a class the cost of holding them in batches is tabled exactly."""


class Amortised:
    """Classes and options of all models of one scheduler, as flat arrays that grow as job sizes appear."""

    def __init__(self, tables: Iterable[ModelTable]) -> None:
        self._tables = tuple(tables)
        self.rebuild()
        for table in self._tables:  # no job should wait until these are found
            for bucket in range(table.latency_ns.shape[1]):
                self._small(table, bucket, table.mask_of(()), 1)

    def rebuild(self) -> None:
        """Take over the tables' latencies as they are now; every range handed out before is void."""
        self._base: dict[tuple[str, int], int] = {}
        self._owners: list[tuple[ModelTable, int, int]] = []
        for table in self._tables:
            for bucket in range(table.latency_ns.shape[1]):
                self._base[table.model, bucket] = len(self._owners)
                self._owners += [(table, mode, bucket) for mode in range(len(table.modes))]
        self.classes = _classes(self._owners)
        self._frontiers: dict[tuple[str, int, int, int], Frontier] = {}
        self._ranges: dict[tuple[str, int, int, int], tuple[int, int]] = {}
        self._work: list[int] = []
        self._accuracy: list[float] = []
        self._first: list[int] = [0]
        self._pairs: list[tuple[int, int]] = []
        self._menu: Menu | None = None
        self._covers: dict[tuple[str, int, int], list[Frontier]] = {}
        self._large: dict[tuple[str, int, int], LargeJobs] = {}

    @property
    def menu(self) -> Menu:
        """All options that were asked for so far."""
        if self._menu is None:
            pairs = np.array(self._pairs, np.int64).reshape(-1, 2)
            self._menu = Menu(
                np.array(self._work, np.int64),
                np.array(self._accuracy, np.float64),
                np.array(self._first, np.int64),
                np.ascontiguousarray(pairs[:, 0]),
                np.ascontiguousarray(pairs[:, 1]),
            )
        return self._menu

    def owner(self, kind: int) -> tuple[ModelTable, int, int]:
        """Return the table, mode and bucket of a class."""
        return self._owners[kind]

    def reach(self, table: ModelTable, bucket: int, mask: int, requests: int, needed: float) -> tuple[int, int]:
        """Return the range of a job's options that reach what is needed, cheapest first.

        The range is empty if none does.
        """
        key = (table.model, bucket, mask, requests)
        if key not in self._ranges:
            self._ranges[key] = self._append(self._frontier(table, bucket, mask, requests), table, bucket)
        low, high = self._ranges[key]
        return low + cheapest_reaching(self._frontiers[key], needed), high

    def _frontier(self, table: ModelTable, bucket: int, mask: int, requests: int) -> Frontier:
        key = (table.model, bucket, mask, requests)
        if key not in self._frontiers:
            small = requests <= table.largest
            self._frontiers[key] = (
                self._small(table, bucket, mask, requests)
                if small
                else self._large_jobs(table, bucket, mask).frontier(requests)
            )
        return self._frontiers[key]

    def _small(self, table: ModelTable, bucket: int, mask: int, requests: int) -> Frontier:
        """The options of a job size up to the largest batch, found for all of these at once."""
        key, usable = (table.model, bucket, mask), table.usable(mask)
        if key not in self._covers:
            single = self._single_ns(table, bucket, usable)
            self._covers[key] = frontiers(single, table.accuracy[usable], table.largest)
        found = self._covers[key][requests]
        if len(usable) == len(table.modes):
            return found
        batches = tuple(tuple((usable[mode], size) for mode, size in point) for point in found.batches)
        return Frontier(found.accuracy, found.latency_ns, batches)

    def _large_jobs(self, table: ModelTable, bucket: int, mask: int) -> LargeJobs:
        key = (table.model, bucket, mask)
        if key not in self._large:
            small = [self._frontier(table, bucket, mask, size) for size in range(table.largest + 1)]
            usable = table.usable(mask)
            single = self._single_ns(table, bucket, usable)
            self._large[key] = LargeJobs(single, table.accuracy[usable], small, usable)
        return self._large[key]

    def _single_ns(self, table: ModelTable, bucket: int, modes: list[int]) -> NDArray[np.int64]:
        """What a request costs in each mode, as batches of one."""
        unit = self.classes.unit_ns[self._base[table.model, bucket] + np.array(modes, np.int64)]
        return np.stack([np.zeros(len(modes), np.int64), np.ceil(unit).astype(np.int64)], axis=1)

    def _append(self, frontier: Frontier, table: ModelTable, bucket: int) -> tuple[int, int]:
        base, low = self._base[table.model, bucket], len(self._work)
        for point, counts in enumerate(_counts(frontier)):
            self._pairs += [(base + mode, requests) for mode, requests in counts.items()]
            self._first.append(len(self._pairs))
            self._work.append(int(frontier.latency_ns[point]))
            self._accuracy.append(float(frontier.accuracy[point]))
        self._menu = None
        return low, len(self._work)


def _counts(frontier: Frontier) -> list[Counter[int]]:
    """How many requests run in each mode, per strategy."""
    if isinstance(frontier.batches, Mixes):
        return frontier.batches.counts()
    return [Counter(mode for mode, _ in batches) for batches in frontier.batches]  # batches of one


def _classes(owners: list[tuple[ModelTable, int, int]]) -> Classes:
    largest = max(table.largest for table, _, _ in owners)
    latency = np.full((len(owners), largest + 1), UNAVAILABLE, np.int64)
    cover = np.zeros((len(owners), COVERED + 1), np.int64)
    unit = np.zeros(len(owners), np.float64)
    for kind, (table, mode, bucket) in enumerate(owners):
        column = np.ascontiguousarray(table.latency_ns[mode, bucket])
        latency[kind, : len(column)] = column
        cover[kind] = cheapest_batches(column, COVERED)[0]
        unit[kind] = table.unit_ns(mode, bucket)
    return Classes(latency, cover, unit)
