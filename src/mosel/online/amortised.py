"""What jobs cost where batches are shared: every job's options, in requests per class instead of batches.

A class is one mode, or cascade, of one model in one length bucket. A request's unit cost is its share of the
class's best batch; a job's options are the Pareto frontier of accuracy against the sum of unit costs, whole
requests only (the same mathematics as §5.1, with batches of one request). `solve/joint.py` reads the arrays.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.online.growing import Growing
from mosel.online.jobs import LiveJob
from mosel.online.tables import ModelTable
from mosel.online.unsure import Held
from mosel.solve.cover import Frontier, cheapest_batches, frontiers
from mosel.solve.escalation import cover_ns
from mosel.solve.joint import Classes, Menu
from mosel.solve.large import WHOLE, LargeJobs, Mixes
from mosel.solve.reaching import cheapest_reaching

STEPS = 16
"""Among how many numbers of escalations a large job can choose."""

COVERED = 512
"""Up to how many requests of a class the cost of holding them in batches is tabled exactly."""


class Amortised:
    """Classes and options of all models of one scheduler, as flat arrays that grow as job sizes appear.

    Attributes:
        cascades: whether any model has cascades.
    """

    def __init__(self, tables: Iterable[ModelTable]) -> None:
        self._tables = tuple(tables)
        self.cascades = any(bool(table.cascades) for table in self._tables)
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
                self._owners += [(table, column, bucket) for column in range(len(table.column_accuracy))]
        self.classes = _classes(self._owners)
        self._spared = [table.spared_ns(column, bucket) for table, column, bucket in self._owners]
        self._frontiers: dict[tuple[str, int, int, int, bool], Frontier] = {}
        self._ranges: dict[tuple[str, int, int, int], tuple[int, int]] = {}
        self._again: dict[tuple[str, int, tuple[str, ...]], tuple[int, int]] = {}
        self._work, self._accuracy = Growing(np.int64), Growing(np.float64)
        self._first, self._kinds, self._requests = Growing(np.int64), Growing(np.int64), Growing(np.int64)
        self._first.extend([0])
        self._menu: Menu | None = None
        self._covers: dict[tuple[str, int, int, bool], list[Frontier]] = {}
        self._large: dict[tuple[str, int, int, bool], LargeJobs] = {}

    @property
    def menu(self) -> Menu:
        """All options that were asked for so far."""
        if self._menu is None:
            columns = (self._work, self._accuracy, self._first, self._kinds, self._requests)
            self._menu = Menu(*[column.values for column in columns])
        return self._menu

    def work_ns(self, option: int) -> int:
        """Return how much work an option is."""
        found: int = self._work.at(option)
        return found

    def lone(self, option: int) -> int | None:
        """Return the class of an option that is one request of one class; None if it is more."""
        begin = self._first.at(option)
        if self._first.at(option + 1) - begin != 1 or self._requests.at(begin) != 1:
            return None
        kind: int = self._kinds.at(begin)
        return kind

    def owner(self, kind: int) -> tuple[ModelTable, int, int]:
        """Return the table, column and bucket of a class."""
        return self._owners[kind]

    def options_of(self, live: LiveJob) -> tuple[int, int]:
        """Return the range of the options of what a job has in line, those that reach what is needed."""
        if live.escalates:
            return self._escalations(live)
        return self.reach(live.table, live.bucket, live.mask, len(live.waiting), live.needed)

    def reach(self, table: ModelTable, bucket: int, mask: int, requests: int, needed: float) -> tuple[int, int]:
        """Return the range of a job's options that reach what is needed, cheapest first.

        The range is empty if none does.
        """
        key = (table.model, bucket, mask, requests)
        if key not in self._ranges:
            self._ranges[key] = self._append(self._frontier(table, bucket, mask, requests), table, bucket)
        low, high = self._ranges[key]
        return low + cheapest_reaching(self._frontiers[*key, True], needed), high

    def full_ns(self, live: LiveJob) -> float:
        """Return how much work a job is at its most accurate.

        With cascades it is half-way between theirs and that of single modes: half of what they save goes to
        accuracy (`policies/joint.py`), the rest stays free for bursts.
        """
        high = live.shared[1]
        wide_ns = self.work_ns(high - 1)
        if not live.table.cascades or live.escalates:
            return wide_ns
        single = self._frontier(live.table, live.bucket, live.mask, len(live.waiting), wide=False)
        return (wide_ns + float(single.latency_ns[-1])) / 2

    def saved_ns(self, live: LiveJob) -> int:
        """Return how much less work a job's cheapest option is than the cheapest in single modes.

        Of a job that holds answers it is all that escalating takes: in the mean over requests, that was in the
        plan when their first stage was sent.
        """
        low, high = live.shared
        if not live.table.cascades or low == high:
            return 0
        if live.escalates:
            return int(self._work.values[high - 1] - self._work.values[low])
        single = self._frontier(live.table, live.bucket, live.mask, len(live.waiting), wide=False)
        at = cheapest_reaching(single, live.needed)
        if at == len(single):
            return 0
        return max(0, int(single.latency_ns[at] - self._work.values[low] + self._spared_ns(low)))

    def _spared_ns(self, option: int) -> float:
        """How much less work an option should turn out to be, as features of first stages are kept."""
        begin, end = self._first.values[option], self._first.values[option + 1]
        kinds, counts = self._kinds.values[begin:end], self._requests.values[begin:end]
        return float(sum(self._spared[kind] * count for kind, count in zip(kinds, counts, strict=True)))

    def _frontier(
        self, table: ModelTable, bucket: int, mask: int, requests: int, *, wide: bool = True
    ) -> Frontier:
        """The options of so many requests; over cascades too, if `wide`."""
        key = (table.model, bucket, mask, requests, wide)
        if key not in self._frontiers:
            small = requests <= _whole(table)
            self._frontiers[key] = (
                self._small(table, bucket, mask, requests, wide=wide)
                if small
                else self._large_jobs(table, bucket, mask, wide=wide).frontier(requests)
            )
        return self._frontiers[key]

    def _small(
        self, table: ModelTable, bucket: int, mask: int, requests: int, *, wide: bool = True
    ) -> Frontier:
        """The options of a small job, found for all sizes of these at once."""
        key, usable = (table.model, bucket, mask, wide), _usable(table, mask, wide=wide)
        if key not in self._covers:
            single = self._single_ns(table, bucket, usable)
            self._covers[key] = frontiers(single, table.column_accuracy[usable], _whole(table))
        found = self._covers[key][requests]
        if len(usable) == len(table.column_accuracy):
            return found
        batches = tuple(tuple((usable[mode], size) for mode, size in point) for point in found.batches)
        return Frontier(found.accuracy, found.latency_ns, batches)

    def _large_jobs(self, table: ModelTable, bucket: int, mask: int, *, wide: bool) -> LargeJobs:
        key = (table.model, bucket, mask, wide)
        if key not in self._large:
            sizes = range(_whole(table) + 1)
            small = [self._frontier(table, bucket, mask, size, wide=wide) for size in sizes]
            usable = _usable(table, mask, wide=wide)
            single = self._single_ns(table, bucket, usable)
            self._large[key] = LargeJobs(single, table.column_accuracy[usable], small, usable)
        return self._large[key]

    def _single_ns(self, table: ModelTable, bucket: int, modes: list[int]) -> NDArray[np.int64]:
        """What a request costs in each mode, as batches of one."""
        unit = self.classes.unit_ns[self._base[table.model, bucket] + np.array(modes, np.int64)]
        return np.stack([np.zeros(len(modes), np.int64), np.ceil(unit).astype(np.int64)], axis=1)

    def _escalations(self, live: LiveJob) -> tuple[int, int]:
        """Options to let 0.. unsure requests run once more; each is taken to gain the mean of its cascade."""
        held = [live.progress.unsure[request] for request in live.waiting]
        held.sort(key=lambda one: one.cascade)
        steps = _steps(len(held))
        key = (live.table.model, live.bucket, tuple(one.cascade for one in held))
        if key not in self._again:
            self._again[key] = self._append_again(live, held, steps)
        low, high = self._again[key]
        return low + int(np.searchsorted(steps, live.first)), high

    def _append_again(self, live: LiveJob, held: Sequence[Held], steps: Sequence[int]) -> tuple[int, int]:
        table, base = live.table, self._base[live.table.model, live.bucket]
        worth = {cascade.name: cascade.worth for cascade in table.cascades}
        lasts = [base + table.modes.index(one.last) for one in held]
        options = [
            (Counter(lasts[:count]), sum(worth.get(one.cascade, 0.0) for one in held[:count]))
            for count in steps
        ]
        return self._extend(
            (counts, int(sum(self.classes.unit_ns[kind] * count for kind, count in counts.items())), gain)
            for counts, gain in options
        )

    def _append(self, frontier: Frontier, table: ModelTable, bucket: int) -> tuple[int, int]:
        base = self._base[table.model, bucket]
        return self._extend(
            (
                {base + column: requests for column, requests in counts.items()},
                int(frontier.latency_ns[point]),
                float(frontier.accuracy[point]),
            )
            for point, counts in enumerate(_counts(frontier))
        )

    def _extend(self, options: Iterable[tuple[Mapping[int, int], int, float]]) -> tuple[int, int]:
        """Add options of (requests by class, work, accuracy) to the menu; returns where they stand."""
        low, pairs = len(self._work), len(self._kinds)
        found, self._menu = list(options), None
        self._work.extend([work_ns for _, work_ns, _ in found])
        self._accuracy.extend([accuracy for _, _, accuracy in found])
        self._first.extend(list(accumulate((len(counts) for counts, _, _ in found), initial=pairs))[1:])
        self._kinds.extend([kind for counts, _, _ in found for kind in counts])
        self._requests.extend([count for counts, _, _ in found for count in counts.values()])
        return low, len(self._work)


def _whole(table: ModelTable) -> int:
    """Up to how many requests a job is a small one."""
    return min(table.largest, WHOLE)


def _usable(table: ModelTable, mask: int, *, wide: bool) -> list[int]:
    return table.usable_columns(mask) if wide else table.usable(mask)


def _steps(most: int) -> list[int]:
    """How many of so many requests may be escalated: any number, or of many a few numbers."""
    return (
        list(range(most + 1))
        if most <= STEPS
        else sorted({round(most * at / STEPS) for at in range(STEPS + 1)})
    )


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
    for kind, (table, column, bucket) in enumerate(owners):
        costs = np.ascontiguousarray(table.shared_ns[column, bucket])
        latency[kind, : len(costs)] = costs
        cover[kind] = _cover(table, column, bucket)
        unit[kind] = table.unit_ns(column, bucket)
    return Classes(latency, cover, unit)


def _cover(table: ModelTable, column: int, bucket: int) -> NDArray[np.int64]:
    """What 0.. requests cost; of a cascade in the mean, both stages."""
    cascade = table.cascade(column)
    if cascade is None:
        return cheapest_batches(np.ascontiguousarray(table.shared_ns[column, bucket]), COVERED)[0]
    first_ns, last_ns = (table.latency_ns[mode, bucket] for mode in (cascade.first, cascade.last))
    return cover_ns(first_ns, last_ns, cascade.escalated, COVERED)
