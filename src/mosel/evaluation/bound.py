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
6. Where workers are of several kinds, each way to weigh their times gives a bound: work is charged where it
   weighs least. A search tries some weights and keeps the lowest bound.

`solve/bound.py` finds the largest share under these rules, exactly. No policy, seed or cleverness exceeds it;
how much of it is out of reach, because batches are no fluid and the future is not known, it cannot say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.evaluation.charges import Alike, Kinds, alike
from mosel.evaluation.simulate import Conditions
from mosel.evaluation.workload import Workload
from mosel.solve.bound import served_shares

FINEST = 1 << 10
"""Into how many units a nanosecond is divided, where the workload is short enough."""
LARGEST_TIME = 1 << 58
STEPS = (4.0, 2.0, 2**0.5, 2**0.25, 2**0.125)
"""By how much the search changes a kind's weight, coarse steps first."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Told = Callable[[float], None]
Crew = Sequence[Mapping[str, Profile]]


def clairvoyant_bound(
    profiles: Mapping[str, Profile],
    workload: Workload,
    conditions: Conditions | None = None,
    told: Told | None = None,
    crew: Crew = (),
) -> float:
    """Return the share of requests that a clairvoyant schedule could at most serve on time; 1 without jobs.

    Args:
        profiles: of every model, by name; of all workers, unless there is a crew.
        workload: the jobs.
        conditions: of the simulated world: workers, outages and scaled latencies count; one worker by default.
        told: called with the share of the work that is done.
        crew: the profiles of each worker, one mapping a worker.

    Raises:
        UsageError: latencies are noisy, the workload spans more time than can be counted, or profiles are
            missing or differ in what they are of.
    """
    conditions = conditions or Conditions()
    if conditions.noise_cv or conditions.pace:
        raise UsageError(
            "latencies with noise have no bound that holds for sure; leave out the noise or the bound"
        )
    if crew and len(crew) != conditions.workers:
        raise UsageError(f"profiles of {len(crew)} workers; expected those of {conditions.workers}")
    if not workload.jobs:
        return 1.0
    crew = crew or [profiles] * conditions.workers
    missing = sorted({job.model for job in workload.jobs} - {model for each in crew for model in each})
    if missing:
        raise UsageError(f"no worker has a profile of model {missing[0]!r}; give one")
    problem = _Problem.of(crew, workload.jobs, conditions)
    return problem.share(problem.equal, told) if len(problem.counts) == 1 else _lowest(problem, told)


def _lowest(problem: "_Problem", told: Told | None) -> float:
    """Search the weights of the kinds of workers, one after the other, for the lowest bound."""
    weights = problem.by_speed()
    best = problem.share(weights)
    trials = [(step, kind) for step in STEPS for kind in range(1, len(weights))]
    for done, (step, kind) in enumerate(trials):
        for factor in (step, 1 / step):
            trial = weights.copy()
            trial[kind] *= factor
            if (found := problem.share(trial)) < best:
                best, weights = found, trial
                break
        if told:
            told((done + 1) / len(trials))
    return best


@dataclass(frozen=True, slots=True)
class _Problem:
    """A workload on workers of some kinds.

    Attributes:
        requests: of shape (jobs,).
        arrival_ns: of shape (jobs,).
        deadline_ns: of shape (jobs,); put at the time by which all could be done at leisure, where it is later.
        groups: what the jobs cost.
        counts: of shape (kinds,), how many workers there are of each.
        outages: of every kind, those of its workers, as (from, to) in nanoseconds.
        fineness: into how many units a nanosecond of the weightiest kind is divided.
    """

    requests: Ints
    arrival_ns: Ints
    deadline_ns: Ints
    groups: list[Alike]
    counts: Ints
    outages: list[list[tuple[int, int]]]
    fineness: int

    @classmethod
    def of(cls, crew: Crew, jobs: Sequence[Job], conditions: Conditions) -> "_Problem":
        kinds, kind_of = _kinds(crew)
        groups = alike(kinds, jobs, conditions)
        requests = np.array([job.requests for job in jobs], np.int64)
        last_ns = max(job.deadline_ns for job in jobs)
        quiet_ns = max([*(job.arrival_ns for job in jobs), *(outage.to_ns for outage in conditions.outages)])
        leisure_ns = int(requests.sum()) * max((each.longest_ns for each in groups), default=0) + 1
        horizon_ns = max(min(last_ns, quiet_ns + leisure_ns), quiet_ns)
        fineness = min(FINEST, LARGEST_TIME // max(horizon_ns * len(crew), 1))
        if not fineness:
            raise UsageError("the workload spans more time than can be counted in nanoseconds; split it")
        outages: list[list[tuple[int, int]]] = [[] for _ in kinds]
        for outage in conditions.outages:
            outages[kind_of[outage.worker]].append((outage.from_ns, outage.to_ns))
        return cls(
            requests,
            np.array([job.arrival_ns for job in jobs], np.int64),
            np.array([min(job.deadline_ns, horizon_ns) for job in jobs], np.int64),
            groups,
            np.bincount(kind_of).astype(np.int64),
            outages,
            fineness,
        )

    @property
    def equal(self) -> Floats:
        """Weights with which all kinds count the same."""
        return np.ones(len(self.counts))

    def by_speed(self) -> Floats:
        """Return weights with which a kind counts as much as it is faster, in the mean over batches."""
        ratios = [each.speeds() for each in self.groups]
        return np.exp(np.mean(ratios, axis=0)) if ratios else self.equal

    def share(self, weights: Floats, told: Told | None = None) -> float:
        """Return the bound under these weights, of shape (kinds,); only their ratios matter."""
        whole = np.maximum(np.rint(weights / weights.max() * self.fineness), 1).astype(np.int64)
        start, end = self._time(self.arrival_ns, whole), self._time(self.deadline_ns, whole)
        work = np.full(len(self.requests), np.inf)
        for each in self.groups:
            work[each.rows] = each.work(whole, (end - start)[each.rows])
        able = np.flatnonzero(np.isfinite(work))
        least = np.floor(work[able]).astype(np.int64)
        served = served_shares(start[able], end[able], least, self.requests[able].astype(float), told)
        return min(float(np.dot(served, self.requests[able]) / self.requests.sum()), 1.0)

    def _time(self, at_ns: Ints, weights: Ints) -> Ints:
        """Return the weighed time that all workers together have been up for, of shape (times,)."""
        found = at_ns * int(np.dot(self.counts, weights))
        for weight, outages in zip(weights, self.outages, strict=True):
            for from_ns, to_ns in outages:
                found -= (np.clip(at_ns, from_ns, to_ns) - from_ns) * weight
        return found


def _kinds(crew: Crew) -> tuple[Kinds, list[int]]:
    """Return the different sets of profiles, and which of them each worker has."""
    kinds: list[Mapping[str, Profile]] = []
    kind_of = []
    for each in crew:
        at = next((kind for kind, known in enumerate(kinds) if known is each or known == each), len(kinds))
        if at == len(kinds):
            kinds.append(each)
        kind_of.append(at)
    return kinds, kind_of
