"""Estimates through the scheduler: what a slower device and an exact one do to it."""

import numpy as np
import pytest

from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job
from mosel.online.estimator import FEWEST, OUTDATED, WINDOW, Estimator
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


@pytest.mark.parametrize("policy", ["none+batching", "aggressive", "optimized"])
@pytest.mark.parametrize(("slow", "for_ms"), [(10, 60), (10, 2000), (100, 2000)])
def test_a_server_recovers_from_a_slow_spell(policy: str, slow: int, for_ms: int) -> None:
    """Estimates under which every job is refused are forgotten, or one slow spell would close the server."""
    table = profile({"text": (0.6, 3, 1), "audio": (0.8, 4, 3), "text+video": (0.95, 9, 8)}, sizes=(1, 2, 4, 8))
    jobs = [job(f"j{i}", 1, 0.6 + 0.3 * (i % 7) / 7, at=20 * i, due=20 * i + 60) for i in range(400)]
    ran = world(Scheduler({"m": table}, policy=policy), [table], jobs)
    ran.took_ns = lambda _batch, profiled_ns: profiled_ns * (slow if ran.now_ns < for_ms * MS else 1)
    ran.run()
    after = [r for r in ran.receipts.values() if r.job.arrival_ns > 6000 * MS]
    assert all(receipt.outcome is State.SERVED for receipt in after)
    assert all(batch.expected_ns == end - start for batch, start, end in ran.batches[-20:])


def test_nothing_is_forgotten_while_work_is_served() -> None:
    """A device that really is three times as slow stays so in the estimates, through gaps and refusals."""
    table = profile()
    found = Scheduler({"m": table}, policy="aggressive")
    jobs = [job(f"j{i}", 1, at=3000 * i, due=3000 * i + (100 if i % 2 else 50)) for i in range(20)]
    ran = world(found, [table], jobs)
    ran.took_ns = lambda _batch, profiled_ns: 3 * profiled_ns
    ran.run()
    settled = [ran.receipts[f"j{i}"].outcome for i in range(8, 20)]
    assert settled == [State.REJECTED, State.SERVED] * 6


def test_a_mode_that_was_slow_once_is_tried_again() -> None:
    """After many batches in other modes its own old ratio gives way to that of the whole model."""
    estimates = Estimator()
    for _ in range(WINDOW):
        estimates.observe("m", "slow", 100, 1000, 1000, 1000, 0)
    for _ in range(OUTDATED):
        estimates.observe("m", "other", 100, 100, 100, 100, 0)
    assert estimates.ratio("m", "slow") == 10
    estimates.observe("m", "other", 100, 100, 100, 100, 0)
    assert estimates.ratio("m", "slow") == 1
    for _ in range(FEWEST):
        estimates.observe("m", "slow", 100, 300, 300, 300, 0)
    assert estimates.ratio("m", "slow") == 3


def test_one_outlier_moves_nothing_but_the_margin() -> None:
    """The ratio is a median; the margin is a high quantile of misses, and fades with them."""
    estimates = Estimator()
    for took_ns in (100, 100, 100, 900, 100, 100):
        estimates.observe("m", "a", 100, took_ns, took_ns, 100, 0)
    assert estimates.ratio("m", "a") == 1
    assert estimates.margin_ns > 0
    for _ in range(WINDOW):
        estimates.observe("m", "a", 100, 100, 100, 100, 0)
    assert estimates.margin_ns == 0


def test_misses_that_would_not_be_made_again_are_forgiven() -> None:
    """Once a slower device is expected to be slow, what was underestimated before holds no deadline early."""
    estimates = Estimator()
    for _ in range(2 * FEWEST):
        estimates.observe("m", "a", 100, 1000, 1000, 100, 0)
    assert estimates.margin_ns == 900
    estimates.forgive(lambda _model, _mode, profiled_ns: 10 * profiled_ns)
    assert estimates.margin_ns == 0


def test_what_sending_and_reporting_cost_is_an_addend() -> None:
    """A batch that keeps its worker 5 longer than the device is expected to do so again."""
    estimates = Estimator()
    for _ in range(FEWEST):
        estimates.observe("m", "a", 100, 100, 105, 105, 0)
    assert (estimates.ratio("m", "a"), estimates.overhead_ns, estimates.margin_ns) == (1.0, 5, 0)


def test_unknown_modes_follow_the_model_and_unknown_models_the_profile() -> None:
    """Until a mode has a few batches of its own, all of the model's speak for it."""
    estimates = Estimator()
    assert estimates.ratio("m", "a") == 1.0
    for _ in range(FEWEST):
        estimates.observe("m", "a", 100, 200, 200, 100, 0)
    assert estimates.ratio("m", "b") == 2.0
    assert estimates.ratio("n", "a") == 1.0


def test_times_of_zero_make_no_estimate_of_zero() -> None:
    """A report of no time at all is a broken clock, not a mode without cost; a profile of zero says nothing."""
    estimates = Estimator()
    for _ in range(FEWEST):
        estimates.observe("m", "a", 100, 0, 0, 100, 0)
        estimates.observe("m", "free", 0, 50, 50, 0, 0)
    assert 0 < estimates.ratio("m", "a") <= 0.01
