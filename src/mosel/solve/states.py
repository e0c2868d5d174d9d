"""The dynamic programme behind `solve/assign.py`: Pareto states (elapsed, value) after each job.

A state is left out where it cannot be part of an answer above the value searched for: over a job's budget, no
better than a faster one, or bounded too low by the priced relaxation of what is still to come. For each job
the line below which states were left out is kept, so that a later search over the same first jobs knows what
these states cover.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.solve.jit import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Columns = tuple[Ints, Ints, Floats, Ints]
"""Options as (offsets, latency, gain) and each job's budget; see `assign.Options`."""

TIE = 1e-9
"""Values that differ by less count as equal."""

ROUNDING = 1e-12
FIRST_CAPACITY = 4096
NEVER = 1 << 62
HEAD_START = 0.125
"""A search may be ahead of an even pace by this share of its work cap; beyond, it is given up early."""


class States:
    """The states of one search, job by job, each with its parent and option for the way back.

    Attributes:
        work: how many state × option pairs the last run looked at.
    """

    def __init__(self) -> None:
        self.work = 0
        self._done = 0
        self._columns: Columns | None = None
        self._starts = np.zeros(2, np.int64)
        self._floor, self._slope = np.empty(0), np.empty(0)
        self._table = _table(FIRST_CAPACITY)

    def take(self, columns: Columns, prices: Floats, most: float) -> tuple[int, float]:
        """Return for how many first jobs the states at hand can stay, and the value above which they are all.

        Args:
            columns: what is to be searched now.
            prices: the relaxation's, see `assign.py`.
            most: the greatest value above which a search is of use.
        """
        if self._columns is None or not self._done:
            return 0, 0.0
        same = min(_same(*self._columns, *columns), self._done)
        kept, floor = _covered(*columns, prices, self._floor, self._slope, same, most)
        return int(kept), float(floor)

    def run(
        self, columns: Columns, prices: Floats, target: float, start: int, work_cap: int
    ) -> tuple[Ints, float, bool]:
        """Return (choice, value, whether it finished) of the best answer above `target`, no choice if none is.

        Args:
            columns: what is to be searched.
            prices: the relaxation's.
            target: the value that is to be beaten.
            start: how many first jobs keep their states; what `take` returned, or 0.
            work_cap: how many pairs may be looked at.
        """
        jobs = len(columns[3])
        self._columns = columns
        self._starts, self._floor, self._slope = (
            _longer(column, size)
            for column, size in ((self._starts, jobs + 2), (self._floor, jobs), (self._slope, jobs))
        )
        kept = self._starts, self._floor, self._slope, self._table
        choice, value, finished, self._done, self.work, self._table = _search(
            *columns, prices, target, start, work_cap, *kept
        )
        return choice, value, finished


def _table(size: int) -> tuple[Ints, Floats, Ints, Ints]:
    """Room for states: elapsed, value, the state before, the option taken."""
    return np.empty(size, np.int64), np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)


def _longer(column: NDArray[Any], size: int) -> NDArray[Any]:
    return column if len(column) >= size else np.concatenate([column, np.zeros(size, column.dtype)])


@compiled
def _same(
    offsets: Any, latency: Any, gain: Any, budget: Any,
    new_offsets: Any, new_latency: Any, new_gain: Any, new_budget: Any,
) -> int:  # fmt: skip
    """How many first jobs have the same options and the same budget in both."""
    same = min(len(budget), len(new_budget))
    for job in range(same):
        if budget[job] != new_budget[job] or offsets[job + 1] != new_offsets[job + 1]:
            return job
        for index in range(offsets[job], offsets[job + 1]):
            if latency[index] != new_latency[index] or gain[index] != new_gain[index]:
                return job
    return same


@compiled
def _covered(
    offsets: Any, latency: Any, gain: Any, budget: Any, prices: Any,
    floor: Any, slope: Any, same: int, most: float,
) -> Any:  # fmt: skip
    """(first jobs whose states cover all above some value of at most `most`, that value).

    What was left out after a job lies below a line in (elapsed, value); the relaxation bounds what could have
    come of it, at whichever end of the line is worse.
    """
    ahead = _ahead(offsets, latency, gain, budget, prices)[1]
    covered, least, above = 0, np.int64(0), -np.inf
    for job in range(same):
        least += latency[offsets[job]]
        turn = slope[job] - prices[min(job + 1, len(prices) - 1)]
        above = max(above, floor[job] + ahead[job + 1] + max(turn * least, turn * budget[job]))
        if above > most:
            break
        covered, reached = job + 1, above
    return covered, reached if covered else 0.0


@compiled
def _ahead(offsets: Any, latency: Any, gain: Any, budget: Any, prices: Any) -> Any:
    """(what each option falls short of its job's best by, priced; the relaxation's value of jobs i and later).

    Work e before job i takes prices[i]·e off that value. Behind the last job its own price holds on: what is
    left of its budget counts, as it may for a job that comes later.
    """
    jobs = len(offsets) - 1
    short = np.empty(len(latency), np.float64)
    ahead = np.empty(jobs + 1, np.float64)
    ahead[jobs] = prices[jobs - 1] * budget[jobs - 1]
    for job in range(jobs - 1, -1, -1):
        low, high = offsets[job], offsets[job + 1]
        top = -np.inf
        for index in range(low, high):
            short[index] = gain[index] - prices[job] * latency[index]
            top = max(top, short[index])
        for index in range(low, high):
            short[index] = top - short[index]
        later = prices[min(job + 1, jobs - 1)]
        ahead[job] = ahead[job + 1] + top + (prices[job] - later) * budget[job]
    return short, ahead


@compiled
def _search(
    offsets: Any, latency: Any, gain: Any, budget: Any, prices: Any, target: float, start: int, work_cap: int,
    starts: Any, floor: Any, slope: Any, table: Any,
) -> Any:  # fmt: skip
    """(choice, value, whether it finished, jobs whose states are complete, work, table).

    States after job i stand at starts[i + 1]..starts[i + 2], ascending in elapsed and in value; before all
    jobs there is one.
    """
    jobs = len(budget)
    nothing = np.empty(0, np.int64)
    short, ahead = _ahead(offsets, latency, gain, budget, prices)
    usable = np.empty(len(latency), np.int64)
    if start == 0:
        table[0][0], table[1][0] = 0, 0.0
        starts[0], starts[1] = 0, 1
    work = 0
    for job in range(start, jobs):
        options = 0
        for index in range(offsets[job], offsets[job + 1]):
            if ahead[0] - short[index] > target + TIE:
                usable[options] = index
                options += 1
        first, last = starts[job], starts[job + 1]
        work += (last - first) * options
        if work > work_cap * min(1.0, HEAD_START + (job + 1) / jobs):
            return nothing, 0.0, False, job, work, table
        if last + (last - first) * options > len(table[0]):
            table = _grown(table, last + (last - first) * options)
        slope[job] = prices[min(job + 1, jobs - 1)]
        floor[job] = target + TIE - ahead[job + 1]
        line = floor[job], slope[job]
        starts[job + 2] = _extend(table, first, last, latency, gain, usable[:options], budget[job], line)
        if starts[job + 2] == last:
            return nothing, 0.0, True, job + 1, work, table
    state = starts[jobs + 1] - 1
    value = table[1][state]
    if value <= target + TIE:
        return nothing, 0.0, True, jobs, work, table
    choice = np.empty(jobs, np.int64)
    for job in range(jobs - 1, -1, -1):
        choice[job] = table[3][state] - offsets[job]
        state = table[2][state]
    return choice, value, True, jobs, work, table


@compiled
def _extend(
    table: Any, first: int, last: int, latency: Any, gain: Any, usable: Any, budget: int, line: Any
) -> int:
    """Write the states after one more job behind `last`, from those at first..last; returns where they end.

    States are ascending, so each option's sums are too: the options are merged, soonest first.
    """
    elapsed, value, parent, option = table
    floor, slope = line
    options = len(usable)
    heads = np.full(options, first, np.int64)
    sums = np.empty(options, np.int64)
    for at in range(options):
        sums[at] = elapsed[first] + latency[usable[at]] if first < last else NEVER
    filled = last
    while True:
        chosen, soonest = -1, budget + 1
        for at in range(options):
            if sums[at] < soonest:
                chosen, soonest = at, sums[at]
        if chosen < 0:
            return filled
        state, index = heads[chosen], usable[chosen]
        heads[chosen] = state + 1
        sums[chosen] = elapsed[state + 1] + latency[index] if state + 1 < last else NEVER
        worth = value[state] + gain[index]
        if worth - slope * soonest <= floor:
            continue
        if filled > last:
            if worth <= value[filled - 1] + ROUNDING:
                continue
            if elapsed[filled - 1] == soonest:
                filled -= 1
        elapsed[filled], value[filled], parent[filled], option[filled] = soonest, worth, state, index
        filled += 1


@compiled
def _grown(table: Any, size: int) -> Any:
    """The table with room for `size` states, and as many again."""
    more = 2 * size - len(table[0])
    return (
        np.append(table[0], np.empty(more, np.int64)),
        np.append(table[1], np.empty(more, np.float64)),
        np.append(table[2], np.empty(more, np.int64)),
        np.append(table[3], np.empty(more, np.int64)),
    )
