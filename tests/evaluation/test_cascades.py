from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from mosel.core.clock import NS_PER_MS as MS
from mosel.core.tables import Profile, write_profile
from mosel.core.types import Batch, Part
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.calibration import calibrated
from mosel.evaluation.check import check_run
from mosel.evaluation.draws import Confidences
from mosel.evaluation.results import Run, Summary, summarise, write_run
from mosel.evaluation.simulate import Conditions, Outage, simulate
from mosel.evaluation.workload import Workload, write_workload
from mosel.online.scheduler import Scheduler
from tests.evaluation.stand_ins import workload
from tests.online.cascaded import FULL, MIDDLE, cascaded
from tests.online.driver import job

PROFILE = cascaded(slope_ms=30)
RESUMED = cascaded(slope_ms=30, resumed=0.4)


def jobs() -> Workload:
    """Three hundred jobs of one to four requests, somewhat more than two workers can run in full."""
    return workload(
        *(
            job(
                f"j{i}",
                1 + i % 4,
                (0.6, 0.85, 0.95, 0.975)[i * 7 % 4],
                at=i * 20,
                due=i * 20 + 150 + i % 5 * 60,
            )
            for i in range(300)
        )
    )


@pytest.mark.parametrize("policy", ["joint", "optimized"])
@pytest.mark.parametrize("profile", [PROFILE, RESUMED], ids=["whole", "resumed"])
def test_a_run_with_cascades_can_be_true(policy: str, profile: Profile, tmp_path: Path) -> None:
    """Requests are in one batch a stage, though workers die; nothing promised is beyond what batches give."""
    conditions = Conditions(
        2, seed=3, outages=(Outage(0, 900 * MS, 1300 * MS), Outage(1, 2000 * MS, 2500 * MS))
    )
    given, profiles = jobs(), {"m": profile}
    done = simulate(Scheduler(profiles, workers=2, policy=policy), profiles, given, conditions)
    again = simulate(Scheduler(profiles, workers=2, policy=policy), profiles, given, conditions)
    assert (done.jobs, done.batches) == (again.jobs, again.batches)
    write_profile(profile, tmp_path / "profile.json")
    write_workload(given, tmp_path / "workload.csv")
    bound = clairvoyant_bound(profiles, given, Conditions(2))
    write_run(Run(policy, 2, 3, done.jobs, done.batches, given.columns, bound=bound), tmp_path / "run")
    assert check_run(tmp_path / "run", tmp_path / "profile.json", tmp_path / "workload.csv") == []
    ran = sum(size for batch in done.batches if batch.done for _, size in batch.jobs)
    last = sum(count for row in done.jobs for _, count in row.modes)
    assert ran > last, "some requests ran in both stages"


def test_what_cascades_save_goes_to_accuracy_and_costs_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where full accuracy outruns the workers, `joint` with cascades is more accurate, and all is on time."""
    slos = (0.6, 0.85, 0.95)
    busy = workload(*(job(f"j{i}", 1 + i % 3, slos[i % 3], at=i * 12, due=i * 12 + 400) for i in range(600)))
    spending = overloaded(PROFILE, busy)
    without = overloaded(structs.replace(PROFILE, cascades=()), busy)
    assert without.on_time < spending.on_time == 1
    monkeypatch.setattr(import_module("mosel.online.policies.joint"), "SAVED", 0.0)
    assert spending.effective_accuracy > overloaded(PROFILE, busy).effective_accuracy + 0.01


def test_what_is_resumed_takes_less() -> None:
    """Batches of last stages take what the profile says of features that are kept; all else is as before."""
    given = jobs()
    on_time, busy_ns = {}, {}
    for name, profile in (("whole", PROFILE), ("resumed", RESUMED)):
        done = simulate(Scheduler({"m": profile}, policy="joint"), {"m": profile}, given, Conditions())
        on_time[name] = summarise(Run("joint", 1, 0, done.jobs, done.batches)).on_time
        busy_ns[name] = sum(batch.finish_ns - batch.start_ns for batch in done.batches)
        took_ns = {b.finish_ns - b.start_ns for b in done.batches if b.mode == FULL and b.size == 1}
        assert (round(36 * 0.4 * MS) in took_ns) == (name == "resumed")
    assert on_time["resumed"] >= on_time["whole"] > 0.995
    assert busy_ns["resumed"] < busy_ns["whole"]


def test_what_is_resumed_is_no_faster_device() -> None:
    """Calibrated on a run in which features were kept, batches take what the profile says, in every mode."""
    done = simulate(Scheduler({"m": RESUMED}), {"m": RESUMED}, jobs(), Conditions())
    assert any(batch.resumed for batch in done.batches)
    found = calibrated(done.batches, RESUMED)
    assert found.mode_scale == {mode: pytest.approx(1) for mode in found.mode_scale}
    assert found.noise_cv == pytest.approx(0, abs=1e-6)


def test_no_job_is_given_up_for_a_fuller_batch_where_there_is_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a second look a full batch of unsure requests makes jobs late that cost a batch of their own."""
    dear = cascaded((1, 2, 4, 8), slope_ms=4, fixed_ms=30)
    bursts = generate(Recipe("bursty", 6, seed=3, rate_rps=30, latency_slo_s=0.2), dear)
    assert overloaded(dear, bursts).on_time == 1
    monkeypatch.setattr(import_module("mosel.online.policies.second_look"), "LEAST_SLACK", 2.0)
    assert overloaded(dear, bursts).on_time < 1


def overloaded(profile: Profile, busy: Workload) -> Summary:
    """What becomes of a workload under `joint` on one worker."""
    done = simulate(Scheduler({"m": profile}, policy="joint"), {"m": profile}, busy, Conditions())
    return summarise(Run("joint", 1, 0, done.jobs, done.batches))


def test_a_request_that_is_counted_twice_is_found(tmp_path: Path) -> None:
    """More requests than escalations in batches of the last stage cannot be."""
    given, profiles = jobs(), {"m": PROFILE}
    done = simulate(Scheduler(profiles, policy="joint"), profiles, given, Conditions())
    write_profile(PROFILE, tmp_path / "profile.json")
    write_workload(given, tmp_path / "workload.csv")
    write_run(Run("joint", 1, 0, done.jobs, done.batches, given.columns), tmp_path / "run")
    table = tmp_path / "run" / "jobs.csv"
    row = next(
        line for line in table.read_text().splitlines() if ",served," in line and line.endswith(f"{MIDDLE}:1")
    )
    table.write_text(table.read_text().replace(row, row.removesuffix(f"{MIDDLE}:1") + f"{FULL}:1"))
    problems = check_run(tmp_path / "run", tmp_path / "profile.json", tmp_path / "workload.csv")
    assert any("its batches say" in problem for problem in problems)


def test_confidences_are_drawn_as_the_profile_says() -> None:
    """Of a mode that begins two cascades each threshold is missed by its share; other modes are not judged."""
    drawn = Confidences([PROFILE], _rng(5))
    batch = Batch(0, 0, "m", MIDDLE, 0, (Part("a", tuple(range(20_000))),), 0, judged=True)
    found = drawn.of(batch)
    for cascade in PROFILE.cascades[1:]:
        share = sum(confidence < cascade.threshold for confidence in found) / len(found)
        assert share == pytest.approx(cascade.escalated, abs=0.01)
    assert drawn.of(Batch(1, 0, "m", MIDDLE, 0, batch.parts, 0)) == ()


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
