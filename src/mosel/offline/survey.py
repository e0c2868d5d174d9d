"""Which cells are timed, and how often: every one, or those that smart sampling needs (`sampling.py`).

Repeats follow from what a cell takes: quick cells are timed more often, very slow ones less, and a cell whose
timings scatter is given more. Both ways of sampling repeat alike, so that they compare.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mosel.core.clock import NS_PER_MS, NS_PER_S
from mosel.offline.sampling import Search, coarse_grid, interpolate
from mosel.offline.settings import Cell, Column
from mosel.offline.timing import Bench

Tick = Callable[[Callable[[], float]], None]
"""Called after each run with a function that says how much device time is still to come, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often cells are timed.

    Attributes:
        repeats: of a cell that is neither quick nor slow.
        least: of any cell, unless `repeats` is less.
        slow_ns: a cell stops at this much device time once it has `least`.
        quick_ns: a cell goes on up to this much device time, or five times `repeats`.
        steady: the relative standard error of the median above which a cell that has not taken `steady_ns`
            gets half as many again.
    """

    repeats: int
    least: int = 5
    slow_ns: int = 2 * NS_PER_S
    quick_ns: int = 100 * NS_PER_MS
    steady: float = 0.01
    steady_ns: int = NS_PER_S

    def first(self) -> int:
        """Return how many timings a first look takes."""
        return max(min(self.least, self.repeats), round(self.repeats / 3))

    def full(self, took_ns: Sequence[int]) -> int:
        """Return how many timings a cell should have that has shown these."""
        median_ns = float(np.median(took_ns))
        slow, quick = self.slow_ns / median_ns, self.quick_ns / median_ns
        usual = max(min(self.repeats, slow), min(5 * self.repeats, quick))
        return max(min(self.least, self.repeats), round(usual))

    def extra(self, took_ns: Sequence[int]) -> int:
        """Return the same for a cell that has all of these, more where they scatter."""
        full = self.full(took_ns)
        more = spread(took_ns) > self.steady and sum(took_ns) < self.steady_ns
        return round(1.5 * full) if more else full


class Survey:
    """Times the cells of some columns on a bench.

    Columns that fail at batch 1 end up with no cells; those that fail at a larger one end below it.
    """

    def __init__(self, bench: Bench, columns: Collection[Column], effort: Effort, tick: Tick) -> None:
        self._bench, self._columns, self._effort = bench, columns, effort
        self._tick: Callable[[], None] = lambda: tick(self._left_ns)
        self._searches: dict[Column, Search] = {}
        self._grid: Callable[[int], Iterable[int]] = coarse_grid

    def every(self) -> None:
        """Time every batch size of every column."""
        self._grid = lambda largest: range(1, largest + 1)
        self._start_columns()
        self._finish()

    def smart(self) -> None:
        """Time the ends, a coarse grid, and what lies between where a held-out size shows that it must be."""
        self._start_columns()
        while checks := self._checks():
            for cell in checks:
                self._bench.probe(cell.column, (cell.size,))
            self._look({cell: ends for cell, ends in checks.items() if not self._is_stale(cell.column)})
            self._drop_failed()
            self._settle()
            self._start_columns()
        self._finish()

    def _start_columns(self) -> None:
        # A column starts (again) whenever its limit is not the end of its grid: at first, or after a failure.
        while changed := [column for column in self._columns if self._is_stale(column)]:
            for column in changed:
                self._bench.probe(column, self._grid(self._bench.limit(column)))
                self._tick()
            for column in changed:
                self._searches[column] = Search(tuple(self._grid(self._bench.limit(column))))
            self._drop_failed()
            self._fill(self._cells(changed), lambda _: self._effort.first())

    def _is_stale(self, column: Column) -> bool:
        limit = self._bench.limit(column)
        return bool(limit) and (column not in self._searches or max(self._searches[column].measured) != limit)

    def _drop_failed(self) -> None:
        for column in [column for column in self._searches if not self._bench.limit(column)]:
            del self._searches[column]

    def _checks(self) -> dict[Cell, tuple[int, int]]:
        return {
            Cell(column, size): interval
            for column, search in self._searches.items()
            for size, interval in search.checks().items()
        }

    def _look(self, checks: Mapping[Cell, tuple[int, int]]) -> None:
        # The ends of the interval are timed again beside the size between them: what drifts, drifts alike.
        ends = {Cell(cell.column, end) for cell, interval in checks.items() for end in interval}
        goal = {cell: len(self._bench.took_ns.get(cell, ())) + self._effort.first() for cell in ends}
        full = {cell: self._effort.full(self._bench.took_ns[cell]) for cell in ends}
        self._fill(
            [*checks, *ends],
            lambda cell: min(goal[cell], full[cell]) if cell in ends else self._effort.first(),
        )

    def _settle(self) -> None:
        for column, search in self._searches.items():
            if max(search.measured) <= self._bench.limit(column):
                sizes = search.measured | set(search.checks())
                cells = {size: Cell(column, size) for size in sizes}
                search.settle(
                    {size: self._bench.quiet_ns(cell) for size, cell in cells.items()},
                    {size: spread(self._bench.took_ns[cell]) for size, cell in cells.items()},
                )

    def _finish(self) -> None:
        goals: tuple[Callable[[Sequence[int]], int], ...] = (self._effort.full, self._effort.extra)
        for goal in goals:
            cells = [cell for cell in self._cells(self._searches) if self._is_knot(cell)]
            counts = {cell: goal(self._bench.took_ns[cell]) for cell in cells}
            self._fill(cells, counts.__getitem__)
            self._drop_failed()
            self._start_columns()

    def _is_knot(self, cell: Cell) -> bool:
        return cell.size not in self._searches[cell.column].confirmed and cell in self._bench.took_ns

    def _fill(self, cells: Sequence[Cell], count: Callable[[Cell], int]) -> None:
        self._bench.fill(cells, count, self._effort.repeats, self._tick)

    def _cells(self, columns: Iterable[Column]) -> list[Cell]:
        return [Cell(c, size) for c in columns if c in self._searches for size in self._searches[c].measured]

    def _left_ns(self) -> float:
        return sum(self._column_left_ns(column) for column in self._searches)

    def _column_left_ns(self, column: Column) -> float:
        search, took_ns = self._searches[column], self._bench.took_ns
        medians = {
            size: self._bench.median_ns(Cell(column, size))
            for size in search.measured
            if Cell(column, size) in took_ns
        }
        knots = [Cell(column, size) for size in medians if size not in search.confirmed]
        left_ns = sum(
            max(0, self._effort.full(took_ns[cell]) - len(took_ns[cell])) * medians[cell.size] for cell in knots
        )
        for size, (low, high) in search.checks().items():
            if low in medians and high in medians:
                have = len(took_ns.get(Cell(column, size), ()))
                left_ns += max(0, self._effort.first() - have) * interpolate(medians, size)
        return left_ns


def spread(took_ns: Sequence[int]) -> float:
    """Return the standard error of the median, relative to it, estimated from the quartiles."""
    if len(took_ns) < 2:
        return 0.0
    low, median, high = np.quantile(took_ns, [0.25, 0.5, 0.75])
    return float(1.2533 * (high - low) / 1.349 / np.sqrt(len(took_ns)) / median)
