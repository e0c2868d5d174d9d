"""Online strategies, §5.2: one strategy for each queued job, maximising Σ acc(s)·|j| under every deadline.

Jobs stand in the order in which they run. Job i has options (latency, gain), ascending in both, and all work
up to and including job i has to fit into budget i. With one budget this is the paper's multiple-choice
knapsack; with a budget per job it also keeps every job before the violator on time.

`exact` is a dynamic programme over Pareto states (elapsed, gain), pruned at each job's budget and by an upper
bound; `greedy` climbs each job's concave hull by gain per nanosecond, and also returns the value of that
relaxation as an upper bound. `best` runs the first within a work cap and falls back to the second, so every
answer knows its own gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TIE = 1e-9
"""Values that differ by less count as equal."""

WORK_CAP = 50_000
"""How many state × option pairs `best` looks at before it settles for the greedy answer."""


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


def best(options: Options, budget_ns: Ints, work_cap: int = WORK_CAP) -> Assignment | None:
    """Return the best assignment if it is found within `work_cap`, else the greedy one with its bound.

    Args:
        options: each job's options, jobs in running order.
        budget_ns: of shape (jobs,): what all work up to and including each job has to fit into.
        work_cap: see `WORK_CAP`.

    Returns:
        None if not even the cheapest option of every job fits.
    """
    return exact(options, budget_ns, work_cap) or greedy(options, budget_ns)


def exact(options: Options, budget_ns: Ints, work_cap: int = 1 << 62) -> Assignment | None:
    """Return the best assignment, or None if there is none or the work cap was reached."""
    if not options.jobs:
        return Assignment(np.empty(0, np.int64), 0.0, 0.0)
    columns = options.offsets, options.latency_ns, options.gain, tight(budget_ns)
    start, least, bound, prices = _greedy(*columns)
    if len(start) == 0:
        return None
    if bound - least <= TIE:
        return Assignment(start, float(least), float(least))
    choice, gain, finished = _exact(*columns, prices, least, work_cap)
    if not finished:
        return None
    if len(choice) == 0:  # no state could beat the greedy answer
        return Assignment(start, float(least), float(least))
    return Assignment(choice, float(gain), float(gain))


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


@njit(cache=True, nogil=True)
def _keep_feasible(least: Any, budget: Any) -> Any:
    kept = np.zeros(len(least), np.bool_)
    elapsed = np.int64(0)
    for job in range(len(least)):
        if elapsed + least[job] <= budget[job]:
            elapsed += least[job]
            kept[job] = True
    return kept


@njit(cache=True, nogil=True)
def _exact(offsets: Any, latency: Any, gain: Any, budget: Any, prices: Any, least: float, work_cap: int) -> Any:
    """Pareto states job by job; each state remembers its parent and option for the way back.

    `prices` are the relaxation's: what a nanosecond of work at each job costs in gain. A state from which even
    the priced relaxation of the jobs to come cannot beat `least` is left out.
    """
    jobs = len(offsets) - 1
    nothing = np.empty(0, np.int64)
    ahead = _ahead(offsets, latency, gain, budget, prices)
    starts = np.zeros(jobs + 2, np.int64)
    starts[1] = 1
    capacity = 1024
    elapsed = np.zeros(capacity, np.int64)
    value = np.zeros(capacity, np.float64)
    parent = np.zeros(capacity, np.int64)
    option = np.zeros(capacity, np.int64)
    filled = 1
    work = 0
    for job in range(jobs):
        low, high = offsets[job], offsets[job + 1]
        first, last = starts[job], starts[job + 1]
        work += (last - first) * (high - low)
        if work > work_cap:
            return nothing, 0.0, False
        price = prices[job + 1] if job + 1 < jobs else 0.0
        # A k-way merge over the options: states are ascending, so each option's sums are ascending too.
        heads = np.full(high - low, first, np.int64)
        begin = filled
        while True:
            chosen, soonest = -1, np.int64(0)
            for index in range(high - low):
                if heads[index] < last:
                    total = elapsed[heads[index]] + latency[low + index]
                    if total > budget[job]:
                        heads[index] = last
                    elif chosen < 0 or total < soonest:
                        chosen, soonest = index, total
            if chosen < 0:
                break
            state = heads[chosen]
            heads[chosen] += 1
            worth = value[state] + gain[low + chosen]
            if worth - price * soonest + ahead[job + 1] <= least + TIE:
                continue
            if filled > begin:
                if worth <= value[filled - 1] + 1e-12:
                    continue
                if elapsed[filled - 1] == soonest:
                    filled -= 1
            if filled == capacity:
                capacity *= 2
                elapsed = np.append(elapsed, np.empty_like(elapsed))
                value = np.append(value, np.empty_like(value))
                parent = np.append(parent, np.empty_like(parent))
                option = np.append(option, np.empty_like(option))
            elapsed[filled] = soonest
            value[filled] = worth
            parent[filled] = state
            option[filled] = chosen
            filled += 1
        starts[job + 2] = filled
        if filled == begin:
            return nothing, least, True
    choice = np.empty(jobs, np.int64)
    state = filled - 1
    total_gain = value[state]
    for job in range(jobs - 1, -1, -1):
        choice[job] = option[state]
        state = parent[state]
    return choice, total_gain, True


@njit(cache=True, nogil=True)
def _ahead(offsets: Any, latency: Any, gain: Any, budget: Any, prices: Any) -> Any:
    """For every i the priced relaxation of jobs i and later; work e before them takes prices[i]·e off it."""
    jobs = len(offsets) - 1
    ahead = np.zeros(jobs + 1, np.float64)
    for job in range(jobs - 1, -1, -1):
        top = -np.inf
        for index in range(offsets[job], offsets[job + 1]):
            top = max(top, gain[index] - prices[job] * latency[index])
        later = prices[job + 1] if job + 1 < jobs else 0.0
        ahead[job] = ahead[job + 1] + top + (prices[job] - later) * budget[job]
    return ahead


@njit(cache=True, nogil=True)
def _greedy(offsets: Any, latency: Any, gain: Any, budget: Any) -> Any:
    """Upgrades along each job's concave hull, the most gain per nanosecond first, where slack allows."""
    jobs = len(offsets) - 1
    choice = np.zeros(jobs, np.int64)
    slack = np.empty(jobs, np.int64)
    elapsed = np.int64(0)
    value = 0.0
    for job in range(jobs):
        elapsed += latency[offsets[job]]
        value += gain[offsets[job]]
        slack[job] = budget[job] - elapsed
        if slack[job] < 0:
            return np.empty(0, np.int64), 0.0, 0.0, np.empty(0, np.float64)
    for job in range(jobs - 2, -1, -1):
        slack[job] = min(slack[job], slack[job + 1])
    steps = len(latency)
    step_job = np.empty(steps, np.int64)
    step_to = np.empty(steps, np.int64)
    density = np.empty(steps, np.float64)
    count = 0
    for job in range(jobs):
        low, high = offsets[job], offsets[job + 1]
        at = low
        while at < high - 1:
            steepest, to = -1.0, at
            for other in range(at + 1, high):
                rise = (gain[other] - gain[at]) / max(latency[other] - latency[at], np.int64(1))
                if rise >= steepest:
                    steepest, to = rise, other
            step_job[count], step_to[count], density[count] = job, to - low, steepest
            count += 1
            at = to
    order = np.argsort(-density[:count], kind="mergesort")
    relaxed = slack.copy()
    bound = value
    blocked = np.zeros(jobs, np.bool_)
    prices = np.zeros(jobs, np.float64)
    full = 0
    while count and full < jobs and relaxed[full] <= 0:
        prices[full] = density[order[0]]
        full += 1
    at_choice = np.zeros(jobs, np.int64)
    for index in order:
        job, to = step_job[index], step_to[index]
        base = offsets[job]
        worth = gain[base + to] - gain[base + at_choice[job]]
        extra = latency[base + to] - latency[base + at_choice[job]]
        room = relaxed[job]
        share = min(extra, room)
        if share > 0:
            bound += worth * (share / extra)
            _spend(relaxed, job, share)
            while full < jobs and relaxed[full] <= 0:
                prices[full] = density[index]
                full += 1
        elif extra == 0:
            bound += worth
        at_choice[job] = to
        if blocked[job]:
            continue
        # The integral choice may stand below the relaxed one; measure the step from where it stands.
        need = latency[base + to] - latency[base + choice[job]]
        if need <= slack[job]:
            value += gain[base + to] - gain[base + choice[job]]
            _spend(slack, job, need)
            choice[job] = to
        else:
            blocked[job] = True
    value = _fill(offsets, latency, gain, slack, choice, value)
    return choice, value, max(bound, value), prices


@njit(cache=True, nogil=True)
def _spend(slack: Any, job: int, amount: int) -> None:
    """Take `amount` of work at `job`: it and all later jobs lose it, and earlier ones are held by the least."""
    for later in range(job, len(slack)):
        slack[later] -= amount
    held = slack[job]
    for earlier in range(job - 1, -1, -1):
        if slack[earlier] <= held:
            break
        slack[earlier] = held


@njit(cache=True, nogil=True)
def _fill(offsets: Any, latency: Any, gain: Any, slack: Any, choice: Any, value: float) -> float:
    """Spend what is left on single better options, off the hull too, one job after the other."""
    for job in range(len(choice)):
        base, high = offsets[job], offsets[job + 1]
        for other in range(high - 1, base + choice[job], -1):
            need = latency[other] - latency[base + choice[job]]
            if need <= slack[job]:
                value += gain[other] - gain[base + choice[job]]
                _spend(slack, job, need)
                choice[job] = other - base
                break
    return value
