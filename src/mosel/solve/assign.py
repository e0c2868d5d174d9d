"""Online strategies, §5.2: one strategy for each queued job, maximising Σ acc(s)·|j| under every deadline.

Jobs stand in the order in which they run. Job i has options (latency, gain), ascending in both, and all work
up to and including job i has to fit into budget i. With one budget this is the paper's multiple-choice
knapsack; with a budget per job it also keeps every job before the violator on time.

`greedy` climbs each job's concave hull by gain per nanosecond, in time close to linear, and returns the value
of that relaxation as an upper bound. `exact` is a dynamic programme over Pareto states (`solve/states.py`),
pruned by that bound. `best` searches within a work cap and falls back to the greedy answer, so every answer
knows its own gap. A `Search` keeps its states: jobs that stay where they were are not gone through again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.solve.jit import compiled
from mosel.solve.states import TIE, Columns, States

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WORK_CAP = 100_000
"""How many state × option pairs `best` looks at before it settles for the greedy answer: 2 to 5 ms."""

LONG = 250
"""Queues of more jobs get proportionally fewer pairs: the longer they are, the nearer is greedy to the best."""

FIRST_TRY = 2_000
"""How many pairs are spent on the whole gap at once; most short queues need no more."""

SHARES = (0.05, 0.15, 0.4, 1.0)
"""The shares of the greedy answer's gap that are searched, one after the other, until one holds the best."""

NO_LIMIT = 1 << 60

REUSED_SHARE = 0.02
"""States are taken over as long as they cover all but this share of the gap."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of all jobs, flat: those of job i stand at offsets[i]..offsets[i + 1], ascending."""

    offsets: Ints
    latency_ns: Ints
    gain: Floats

    @classmethod
    def of(cls, jobs: Sequence[tuple[Ints, Floats]]) -> "Options":
        """Build from one (latency_ns, gain) pair of arrays per job."""
        offsets = np.zeros(len(jobs) + 1, np.int64)
        np.cumsum([len(latency) for latency, _ in jobs], out=offsets[1:])
        if not jobs:
            return cls(offsets, np.empty(0, np.int64), np.empty(0))
        latency, gain = (np.concatenate(part) for part in zip(*jobs, strict=True))
        return cls(offsets, latency.astype(np.int64), gain.astype(np.float64))

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return len(self.offsets) - 1

    def first(self, jobs: int) -> "Options":
        """Return those of so many first jobs."""
        end = self.offsets[jobs]
        return Options(self.offsets[: jobs + 1], self.latency_ns[:end], self.gain[:end])

    def pick(self, jobs: Ints) -> "Options":
        """Return those of these jobs, in this order; one may come up several times."""
        counts = np.diff(self.offsets)[jobs]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[jobs] - offsets[:-1], counts)
        return Options(offsets, self.latency_ns[index], self.gain[index])

    def only(self, kept: NDArray[np.bool_]) -> "Options":
        """Return those that are kept, of shape (options,); each job has to keep one."""
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Options(offsets, self.latency_ns[kept], self.gain[kept])


@dataclass(frozen=True, slots=True)
class Assignment:
    """A choice for each job: an index into its own options, the value attained, and a bound on any value."""

    choice: Ints
    gain: float
    upper_bound: float

    @property
    def gap(self) -> float:
        """By how much, relative to the bound, the value may fall short of the best; 0 when it is exact."""
        return 0.0 if self.upper_bound <= 0 else max(0.0, 1 - self.gain / self.upper_bound)


class Search:
    """The exact search, with the states of the last one kept for the next.

    States of the jobs before the first that differs (in its options or its budget) are taken over as far as
    they cover what could now be best: a job that arrives late in deadline order leaves those before it alone.

    Attributes:
        reused: for how many jobs the last answer took over states that it had.
        proven: whether the last answer is known to be the best.
    """

    def __init__(self) -> None:
        self.reused = 0
        self.proven = True
        self._states = States()

    def best(self, options: Options, budget_ns: Ints, work_cap: int = WORK_CAP) -> Assignment | None:
        """Return the best assignment if it is found within `work_cap`, else the greedy one with its bound.

        Args:
            options: each job's options, jobs in running order.
            budget_ns: of shape (jobs,): what all work up to and including each job has to fit into.
            work_cap: see `WORK_CAP` and `LONG`.

        Returns:
            None if not even the cheapest option of every job fits.
        """
        self.reused, self.proven = 0, True
        if not options.jobs:
            return Assignment(np.empty(0, np.int64), 0.0, 0.0)
        columns = options.offsets, options.latency_ns, options.gain, tight(budget_ns)
        start, least, bound, prices = _greedy(*columns)
        if len(start) == 0:
            return None
        if bound - least <= TIE:
            return Assignment(start, float(least), float(least))
        near = Assignment(start, float(least), float(bound))
        return self._search(columns, prices, near, work_cap * LONG // max(LONG, options.jobs))

    def _search(self, columns: Columns, prices: Floats, near: Assignment, work_cap: int) -> Assignment:
        """Look for what is better than the greedy answer, in ever larger shares of its gap."""
        states, gap = self._states, near.upper_bound - near.gain
        kept, floor = states.take(columns, prices, near.upper_bound - REUSED_SHARE * gap)
        tries = [(near.gain, 0, FIRST_TRY)]
        tries += [(max(near.upper_bound - share * gap, near.gain), 0, NO_LIMIT) for share in SHARES]
        if kept:
            tries.insert(0, (max(floor, near.gain), kept, NO_LIMIT))
        bound = near.upper_bound
        for target, start, limit in tries:
            if target >= bound:  # it is known that nothing is above
                continue
            choice, gain, finished = states.run(columns, prices, target, start, min(limit, work_cap))
            work_cap -= states.work
            if finished and len(choice):
                self.reused = start
                return Assignment(choice, float(gain), float(gain))
            if finished:
                bound = target
            elif limit > work_cap:  # a wider search would be longer still
                break
        self.proven = bound <= near.gain + TIE
        return Assignment(near.choice, near.gain, near.gain if self.proven else bound)


def best(options: Options, budget_ns: Ints, work_cap: int = WORK_CAP) -> Assignment | None:
    """Return what a `Search` that has seen nothing before finds; see `Search.best`."""
    return Search().best(options, budget_ns, work_cap)


def exact(options: Options, budget_ns: Ints, work_cap: int = NO_LIMIT) -> Assignment | None:
    """Return the best assignment, or None if there is none or the work cap was reached."""
    search = Search()
    found = search.best(options, budget_ns, work_cap)
    return found if search.proven else None


def greedy(options: Options, budget_ns: Ints) -> Assignment | None:
    """Return a near-best assignment with an upper bound, or None if nothing fits."""
    if not options.jobs:
        return Assignment(np.empty(0, np.int64), 0.0, 0.0)
    choice, gain, bound, _ = _greedy(options.offsets, options.latency_ns, options.gain, tight(budget_ns))
    return None if len(choice) == 0 else Assignment(choice, float(gain), float(bound))


def tight(budget_ns: Ints) -> Ints:
    """Return each budget as far as later ones allow: the least budget at or after each position."""
    return np.ascontiguousarray(np.minimum.accumulate(np.asarray(budget_ns, np.int64)[::-1])[::-1])


def keep_feasible(least_ns: Ints, budget_ns: Ints) -> NDArray[np.bool_]:
    """Return which jobs fit when each takes its least latency and, in order, what does not fit is left out.

    This is the paper's drop rule (§4.3): with every job before it as fast as it may be, a job that still
    misses its deadline is given up.
    """
    kept: NDArray[np.bool_] = _keep_feasible(np.asarray(least_ns, np.int64), np.asarray(budget_ns, np.int64))
    return kept


@compiled
def _keep_feasible(least: Any, budget: Any) -> Any:
    kept = np.zeros(len(least), np.bool_)
    elapsed = np.int64(0)
    for job in range(len(least)):
        if elapsed + least[job] <= budget[job]:
            elapsed += least[job]
            kept[job] = True
    return kept


@compiled
def _greedy(offsets: Any, latency: Any, gain: Any, budget: Any) -> Any:
    """Upgrades along each job's concave hull, the most gain per nanosecond first, where slack allows.

    Returns (choice, its value, the relaxation's value, prices): the relaxation may take a part of an upgrade,
    and its price at a job is the gain that a nanosecond of work there costs. All empty if nothing fits.
    """
    jobs = len(offsets) - 1
    first = offsets[:-1]
    slack = budget - np.cumsum(latency[first])
    if slack.min() < 0:
        return np.empty(0, np.int64), 0.0, 0.0, np.empty(0, np.float64)
    step_job, step_to, density = _hulls(offsets, latency, gain)
    order = np.argsort(-density, kind="mergesort")
    prices, bound = _relaxed(offsets, latency, gain, slack, step_job, step_to, density, order)
    least, added = _tree(slack)
    choice = np.zeros(jobs, np.int64)
    blocked = np.zeros(jobs, np.bool_)
    value = gain[first].sum()
    for index in order:
        job, to = step_job[index], step_to[index]
        if blocked[job]:
            continue
        # The choice may stand below the relaxed one; the step is measured from where it stands.
        at, there = first[job] + choice[job], first[job] + to
        if latency[there] - latency[at] <= _room(least, added, job):
            _spend(least, added, job, latency[there] - latency[at])
            value += gain[there] - gain[at]
            choice[job] = to
        else:
            blocked[job] = True
    value += _fill(offsets, latency, gain, least, added, choice)
    return choice, value, max(bound, value), prices


@compiled
def _hulls(offsets: Any, latency: Any, gain: Any) -> Any:
    """The upper concave hull of each job's options as steps: (job, option reached, gain per nanosecond)."""
    step_job = np.empty(len(latency), np.int64)
    step_to = np.empty(len(latency), np.int64)
    density = np.empty(len(latency), np.float64)
    count = 0
    for job in range(len(offsets) - 1):
        low, begin = offsets[job], count
        for to in range(low + 1, offsets[job + 1]):
            while True:
                at = low if count == begin else low + step_to[count - 1]
                rise = (gain[to] - gain[at]) / max(latency[to] - latency[at], np.int64(1))
                if count == begin or density[count - 1] > rise:
                    break
                count -= 1
            step_job[count], step_to[count], density[count] = job, to - low, rise
            count += 1
    return step_job[:count], step_to[:count], density[:count]


@compiled
def _relaxed(
    offsets: Any, latency: Any, gain: Any, slack: Any, step_job: Any, step_to: Any, density: Any, order: Any
) -> Any:
    """The relaxation's (prices, value): steps in `order`, in part where slack ends.

    It is the linear programme's optimum: slack with nested limits is a polymatroid, on which greedy is exact.
    """
    jobs = len(slack)
    least, added = _tree(slack)
    at = offsets[:-1].copy()
    prices = np.zeros(jobs, np.float64)
    value = gain[at].sum()
    full = 0  # jobs before this one have no slack left
    for index in order:
        while full < jobs and _room(least, added, full) <= 0:
            prices[full] = density[index]
            full += 1
        job = step_job[index]
        to = offsets[job] + step_to[index]
        worth, extra = gain[to] - gain[at[job]], latency[to] - latency[at[job]]
        at[job] = to
        if extra == 0:
            value += worth
        elif job >= full:
            share = min(extra, _room(least, added, job))
            value += worth * (share / extra)
            _spend(least, added, job, share)
            while full < jobs and _room(least, added, full) <= 0:
                prices[full] = density[index]
                full += 1
    return prices, value


@compiled
def _fill(offsets: Any, latency: Any, gain: Any, least: Any, added: Any, choice: Any) -> float:
    """Spend what is left on single better options, off the hull too, one job after the other."""
    value = 0.0
    for job in range(len(choice)):
        at, room = offsets[job] + choice[job], _room(least, added, job)
        for other in range(offsets[job + 1] - 1, at, -1):
            if latency[other] - latency[at] <= room:
                value += gain[other] - gain[at]
                _spend(least, added, job, latency[other] - latency[at])
                choice[job] = other - offsets[job]
                break
    return value


@compiled
def _tree(slack: Any) -> Any:
    """A segment tree of the least slack below each node, and what was added to all below it."""
    size = 1
    while size < len(slack):
        size *= 2
    least = np.full(2 * size, np.int64(1) << 61, np.int64)
    least[size : size + len(slack)] = slack
    for node in range(size - 1, 0, -1):
        least[node] = min(least[2 * node], least[2 * node + 1])
    return least, np.zeros(2 * size, np.int64)


@compiled
def _room(least: Any, added: Any, job: int) -> Any:
    """How much work may be added at `job`: the least slack of it and all later jobs."""
    node = job + len(least) // 2
    room = least[node]
    while node > 1:
        if node % 2 == 0:
            room = min(room, least[node + 1])
        node //= 2
        room += added[node]
    return room


@compiled
def _spend(least: Any, added: Any, job: int, amount: int) -> None:
    """Take `amount` of work at `job`: it and all later jobs lose that much slack."""
    node = job + len(least) // 2
    least[node] -= amount
    while node > 1:
        if node % 2 == 0:
            least[node + 1] -= amount
            added[node + 1] -= amount
        node //= 2
        least[node] = min(least[2 * node], least[2 * node + 1]) + added[node]
