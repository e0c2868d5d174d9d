"""One simulated workload under one policy, and what is kept of it: the unit that experiments are made of.

A trial is plain data and its outcome a function of it and of the profile, so that outcomes can be kept between
runs and computed in other processes. Wall times are no part of an outcome.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from mosel.core.states import State
from mosel.core.tables import Mode, Profile
from mosel.core.types import Job
from mosel.evaluation import curves
from mosel.evaluation.arrivals import Recipe, full_latency_s, generate, job_sizes
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.results import JobResult, Run, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import Action, Complete, Event, Scheduling
from mosel.online.scheduler import Scheduler

MOST_VIOLATIONS = 0.10
"""The violation ratio up to which a rate counts as carried."""
STEPS, LEAST_LOAD, MOST_LOAD = 7, 0.1, 25.0


class Trial(msgspec.Struct, frozen=True):
    """A workload, the policy that serves it, and how what is believed differs from what is.

    Attributes:
        policy: its name.
        recipe: of the workload.
        believed: what the scheduler takes latencies for, as a multiple of what they are.
        precision: only modes of this precision are used; empty for all.
        other: a second tenant's workload, served together with the first.
        bound: whether the clairvoyant bound is wanted.
        job_requests: requests of every job, instead of the paper's sizes; 0 for those.
        modalities: how many of the profile's modalities jobs may use, the last ones left out; 0 for all.
        series: requests of each second, for a recipe of the kind `trace`.
        cascades: whether the profile's cascades are used.
    """

    policy: str
    recipe: Recipe
    believed: float = 1.0
    precision: str = ""
    other: Recipe | None = None
    bound: bool = False
    job_requests: int = 0
    modalities: int = 0
    series: tuple[int, ...] = ()
    cascades: bool = True


class Outcome(msgspec.Struct, frozen=True):
    """What is kept of a trial; shares are of requests, `windows` are the paper's 4 seconds (Fig. 5).

    `accuracies` counts the jobs served on time by their accuracy; `tenants` holds on-time shares.
    """

    requests: int
    on_time: float
    violation_ratio: float
    throughput_rps: float
    accuracy: float | None
    effective_accuracy: float
    jct_mean_s: float | None
    jct_p99_s: float | None
    windows_rps: tuple[float, ...]
    windows_violations: tuple[float, ...]
    accuracies: tuple[tuple[float, int], ...]
    tenants: tuple[tuple[str, float], ...] = ()
    bound: float | None = None


class Search(msgspec.Struct, frozen=True):
    """The highest rate of Poisson arrivals at which a policy keeps violations at `MOST_VIOLATIONS` or less."""

    policy: str
    duration_s: float
    seed: int
    precision: str = ""


class Carried(msgspec.Struct, frozen=True):
    """What `Search` found, in requests per second; 0 where no rate from `LEAST_LOAD` on is carried."""

    rate_rps: float


def run_trial(trial: Trial, profile: Profile) -> Outcome:
    """Simulate one trial; the same one gives the same outcome."""
    set_up = _set_up(trial, profile)
    done = simulate(set_up.scheduler, set_up.world, set_up.jobs, set_up.conditions)
    found = summarise(Run(trial.policy, 1, trial.recipe.seed, done.jobs, done.batches))
    edges = curves.edges_s(trial.recipe.duration_s, curves.WINDOW_S)
    ratios = curves.violation_ratios(done.jobs, edges)
    return Outcome(
        requests=found.requests,
        on_time=found.on_time,
        violation_ratio=found.violation_ratio,
        throughput_rps=found.throughput_rps,
        accuracy=found.accuracy,
        effective_accuracy=found.effective_accuracy,
        jct_mean_s=found.jct_s.mean,
        jct_p99_s=found.jct_s.p99,
        windows_rps=tuple(curves.on_time_rps(done.jobs, edges).tolist()),
        windows_violations=tuple(ratios[~np.isnan(ratios)].tolist()),
        accuracies=_counted(done.jobs),
        tenants=_by_tenant(done.jobs),
        bound=clairvoyant_bound(set_up.world, set_up.jobs) if trial.bound else None,
    )


def run_search(search: Search, profile: Profile) -> Carried:
    """Halve the range of rates, on a logarithmic scale, `STEPS` times."""
    capacity = paper_capacity_rps(profile)
    low, high = LEAST_LOAD, MOST_LOAD
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        recipe = Recipe("poisson", search.duration_s, search.seed, rate_rps=middle * capacity)
        trial = Trial(search.policy, recipe, precision=search.precision)
        low, high = (middle, high) if is_carried(trial, profile) else (low, middle)
    return Carried(low * capacity if low > LEAST_LOAD else 0.0)


def is_carried(trial: Trial, profile: Profile) -> bool:
    """Return whether violations stay at `MOST_VIOLATIONS` or less; where they do not, the run ends there."""
    set_up = _set_up(trial, profile)
    watched = _Watched(set_up.scheduler, sum(job.requests for job in set_up.jobs.jobs))
    try:
        simulate(watched, set_up.world, set_up.jobs, set_up.conditions)
    except _TooManyError:
        return False
    return True


def paper_capacity_rps(profile: Profile) -> float:
    """Return how many requests a second the full mode processes in jobs of the paper's sizes, back to back.

    The paper's greatest rates are twice this (§7.1). A worker runs one job after another, each in batches.
    """
    sizes, _ = job_sizes(np.full(200, 100), np.random.default_rng(0))
    kept = np.unique(sizes, return_counts=True)
    taken_s = sum(
        int(count) * full_latency_s(profile, int(size)) for size, count in zip(kept[0], kept[1], strict=True)
    )
    return float(sizes.sum()) / taken_s


def at_precision(profile: Profile, precision: str) -> Profile:
    """Return the profile with its modes of one precision; empty for all."""
    if not precision:
        return profile
    modes = tuple(mode for mode in profile.modes if profile.precision_of(mode) == precision)
    return _of_modes(profile, modes)


def slower(profile: Profile, factor: float) -> Profile:
    """Return the profile with all latencies times a factor."""
    if factor == 1:
        return profile
    return msgspec.structs.replace(
        profile,
        modes=tuple(
            msgspec.structs.replace(
                mode,
                latency_s=_times(mode.latency_s, factor),
                latency_p99_s=_times(mode.latency_p99_s, factor),
            )
            for mode in profile.modes
        ),
    )


@dataclass(frozen=True, slots=True)
class _SetUp:
    """What is simulated."""

    scheduler: Scheduler
    world: dict[str, Profile]
    jobs: Workload
    conditions: Conditions


def _set_up(trial: Trial, profile: Profile) -> _SetUp:
    given = profile if trial.cascades else msgspec.structs.replace(profile, cascades=())
    actual = _with_modalities(at_precision(given, trial.precision), trial.modalities)
    believed = {actual.model: slower(actual, trial.believed)}
    scheduler = Scheduler(believed, policy=trial.policy, seed=trial.recipe.seed)
    conditions = Conditions(seed=trial.recipe.seed)
    return _SetUp(scheduler, {actual.model: actual}, _workload(trial, actual), conditions)


class _TooManyError(Exception):
    """More requests were violated than a rate that is carried may have."""


class _Watched:
    """A scheduler that is stopped once `MOST_VIOLATIONS` of so many requests are exceeded."""

    def __init__(self, scheduler: Scheduling, requests: int) -> None:
        self._scheduler = scheduler
        self._requests, self._violated = requests, 0

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Pass on what happened and what is to be done.

        Raises:
            _TooManyError: there is no need to go on.
        """
        actions = self._scheduler.handle(events, now_ns)
        for action in actions:
            if isinstance(action, Complete) and action.receipt.outcome is not State.SERVED:
                self._violated += action.receipt.job.requests
        if self._violated / self._requests > MOST_VIOLATIONS:
            raise _TooManyError
        return actions


def _workload(trial: Trial, profile: Profile) -> Workload:
    series = np.array(trial.series, dtype=np.int64) if trial.series else None
    made = generate(trial.recipe, profile, series)
    if trial.job_requests:
        made = _resized(made, trial.job_requests)
    if trial.other is None:
        return made
    both = [("first", made), ("second", generate(trial.other, profile))]
    jobs = [
        msgspec.structs.replace(job, id=f"{tenant}-{job.id}", tenant=tenant)
        for tenant, workload in both
        for job in workload.jobs
    ]
    return Workload(tuple(sorted(jobs, key=lambda job: job.arrival_ns)), ("tenant",))


def _resized(made: Workload, requests: int) -> Workload:
    """Return jobs of one size each, at the times and with the SLOs of as many of those that were made."""
    wanted = max(1, made.requests // requests)
    picks = np.linspace(0, len(made.jobs) - 1, wanted).astype(int).tolist()
    jobs: list[Job] = [
        msgspec.structs.replace(made.jobs[pick], id=f"r{number}", requests=requests)
        for number, pick in enumerate(picks)
    ]
    return Workload(tuple(jobs))


def _with_modalities(profile: Profile, count: int) -> Profile:
    """Return the profile with the modes that need no more than the first `count` modalities."""
    if not count:
        return profile
    kept = profile.modalities[:count]
    modes = tuple(mode for mode in profile.modes if set(mode.modalities) <= set(kept))
    return msgspec.structs.replace(_of_modes(profile, modes), modalities=kept, preprocess_s=None)


def _of_modes(profile: Profile, modes: tuple[Mode, ...]) -> Profile:
    """Return the profile with these modes, and with the cascades that need no other."""
    left = msgspec.structs.replace(profile, modes=modes, cascades=())
    cascades = [each for each in profile.cascades if set(each.stages) <= set(left.mode_names)]
    return msgspec.structs.replace(left, cascades=type(profile.cascades)(cascades))


def _times(values: object, factor: float) -> object:
    if isinstance(values, list | tuple):
        return tuple(_times(value, factor) for value in values)
    assert isinstance(values, int | float)
    return values * factor


def _counted(jobs: list[JobResult]) -> tuple[tuple[float, int], ...]:
    counts = Counter(round(row.accuracy or 0.0, 4) for row in jobs if row.outcome is State.SERVED)
    return tuple(sorted(counts.items()))


def _by_tenant(jobs: list[JobResult]) -> tuple[tuple[str, float], ...]:
    total, served = Counter[str](), Counter[str]()
    for row in jobs:
        total[row.job.tenant] += row.job.requests
        if row.outcome is State.SERVED:
            served[row.job.tenant] += row.job.requests
    return tuple((name, served[name] / total[name]) for name in sorted(total) if name)
