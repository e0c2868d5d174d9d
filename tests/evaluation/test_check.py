from pathlib import Path

import pytest

from mosel.core.tables import write_profile
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.check import check_run
from mosel.evaluation.results import Run, write_run
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import write_workload
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.cascaded import cascaded

from .stand_ins import profile


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with a profile, a workload and an overloaded run of it."""
    record(tmp_path, "none+batching")
    return tmp_path


def record(folder: Path, policy: str) -> None:
    """Simulate a workload under `policy` and write everything."""
    table = profile()
    work = generate(Recipe("bursty", 6, rate_rps=180, seed=2, latency_slo_s=0.3, lacking=0.2), table)
    write_profile(table, folder / "profile.json")
    write_workload(work, folder / "workload.csv")
    done = simulate(Scheduler({"m": table}, policy=policy), {"m": table}, work, Conditions())
    run = Run(policy, 1, 0, done.jobs, done.batches, work.columns, decisions_ns=done.decisions_ns)
    write_run(run, folder / "run")


def problems(folder: Path) -> list[str]:
    """Check the run in `folder`."""
    return check_run(folder / "run", folder / "profile.json", folder / "workload.csv")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_simulated_run_of_every_policy_holds(tmp_path: Path, policy: str) -> None:
    """Under overload no policy breaks a law: one outcome a job, SLOs kept, latencies as profiled."""
    record(tmp_path, policy)
    assert problems(tmp_path) == []


def edit(path: Path, column: str, value: str, where: str = "") -> None:
    """Change one cell of the first row that contains `where`."""
    header, *rows = path.read_text().splitlines()
    index = header.split(",").index(column)
    number = next(i for i, row in enumerate(rows) if where in row)
    cells = rows[number].split(",")
    cells[index] = value
    rows[number] = ",".join(cells)
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("file", "column", "value", "where", "said"),
    [
        ("jobs.csv", "job", "ghost", "", "has 0 outcomes"),
        ("jobs.csv", "outcome", "late", "served", "with its deadline at"),
        ("jobs.csv", "outcome", "dropped", "served", "has a finish"),
        ("jobs.csv", "outcome", "dropped", "served", "has an accuracy"),
        ("jobs.csv", "accuracy", "0.75", "served", "its batches say"),
        ("jobs.csv", "modes", "audio:1", "served", "its batches say"),
        ("jobs.csv", "finish_s", "0.001", "served", "claims to finish before its last batch"),
        ("jobs.csv", "finish_s", "99.5", "served", "claims to finish after its last batch"),
        ("jobs.csv", "arrival_s", "9.5", "served", "starts before it arrives"),
        ("jobs.csv", "requests", "77", "served", "is not as the workload says"),
        ("batches.csv", "start_s", "0.0", "", "took"),
        ("batches.csv", "mode", "video", "", "which the profile of worker 0 does not have"),
        ("batches.csv", "size", "99", "", "other requests in it"),
        ("batches.csv", "status", "failed", "", "of its"),
        ("batches.csv", "batch", "1", "", "stands 2 times"),
    ],
)
def test_what_cannot_be_true_is_found(
    recorded: Path, file: str, column: str, value: str, where: str, said: str
) -> None:
    """A changed cell of a run is noticed."""
    edit(recorded / "run" / file, column, value, where)
    assert any(said in problem for problem in problems(recorded)), problems(recorded)


def test_overlapping_batches_are_found(recorded: Path) -> None:
    """Two batches at the same time on one worker cannot be."""
    path = recorded / "run" / "batches.csv"
    header, first, second, *rest = path.read_text().splitlines()
    start = first.split(",")[2]
    cells = second.split(",")
    path.write_text("\n".join([header, first, ",".join([*cells[:2], start, *cells[3:]]), *rest]) + "\n")
    assert any("overlap on worker 0" in problem for problem in problems(recorded))


def test_a_summary_that_disagrees_with_the_jobs_is_found(recorded: Path) -> None:
    """The summary is recomputed from the jobs."""
    path = recorded / "run" / "summary.json"
    text = path.read_text()
    path.write_text(text.replace('"late": 0.0', '"late": 0.25'))
    assert path.read_text() != text
    assert any("summary.json says late = 0.25" in problem for problem in problems(recorded))


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    """A folder with a run in which features of first stages were kept."""
    table = cascaded((1, 2, 4, 8), slope_ms=30, resumed=0.4)
    work = generate(Recipe("bursty", 6, rate_rps=60, seed=2, latency_slo_s=0.5), table)
    write_profile(table, tmp_path / "profile.json")
    write_workload(work, tmp_path / "workload.csv")
    done = simulate(Scheduler({"m": table}), {"m": table}, work, Conditions())
    write_run(Run("joint", 1, 0, done.jobs, done.batches, work.columns), tmp_path / "run")
    return tmp_path


def test_batches_that_resume_a_first_stage_say_so(resumed: Path) -> None:
    """The run holds: each such batch takes what is left of its last stage, and first stages before."""
    assert problems(resumed) == []
    assert ",text:" in (resumed / "run" / "batches.csv").read_text()


@pytest.mark.parametrize(("value", "said"), [("", "took"), ("text:99", "ran before"), ("video:1", "took")])
def test_what_was_not_resumed_is_found(resumed: Path, value: str, said: str) -> None:
    """A batch that resumes nothing takes its mode's latency; one that does has run before what it resumes."""
    edit(resumed / "run" / "batches.csv", "resumed", value, ",text:")
    assert any(said in problem for problem in problems(resumed)), problems(resumed)
