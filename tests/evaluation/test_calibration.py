from dataclasses import replace

import pytest

from mosel.core.clock import NS_PER_MS, NS_PER_S
from mosel.core.errors import UsageError
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.calibration import calibrated
from mosel.evaluation.results import BatchResult, Run, Summary, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.scheduler import Scheduler

from .stand_ins import CHEAP, FULL, profile

TABLE = profile(cheap_ms=4, full_ms=20)
JOBS = generate(Recipe("poisson", 20.0, 0, rate_rps=60), TABLE)


def run(world: Conditions, jobs: Workload = JOBS) -> tuple[list[BatchResult], Summary]:
    """Simulate the paper's policy in a world."""
    done = simulate(Scheduler({"m": TABLE}, policy="paper"), {"m": TABLE}, jobs, world)
    return done.batches, summarise(Run("paper", 1, 0, done.jobs, done.batches))


def test_scale_and_overhead_are_found_again() -> None:
    """From batches of every size and mode that took longer, by how much is told, mode by mode."""
    world = Conditions(mode_scale={CHEAP: 1.5, FULL: 1.2}, overhead_ns=3 * NS_PER_MS)
    batches, _ = run(world)
    found = calibrated([each for each in batches if each.mode == FULL], TABLE)
    assert found.overhead_ns == pytest.approx(3 * NS_PER_MS, rel=0.01)
    assert found.mode_scale == {FULL: pytest.approx(1.2, rel=0.01)}
    assert found.noise_cv == pytest.approx(0, abs=0.01)
    both = calibrated(batches, TABLE).mode_scale
    assert both[CHEAP] > both[FULL] > 1.1


def test_a_simulation_under_what_was_found_serves_what_the_run_served() -> None:
    """In a world that is slower than the profile, violations are told by its batches, not by the profile."""
    batches, slow = run(Conditions(scale=1.3, noise_cv=0.1, overhead_ns=4 * NS_PER_MS))
    _, again = run(calibrated(batches, TABLE).conditions(seed=1))
    _, naive = run(Conditions())
    assert again.violation_ratio == pytest.approx(slow.violation_ratio, abs=0.03)
    assert naive.violation_ratio < slow.violation_ratio - 0.05


def test_a_slow_spell_is_found_at_its_time() -> None:
    """A simulation of a world that was slow for a while is slow then, not a little all the time."""
    spell = ((5 * NS_PER_S, 3.0), (9 * NS_PER_S, 1.0))
    batches, slow = run(Conditions(pace=spell))
    found = calibrated(batches, TABLE)
    inside = [factor for at_ns, factor in found.pace if 5 * NS_PER_S <= at_ns < 9 * NS_PER_S]
    outside = [factor for at_ns, factor in found.pace if not 5 * NS_PER_S <= at_ns < 9 * NS_PER_S]
    assert min(inside) > 2 * max(outside)
    told, untold = (run(each.conditions())[1].violation_ratio for each in (found, replace(found, pace=())))
    assert told == pytest.approx(slow.violation_ratio, abs=0.03)
    assert abs(untold - slow.violation_ratio) > 2 * abs(told - slow.violation_ratio)
    with pytest.raises(UsageError, match="ascend"):
        Conditions(pace=spell[::-1])


def test_batches_of_one_size_tell_no_overhead() -> None:
    """What a batch takes beyond its latency shows only beside batches of another size."""
    took = 30 * NS_PER_MS
    same = [BatchResult(n, 0, n * took, (n + 1) * took, FULL, 1, (("j", 1),)) for n in range(5)]
    found = calibrated(same, TABLE)
    assert found.overhead_ns == 0
    assert found.slower == pytest.approx(1.5)


def test_where_no_batch_is_done_the_profile_stands() -> None:
    """A run in which nothing ran departs in nothing from its profile."""
    lost = BatchResult(0, 0, 0, NS_PER_MS, FULL, 1, (("j", 1),), done=False)
    assert calibrated([lost], TABLE).conditions() == Conditions()
