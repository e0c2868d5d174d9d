"""The clairvoyant bound of a workload: the share of requests that no schedule whatever could exceed on time.

What every schedule has to obey is kept, all else is given for free:

1. A job that is served runs all of its requests between its arrival and its deadline, each in a batch that
   takes what the profile says; none of these batches takes longer than the job's latency SLO.
2. A request in a batch of b is charged one b-th of the batch's latency. So it costs at least the least of these
   charges in its mode, over the batch sizes that rule 1 allows. Batches are shared between jobs at will.
3. The modes of a job's requests meet its accuracy SLO. The cheapest whole-number mix that does is its work.
4. Charges never exceed the time of the workers that are up; so in every window of time the work of the jobs
   inside it does not either. Beyond that work is a fluid: split, interrupted and moved between workers at will.
5. A job that even alone, in real batches, needs more than the workers' time inside its window is not served.

`solve/bound.py` finds the largest share under these rules, exactly. No policy, seed or cleverness exceeds it;
how much of it is out of reach, because batches are no fluid and the future is not known, it cannot say.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job
from mosel.evaluation.simulate import Conditions
from mosel.evaluation.workload import Workload
from mosel.online.tables import ModelTable
from mosel.solve.bound import served_shares
from mosel.solve.cover import cheapest_batches, frontiers
from mosel.solve.mix import WHOLE_UP_TO, least_costs

FINEST = 1 << 10
"""Into how many units a nanosecond is divided, where the workload is short enough."""
LARGEST_TIME = 1 << 60
TOO_LONG = "the workload spans more time than can be counted in nanoseconds; split it"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Told = Callable[[float], None]


def clairvoyant_bound(
    profiles: Mapping[str, Profile],
    workload: Workload,
    conditions: Conditions | None = None,
    told: Told | None = None,
) -> float:
    """Return the share of requests that a clairvoyant schedule could at most serve on time; 1 without jobs.

    Args:
        profiles: of every model, by name.
        workload: the jobs.
        conditions: of the simulated world: workers, outages and scaled latencies count; one worker by default.
        told: called with the share of the work that is done.

    Raises:
        UsageError: latencies are noisy, or the workload spans more time than can be counted.
    """
    requests = np.array([job.requests for job in workload.jobs], np.int64)
    if not len(requests):
        return 1.0
    share = shares_served(profiles, workload.jobs, conditions or Conditions(), told)
    return min(float(np.dot(share, requests) / requests.sum()), 1.0)


def shares_served(
    profiles: Mapping[str, Profile],
    jobs: Sequence[Job],
    conditions: Conditions,
    told: Told | None = None,
) -> Floats:
    """Return which share of each job a best fluid schedule serves, of shape (jobs,).

    See `clairvoyant_bound`.
    """
    if conditions.noise_cv:
        raise UsageError(
            "latencies with noise have no bound that holds for sure; leave out the noise or the bound"
        )
    arrival_ns = np.array([job.arrival_ns for job in jobs], np.int64)
    deadline_ns = np.array([job.deadline_ns for job in jobs], np.int64)
    if int(arrival_ns.max()) * conditions.workers >= LARGEST_TIME // 2:
        raise UsageError(TOO_LONG)
    deadline_ns = np.minimum(deadline_ns, LARGEST_TIME // conditions.workers)
    time_ns = _time_inside(arrival_ns, deadline_ns, conditions)
    work_ns = np.full(len(jobs), np.inf)
    for model, rows in _rows_by_model(jobs).items():
        costs = _Costs(ModelTable(profiles[model]), conditions)
        work_ns[rows] = costs.work_ns([jobs[row] for row in rows], time_ns[rows])
    possible = np.flatnonzero(work_ns <= time_ns)
    window = _Window.of(arrival_ns[possible], deadline_ns[possible], work_ns[possible], conditions)
    worth = np.array([job.requests for job in jobs], np.float64)[possible]
    found = np.zeros(len(jobs))
    found[possible] = served_shares(window.arrival, window.deadline, window.work, worth, told)
    return found


def _rows_by_model(jobs: Sequence[Job]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, job in enumerate(jobs):
        found[job.model].append(row)
    return found


def _workers_time(time_ns: Ints, conditions: Conditions) -> Ints:
    """Return the time that all workers together have been up for, of shape (times,)."""
    found = time_ns * conditions.workers
    for outage in conditions.outages:
        found -= np.clip(time_ns, outage.from_ns, outage.to_ns) - outage.from_ns
    return found


def _time_inside(arrival_ns: Ints, deadline_ns: Ints, conditions: Conditions) -> Ints:
    return _workers_time(deadline_ns, conditions) - _workers_time(arrival_ns, conditions)


@dataclass(frozen=True, slots=True)
class _Window:
    """Windows in the workers' time, and work, both in whole units of a nanosecond or less."""

    arrival: Ints
    deadline: Ints
    work: Ints

    @classmethod
    def of(cls, arrival_ns: Ints, deadline_ns: Ints, work_ns: Floats, conditions: Conditions) -> "_Window":
        """Round work down. A deadline after the time by which all could be done at leisure is put there."""
        quiet_ns = max([int(arrival_ns.max(initial=0)), *(outage.to_ns for outage in conditions.outages)])
        enough_ns = quiet_ns + int(np.ceil(work_ns.sum())) + 1
        deadline_ns = np.minimum(deadline_ns, enough_ns)
        fineness = FINEST
        while fineness * enough_ns * conditions.workers >= LARGEST_TIME:
            fineness //= 2
        if not fineness:
            raise UsageError(TOO_LONG)
        start = _workers_time(arrival_ns, conditions) * fineness
        end = _workers_time(deadline_ns, conditions) * fineness
        return cls(start, end, np.floor(work_ns * fineness).astype(np.int64))


class _Costs:
    """What the jobs of one model cost at least."""

    def __init__(self, table: ModelTable, conditions: Conditions) -> None:
        self._table = table
        scale = [conditions.scale * conditions.mode_scale.get(mode, 1.0) for mode in table.modes]
        known = table.profiled_ns < UNAVAILABLE
        scaled = np.rint(table.profiled_ns * np.array(scale)[:, None, None])
        self._latency_ns = np.where(known, scaled, UNAVAILABLE).astype(np.int64)

    def work_ns(self, jobs: Sequence[Job], time_ns: Ints) -> Floats:
        """Return each job's least work, infinite where it cannot be served, of shape (jobs,)."""
        found = np.full(len(jobs), np.inf)
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            if (bucket := self._bucket(job)) is not None:
                alike[bucket, self._table.mask_of(job.modalities)].append(row)
        for (bucket, mask), rows in alike.items():
            usable = self._table.usable(mask)
            if usable:
                latency_ns, accuracy = self._latency_ns[usable, bucket], self._table.accuracy[usable]
                asked = _Asked.of([jobs[row] for row in rows], time_ns[rows])
                possible = _possible(latency_ns, accuracy, asked)
                found[rows] = np.where(possible, _amortised_ns(latency_ns, accuracy, asked), np.inf)
        return found

    def _bucket(self, job: Job) -> int | None:
        try:
            return self._table.bucket_of(job.length)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What jobs ask for; `time_ns` is what the workers have inside the window, all of shape (jobs,)."""

    requests: Ints
    accuracy: Floats
    slo_ns: Ints
    time_ns: Ints

    @classmethod
    def of(cls, jobs: Sequence[Job], time_ns: Ints) -> "_Asked":
        """Allow twice the tolerance of the accuracy, so that no rounding makes a job cost too much."""
        accuracy = np.array([job.accuracy_slo for job in jobs]) - 2 * ACCURACY_TOLERANCE
        slo_ns = np.array([job.deadline_ns - job.arrival_ns for job in jobs], np.int64)
        return cls(np.array([job.requests for job in jobs], np.int64), accuracy, slo_ns, time_ns)


def _amortised_ns(latency_ns: Ints, accuracy: Floats, asked: _Asked) -> Floats:
    """Return the least work of each job (rules 1 to 3); `latency_ns` is of shape (modes, sizes + 1)."""
    ends = np.unique(latency_ns[latency_ns < UNAVAILABLE])
    known = np.searchsorted(ends, asked.slo_ns, side="right")
    levels, level = np.unique(known, return_inverse=True)
    units = np.array([_units(latency_ns, ends[at - 1] if at else -1) for at in levels])
    kinds, kind = np.unique(units, axis=0, return_inverse=True)
    kind = kind.ravel()[level]
    found = np.full(len(asked.requests), np.inf)
    for index, unit in enumerate(kinds):
        own = np.flatnonzero(kind == index)
        found[own] = least_costs(unit, accuracy, asked.requests[own], asked.accuracy[own])
    return found


def _units(latency_ns: Ints, most_ns: int) -> Floats:
    """Return the least cost of a request in each mode, over the batches that take at most so long."""
    size = np.arange(1, latency_ns.shape[1])
    fits = latency_ns[:, 1:] <= most_ns
    found: Floats = np.where(fits, latency_ns[:, 1:] / size, np.inf).min(axis=1)
    return found


def _possible(latency_ns: Ints, accuracy: Floats, asked: _Asked) -> Flags:
    """Whether each job, alone and in real batches, fits into the time inside its window (rule 5).

    A request may ride in a batch larger than its job; where that is quicker, it counts as the job's own.
    """
    least_ns = np.minimum.accumulate(latency_ns[:, :0:-1], axis=1)[:, ::-1]
    least_ns = np.concatenate([latency_ns[:, :1], least_ns], axis=1)
    most = int(asked.requests.max())
    found = asked.requests > WHOLE_UP_TO
    for row, reached in zip(least_ns, accuracy, strict=True):
        alone_ns = cheapest_batches(np.ascontiguousarray(row), min(most, WHOLE_UP_TO))[0]
        own_ns = alone_ns[np.minimum(asked.requests, WHOLE_UP_TO)]
        found |= (reached >= asked.accuracy) & (own_ns <= asked.time_ns)
    unsure = np.flatnonzero(~found)
    if len(unsure):
        points = frontiers(least_ns, accuracy, int(asked.requests[unsure].max()))
        for row in unsure:
            size = int(asked.requests[row])
            at = int(np.searchsorted(points[size].accuracy, asked.accuracy[row] * size))
            latency = np.append(points[size].latency_ns, UNAVAILABLE)
            found[row] = latency[at] <= asked.time_ns[row]
    return found
