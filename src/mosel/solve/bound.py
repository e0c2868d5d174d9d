"""The clairvoyant bound: which share of every job a fluid, preemptive machine that knows all arrivals serves.

Job j brings work w_j that may be done between its arrival and its deadline, by a machine of speed 1 that may
split it at will; a share x_j of the job counts x_j · worth_j. The linear programme

    maximise Σ worth_j x_j   subject to   0 ≤ x_j ≤ 1,   Σ_{j inside [a, d]} w_j x_j ≤ d − a  for all a < d

has a row for each of jobs² windows (they are what Hall's condition asks of a fluid schedule), but needs no
solver. The amounts y_j = w_j x_j that fit form a polymatroid, so it is exact to give jobs as much as fits, one
after the other, densest (worth per work) first. And all of them can be given theirs at once, by halving:

1. Run the denser half by earliest deadline. Each deadline at which work is lost ends a *tight* window: busy
   with jobs inside it, all the time. Let U be the union of these windows. No schedule of this half does more:
   what lies inside U fills U, and what does not is done entirely.
2. So outside U the denser half is served wholly, and of the other half nothing inside U is served.
3. What is left are two problems that share neither time nor undecided jobs: the denser half inside U, and the
   other half outside it, beside what is already certain there. Both are laid out on one time line, for step 1.

Each round halves what is undecided and no time is lost or won: n jobs take log₂ n runs, O(n log² n), exact,
since times and work are whole numbers. What a job's work is, and which device does it, is not known here.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.solve.jit import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def served_shares(
    arrival: Ints,
    deadline: Ints,
    work: Ints,
    worth: Floats,
    told: Callable[[float], None] | None = None,
) -> Floats:
    """Return the share x_j of every job in a best fluid schedule, of shape (jobs,).

    Args:
        arrival: of shape (jobs,), from 0, in units of which the machine does one unit of work each.
        deadline: of shape (jobs,); below 2⁶¹. A job whose deadline is not after its arrival has no time at all.
        work: of shape (jobs,), ≥ 0; a job without work is served.
        worth: of shape (jobs,), ≥ 0, what all of the job counts.
        told: called after each round with the share of all rounds that are done.
    """
    share = np.where(work == 0, 1.0, 0.0)
    densest_first = np.argsort(-worth / np.maximum(work, 1), kind="stable")
    jobs = densest_first[(work > 0)[densest_first] & (deadline > arrival)[densest_first]]
    problem = _Problems(
        jobs, arrival[jobs], deadline[jobs], np.zeros(len(jobs), np.int64), np.zeros(len(jobs), bool)
    )
    rounds = max(len(jobs) - 1, 0).bit_length() + 1
    done = 0
    while len(problem.jobs):
        problem = _halved(problem, work, share)
        done += 1
        if told:
            told(done / rounds)
    return share


@dataclass(frozen=True, slots=True)
class _Problems:
    """Independent problems on one time line, their jobs densest first within each.

    Attributes:
        jobs: of shape (rows,), indices of the caller's jobs.
        arrival: of shape (rows,), on this time line.
        deadline: of shape (rows,), on this time line.
        group: of shape (rows,), which problem: 0, 1, …, ascending, in the order of their times.
        certain: of shape (rows,), whether the job is known to be served wholly.
    """

    jobs: Ints
    arrival: Ints
    deadline: Ints
    group: Ints
    certain: Flags


def _halved(given: _Problems, work: Ints, share: Floats) -> _Problems:
    """Carry out one round for all problems; what it decides is written into `share`."""
    count = np.bincount(given.group[~given.certain], minlength=given.group[-1] + 1)
    denser = given.certain | (_position(given) < (count[given.group] + 1) // 2)
    lost, tight = _earliest_deadline_first(given, denser, work)
    inside = tight.holds(given.arrival, given.deadline)
    open_ = ~given.certain
    single = count[given.group] == 1
    last = open_ & single
    asked = work[given.jobs]
    share[given.jobs[last]] = (asked[last] - lost[given.group[last]]) / asked[last]
    whole = open_ & denser & ~inside & ~single
    share[given.jobs[whole]] = 1.0
    undecided = open_ & ~single & (denser == inside)
    return _laid_out(given, tight, inside, denser, undecided)


def _position(given: _Problems) -> Ints:
    """Return how many undecided jobs of its problem are denser than this one."""
    before: Ints = np.cumsum(~given.certain) - ~given.certain
    first = np.searchsorted(given.group, np.arange(given.group[-1] + 1))
    found: Ints = before - before[first][given.group]
    return found


@dataclass(frozen=True, slots=True)
class _Tight:
    """Disjoint intervals of time, ascending; `covered` is how much of it lies before each, and in all."""

    start: Ints
    end: Ints
    covered: Ints

    def holds(self, arrival: Ints, deadline: Ints) -> Flags:
        """Return which windows lie inside one of the intervals."""
        if not len(self.start):
            return np.zeros(len(arrival), bool)
        at = np.searchsorted(self.start, arrival, side="right") - 1
        found: Flags = (at >= 0) & (deadline <= self.end[at])
        return found

    def before(self, time: Ints) -> Ints:
        """Return how much of the intervals lies before each time."""
        if not len(self.start):
            return np.zeros(len(time), np.int64)
        at = np.searchsorted(self.start, time, side="right") - 1
        within = np.minimum(time, self.end[at]) - self.start[at]
        found: Ints = np.where(at >= 0, self.covered[at] + within, 0)
        return found


def _earliest_deadline_first(given: _Problems, chosen: Flags, work: Ints) -> tuple[Ints, _Tight]:
    """Run the chosen jobs; return the work lost in each problem, and the tight intervals."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(given.arrival[rows], kind="stable")]
    left, start, end = _run(given.arrival[rows], given.deadline[rows], work[given.jobs[rows]])
    lost = np.zeros(given.group[-1] + 1, np.int64)
    np.add.at(lost, given.group[rows], left)
    covered = np.zeros(len(start) + 1, np.int64)
    np.cumsum(end - start, out=covered[1:])
    return lost, _Tight(start, end, covered)


def _laid_out(given: _Problems, tight: _Tight, inside: Flags, denser: Flags, undecided: Flags) -> _Problems:
    """Lay the time inside the intervals before the time outside, one gap between problems.

    Problems stay in order, and those without undecided jobs are left out.
    """
    groups = int(given.group[-1]) + 1
    group = given.group + np.where(inside, 0, groups)
    alive = np.zeros(2 * groups, bool)
    alive[group[undecided]] = True
    keep = alive[group] & (denser | undecided)
    outside_from = int(tight.covered[-1]) + groups
    times = []
    for time in (given.arrival, given.deadline):
        before = tight.before(time)
        times.append(np.where(inside, before, outside_from + time - before) + given.group)
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(group[rows], kind="stable")]
    numbers = np.cumsum(alive) - 1
    return _Problems(given.jobs[rows], times[0][rows], times[1][rows], numbers[group[rows]], ~undecided[rows])


@compiled
def _run(arrival: Any, deadline: Any, work: Any) -> Any:
    """Run jobs by earliest deadline; return the work each lost, and the tight intervals' starts and ends.

    Jobs come in order of arrival. The past is kept as a stack of busy stretches, each with the latest deadline
    that it ran. A loss at a deadline makes one tight stretch of all that adjoin it and ran nothing due later.
    """
    jobs = len(arrival)
    left = work.copy()
    start = np.empty(4 * jobs + 1, np.int64)
    end = np.empty(4 * jobs + 1, np.int64)
    latest = np.empty(4 * jobs + 1, np.int64)
    tight = np.zeros(4 * jobs + 1, np.bool_)
    top = 0
    now = np.int64(0)
    come = 0
    waiting = [(np.int64(0), np.int64(0)) for _ in range(0)]
    while come < jobs or len(waiting) > 0:
        if len(waiting) == 0:
            now = max(now, arrival[come])
        while come < jobs and arrival[come] <= now:
            heapq.heappush(waiting, (deadline[come], np.int64(come)))
            come += 1
        due, job = waiting[0]
        if due <= now:
            heapq.heappop(waiting)
            begin = now
            while top > 0 and end[top - 1] == begin and latest[top - 1] <= due:
                begin = start[top - 1]
                top -= 1
            start[top], end[top], latest[top], tight[top] = begin, now, due, True
            top += 1
            continue
        until = min(now + left[job], due)
        if come < jobs:
            until = min(until, arrival[come])
        left[job] -= until - now
        start[top], end[top], latest[top], tight[top] = now, until, due, False
        top += 1
        now = until
        if left[job] == 0:
            heapq.heappop(waiting)
    found = np.flatnonzero(tight[:top])
    return left, start[found], end[found]
