"""`joint` where models of very different latencies share workers, in virtual time."""

import importlib

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.build import is_compiled
from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.core.types import Job
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.policies import exposure
from mosel.online.policies.base import View
from mosel.online.scheduler import Scheduler

MS = 10**6


def profile(model: str, *modes: tuple[str, float, float]) -> Profile:
    """A profile of batches of one, of (modality, latency in milliseconds, accuracy)."""
    found = []
    for name, latency_ms, accuracy in modes:
        latency_s = (latency_ms / 1000,)
        found.append(Mode((name,), accuracy, accuracy, 0, latency_s, latency_s, (0,)))
    names = tuple(name for name, _, _ in modes)
    device = Device("made up", "host")
    return Profile(PROFILE_FORMAT, model, names, "accuracy", (1,), tuple(found), device, "float32", {}, "")


PROFILES = {
    "fast": profile("fast", ("text", 5, 0.9)),
    "slow": profile("slow", ("video", 400, 0.9), ("audio", 30, 0.6)),
}


def on_time(
    *, slow_slo: float = 0.7, slow_weight: float = 1.0, fast_slo_ms: int = 50, workers: int = 1
) -> dict[str, float]:
    """The share of jobs on time, by model: 50 fast ones a second for 10 s, and two slow ones."""
    fast = [Job(f"f{at}", "fast", 1, 0.5, at, at + fast_slo_ms * MS) for at in range(0, 10_000 * MS, 20 * MS)]
    slow = [
        Job(f"s{at}", "slow", 1, slow_slo, at, at + 3000 * MS, weight=slow_weight)
        for at in range(1005 * MS, 10_000 * MS, 500 * MS)
    ]
    jobs = Workload(tuple(sorted([*fast, *slow], key=lambda job: job.arrival_ns)), ("model", "weight"))
    done = simulate(Scheduler(PROFILES, workers=workers), PROFILES, jobs, Conditions(workers=workers))
    shares = {}
    for model in PROFILES:
        own = [job.outcome.value == "served" for job in done.jobs if job.job.model == model]
        shares[model] = sum(own) / len(own)
    return shares


def test_no_long_batch_runs_that_would_cost_more_jobs_to_come_than_it_serves() -> None:
    """A slow batch would make twenty fast jobs late that come under it: it does not run, nobody waiting."""
    assert on_time() == {"fast": 1.0, "slow": 0.0}


def test_a_slow_model_runs_where_it_is_worth_more() -> None:
    """Where a slow job counts as much as a hundred fast ones it is served, and fast ones between."""
    shares = on_time(slow_weight=100)
    assert shares["slow"] > 0.9
    assert shares["fast"] > 0.1


def test_accuracy_is_not_restored_at_the_cost_of_jobs_to_come() -> None:
    """The mode of 400 ms is more accurate; while fast jobs come that cannot wait, the one of 30 ms runs."""
    assert on_time(slow_slo=0.5) == {"fast": 1.0, "slow": 1.0}


def test_of_two_workers_one_is_kept_for_jobs_that_cannot_wait() -> None:
    """Slow jobs, enough to keep both busy, run on one at a time."""
    shares = on_time(workers=2)
    assert shares["fast"] > 0.99
    assert shares["slow"] > 0.9


@pytest.mark.skipif(is_compiled(), reason="compiled functions call each other, whatever stands in their place")
def test_jobs_that_can_wait_for_any_batch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all slacks are longer than the longest batch no loss is expected, and both models are served."""
    found: list[NDArray[np.float64]] = []

    def seen(view: View) -> NDArray[np.float64]:
        found.append(exposure.exposed(view))
        return found[-1]

    monkeypatch.setattr(importlib.import_module("mosel.online.policies.joint"), "exposed", seen)
    shares = on_time(fast_slo_ms=1500)
    assert min(shares.values()) > 0.99
    assert {array.size for array in found} == {0}
