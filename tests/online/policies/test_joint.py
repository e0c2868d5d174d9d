"""`joint` as a whole, in virtual time, on profiles shaped like the paper's models."""

import importlib
from collections.abc import Iterable

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.build import is_compiled
from mosel.core.states import State
from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.results import Run, summarise
from mosel.evaluation.simulate import Conditions, Simulated, simulate
from mosel.evaluation.workload import Workload
from mosel.online.policies import Options
from mosel.online.policies.base import BatchChoice, View
from mosel.online.scheduler import Scheduler
from mosel.solve.joint import Choice


def shaped(model: str, largest: int, fixed: float, modes: dict[str, tuple[float, float]]) -> Profile:
    """A profile whose batches of b take latency (milliseconds at 1) × (fixed + (1 − fixed) × b)."""
    found = []
    for name, (latency_ms, accuracy) in modes.items():
        latency_s = tuple(latency_ms / 1000 * (fixed + (1 - fixed) * size) for size in range(1, largest + 1))
        found.append(Mode(tuple(name.split("+")), accuracy, accuracy, 0, latency_s, latency_s, (0,) * largest))
    names = tuple(dict.fromkeys(name for mode in found for name in mode.modalities))
    sizes = tuple(range(1, largest + 1))
    device = Device("made up", "host")
    return Profile(PROFILE_FORMAT, model, names, "accuracy", sizes, tuple(found), device, "float32", {}, "")


STEEP = shaped("steep", 16, 0.4, {"audio": (4, 0.66), "video": (30, 0.70), "audio+video": (44, 0.754)})
FLAT = shaped("flat", 16, 0.25, {"text": (7, 0.45), "image": (14, 0.50), "text+image": (18, 0.62)})
SHAPES = (STEEP, FLAT)
DEAR = shaped("dear", 32, 0.3, {"audio": (30, 0.93), "video": (70, 0.65), "audio+video": (80, 0.96)})


def run(profile: Profile, jobs: Workload, policy: str = "joint", options: Options | None = None) -> Simulated:
    """A simulation on one worker."""
    tables = {profile.model: profile}
    return simulate(Scheduler(tables, policy=policy, options=options), tables, jobs, Conditions())


def bursty(profile: Profile, load: float, seed: int, duration_s: float = 12) -> Workload:
    """Bursty arrivals at a multiple of the full mode's capacity."""
    return generate(Recipe("bursty", duration_s, seed, rate_rps=load * capacity_rps(profile)), profile)


def on_time(done: Simulated, ids: Iterable[str] | None = None) -> float:
    """The share of requests on time, of some jobs or all."""
    asked = [job for job in done.jobs if ids is None or job.job.id in set(ids)]
    served = sum(job.job.requests for job in asked if job.outcome is State.SERVED)
    return served / sum(job.job.requests for job in asked)


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
@pytest.mark.parametrize("load", [0.2, 0.5])
def test_light_load_is_served_at_full_accuracy(profile: Profile, load: float) -> None:
    """At a fifth of capacity every job has the highest accuracy; at half the mean is within half a point."""
    done = run(profile, bursty(profile, load, 3))
    best = max(mode.accuracy for mode in profile.modes)
    short = [best - job.accuracy for job in done.jobs if job.accuracy is not None]
    assert len(short) == len(done.jobs)
    assert max(short) < 1e-9 if load == 0.2 else np.mean(short) < 0.005


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
@pytest.mark.parametrize("load", [1.5, 4.0])
def test_most_of_what_could_be_served_is(profile: Profile, load: float) -> None:
    """Under overload nine tenths of the bound are on time, at more effective accuracy than with `optimized`."""
    jobs = bursty(profile, load, 5)
    done = run(profile, jobs)
    bound = clairvoyant_bound({profile.model: profile}, jobs)
    assert 0.9 * bound <= on_time(done) <= bound + 1e-9
    ours, theirs = (
        summarise(Run(policy, 1, 0, each.jobs, each.batches)).effective_accuracy
        for policy, each in (("joint", done), ("optimized", run(profile, jobs, "optimized")))
    )
    assert ours >= theirs


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
def test_fairness_lets_no_tercile_starve(profile: Profile) -> None:
    """With an aim of 0.6 each third of the accuracy SLOs has that part of the mean; without it one has not."""
    jobs = bursty(profile, 5, 1, 30)
    shares = {}
    for aim in (0.0, 0.6):
        done = run(profile, jobs, options=Options(fairness=aim))
        order = sorted(jobs.jobs, key=lambda job: job.accuracy_slo)
        thirds = np.array_split(np.array([job.id for job in order]), 3)
        shares[aim] = min(on_time(done, third.tolist()) for third in thirds) / on_time(done)
    assert shares[0.6] >= 0.6 > shares[0.0]


def test_weights_decide_who_is_served_under_overload() -> None:
    """Of jobs that are alike, those of ten times the weight are served first."""
    jobs = tuple(
        Job(f"j{i}", "flat", 2, 0.6, i * 5_000_000, i * 5_000_000 + 10**9, weight=10.0 if i % 10 == 0 else 1.0)
        for i in range(2_000)
    )
    done = run(FLAT, Workload(jobs, ("weight",)))
    heavy = on_time(done, {job.id for job in jobs if job.weight > 1})
    light = on_time(done, {job.id for job in jobs if job.weight == 1})
    assert heavy > 0.95 > 0.5 > light


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
@pytest.mark.parametrize("load", [0.8, 1.5, 2.0, 3.0])
def test_the_mode_mix_is_steady_at_constant_load(profile: Profile, load: float) -> None:
    """Accuracy by the second turns at most once in 10 s by more than half the range between the modes."""
    gap_ns, requests = round(1e9 * 3 / (load * capacity_rps(profile))), 3
    slo = min(mode.accuracy for mode in profile.modes)
    jobs = [
        Job(f"j{i}", profile.model, requests, slo, i * gap_ns, i * gap_ns + 10**9)
        for i in range(30 * 10**9 // gap_ns)
    ]
    done = run(profile, Workload(tuple(jobs), ()))
    accuracies = dict(zip(profile.mode_names, (mode.accuracy for mode in profile.modes), strict=True))
    sums, counts = np.zeros(31), np.zeros(31)
    for batch in done.batches:
        second = min(30, batch.start_ns // 10**9)
        size = sum(count for _, count in batch.jobs)
        sums[second] += size * accuracies[batch.mode]
        counts[second] += size
    steady = (sums / np.maximum(counts, 1))[2:30]
    assert turns(steady, (max(accuracies.values()) - slo) / 2) <= 3


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
@pytest.mark.parametrize("load", [1.5, 3.0, 5.0])
def test_the_mode_mix_of_mixed_jobs_is_steady_at_constant_load(profile: Profile, load: float) -> None:
    """By five seconds (some 25 batches) accuracy turns at most once in 10 s by a tenth of the modes' range."""
    jobs = generate(Recipe("constant", 40, 1, rate_rps=load * capacity_rps(profile)), profile)
    accuracies = dict(zip(profile.mode_names, (mode.accuracy for mode in profile.modes), strict=True))
    sums, counts = np.zeros(9), np.zeros(9)
    for batch in run(profile, jobs).batches:
        size, span = sum(count for _, count in batch.jobs), batch.start_ns // (5 * 10**9)
        sums[span] += size * accuracies[batch.mode]
        counts[span] += size
    spread = max(accuracies.values()) - min(accuracies.values())
    assert turns((sums / np.maximum(counts, 1))[1:8], spread / 10) <= 3


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_nobody_is_turned_away_below_capacity(seed: int) -> None:
    """At 0.8 of capacity a small job that is dear, or alone in its mode, is not left behind by larger ones."""
    assert on_time(run(DEAR, bursty(DEAR, 0.8, seed, 40))) == 1.0


@pytest.mark.parametrize("profile", SHAPES, ids=lambda profile: profile.model)
def test_accuracy_returns_when_the_load_falls(profile: Profile) -> None:
    """Ten seconds after a long overload, jobs that come one by one have the highest accuracy again."""
    heavy = bursty(profile, 5, 2, 40).jobs
    slo, gap_ns = min(mode.accuracy for mode in profile.modes), round(5e9 / capacity_rps(profile))
    starts = range(40 * 10**9, 60 * 10**9, gap_ns)
    calm = tuple(Job(f"c{at}", profile.model, 1, slo, at, at + 10**9) for at in starts)
    done = run(profile, Workload((*heavy, *calm), ()))
    late = [job for job in done.jobs if job.job.id.startswith("c") and job.job.arrival_ns >= 50 * 10**9]
    assert {job.accuracy for job in late} == {max(mode.accuracy for mode in profile.modes)}


def turns(values: NDArray[np.float64], least: float) -> int:
    """How often a series turns round by at least so much."""
    found, direction, edge = 0, 0, values[0]
    for value in values[1:]:
        if (direction >= 0 and value <= edge - least) or (direction <= 0 and value >= edge + least):
            found += direction != 0
            direction, edge = (1 if value > edge else -1), value
        elif (value - edge) * direction > 0 or direction == 0:
            edge = value if direction else edge
    return found


def test_a_queue_of_ten_thousand_jobs_is_decided() -> None:
    """Deadlines in groups: every job of a very long queue still gets its one outcome, and many are on time."""
    jobs = tuple(Job(f"j{i}", "steep", 1, 0.66, 0, 10**9 + i * 1_000_000) for i in range(10_000))
    done = run(STEEP, Workload(jobs, ()))
    assert len(done.jobs) == 10_000
    assert on_time(done) > 0.3


SINGLE = shaped("single", 16, 0.4, {"audio": (4, 0.66)})


@pytest.mark.skipif(is_compiled(), reason="compiled functions call each other, whatever stands in their place")
@pytest.mark.parametrize("load", [0.5, 0.9, 2.0])
def test_a_choice_without_care_is_the_one_that_would_be_made_with_it(
    load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where jobs can be served in one way only: under any load, the same batches of the same jobs."""
    module = importlib.import_module("mosel.online.policies.joint")
    jobs, plain, found = bursty(SINGLE, load, 5), module._plain, list[Choice | None]()

    def counted(view: View, exposed: NDArray[np.float64]) -> Choice | None:
        found.append(plain(view, exposed))
        return found[-1]

    monkeypatch.setattr(module, "_plain", counted)
    quick = run(SINGLE, jobs)
    monkeypatch.setattr(module, "_plain", lambda *_: None)
    careful = run(SINGLE, jobs)
    assert quick.batches == careful.batches
    assert quick.jobs == careful.jobs
    assert any(choice is not None for choice in found)
    assert load < 1 or any(choice is None for choice in found)


@pytest.mark.skipif(is_compiled(), reason="compiled functions call each other, whatever stands in their place")
@pytest.mark.parametrize("load", [0.3, 0.9, 1.5])
def test_what_is_sent_of_a_lone_request_is_what_a_search_would_find(
    load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one request waits that can be served in one way only: the same batches, on time or late."""
    module = importlib.import_module("mosel.online.policies.joint")
    some = bursty(SINGLE, load, 6, 4).jobs
    jobs = Workload(tuple(replace(job, requests=1) for job in some), ())
    lone, found = module._lone, list[BatchChoice | None]()

    def counted(view: View) -> BatchChoice | None:
        found.append(lone(view))
        return found[-1]

    monkeypatch.setattr(module, "_lone", counted)
    quick = run(SINGLE, jobs)
    monkeypatch.setattr(module, "_lone", lambda _: None)
    searched = run(SINGLE, jobs)
    assert quick.batches == searched.batches
    assert quick.jobs == searched.jobs
    assert any(choice is not None for choice in found)
    assert any(choice is None for choice in found)
