"""Estimates through the scheduler: what a slower device and an exact one do to it."""

import numpy as np
import pytest

from mosel.core.states import OUTCOMES
from mosel.core.types import Job
from mosel.online.events import (
    WorkerLost,
    WorkerReady,
)
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, job, profile, world


def test_in_an_exact_world_nothing_is_corrected() -> None:
    """Ratio 1, no overhead, no margin, after hundreds of batches."""
    table = profile()
    found = Scheduler({"m": table})
    jobs = [job(f"j{i}", 1 + i % 5, 0.67 + 0.01 * (i % 10), at=37 * i, due=37 * i + 400) for i in range(200)]
    world(found, [table], jobs).run()
    assert found.estimator.margin_ns == found.estimator.overhead_ns == 0
    assert all(found.estimator.ratio("m", mode) == 1 for mode in table.mode_names)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_another_speed_is_found_within_a_few_batches(factor: float) -> None:
    """Five batches on, a device twice as slow or fast as profiled is expected to be so, in every mode."""
    table = profile()
    found = Scheduler({"m": table}, policy="aggressive")
    jobs = [job(f"j{i}", 1, at=200 * i, due=200 * i + 180) for i in range(6)]
    ran = world(found, [table], jobs)
    ran.took_ns = lambda _batch, profiled_ns: round(profiled_ns * factor)
    ran.run()
    assert ran.batches[0][0].expected_ns == 20 * MS
    assert ran.batches[-1][0].expected_ns == 20 * factor * MS
    assert found.estimator.ratio("m", "audio+video") == factor


def test_outcomes_are_never_anything_else() -> None:
    """Every receipt of a busy, lossy run is one of the five outcomes, one for each job."""
    rng = np.random.default_rng(5)
    table = profile()
    jobs: list[Job] = []
    at = 0.0
    for i in range(120):
        at += float(rng.exponential(40))
        jobs.append(job(f"j{i}", int(rng.integers(1, 9)), float(rng.uniform(0.6, 0.85)), at=at, due=at + 250))
    for policy in POLICIES:
        ran = world(Scheduler({"m": table}, workers=2, policy=policy), [table], jobs, 2)
        for k in range(10):
            ran.at(k * 900 * MS + 1, WorkerLost(k % 2, "killed"), 1)
            ran.at(k * 900 * MS + 200 * MS, WorkerReady(k % 2), 1)
        receipts = ran.run().receipts.values()
        assert len(receipts) == 120
        assert {receipt.outcome for receipt in receipts} <= set(OUTCOMES)
