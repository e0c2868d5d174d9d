"""Input at the edge of sense, through the commands: a defined outcome for every job, or one clear line."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.tables import write_profile
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from mosel.online.policies import POLICIES
from tests.online.driver import profile

HEADER = "job,arrival_s,requests,accuracy_slo,latency_slo_s"
ONE = {"audio": (0.7, 4.0, 2.0)}
TWO = {"audio": (0.7, 4.0, 2.0), "audio+video": (0.9, 8.0, 5.0)}
FREE = {"audio": (0.7, 0.0, 0.0), "audio+video": (0.9, 0.0, 1.0)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcomes(policy: str, modes: dict[str, tuple[float, float, float]], rows: Iterable[str]) -> dict[str, str]:
    """Simulate these jobs, check the run, find its bound, and return each job's outcome."""
    write_profile(profile(modes, sizes=(1, 2, 4)), Path("p.json"))
    Path("w.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    words = ["p.json", "w.csv", "--policy", policy, "--bound", "-o", "run", "--quiet"]
    assert run(["simulate", *words]) == 0
    assert check_run(Path("run"), Path("p.json"), Path("w.csv")) == []
    return {row.job.id: row.outcome.value for row in read_run(Path("run")).jobs}


@pytest.mark.parametrize("policy", POLICIES)
def test_an_slo_above_the_best_mode_is_refused_on_arrival(policy: str) -> None:
    """Nobody else's job suffers from one that no mode can satisfy."""
    found = outcomes(policy, TWO, ["a,0,1,0.95,1", "b,0,1,0.9,1"])
    assert found == {"a": "rejected", "b": "served"}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_job_larger_than_the_largest_batch_runs_in_several(policy: str) -> None:
    """Of 1,000 requests with batches up to four, all run."""
    assert outcomes(policy, TWO, ["a,0,1000,0.72,60"]) == {"a": "served"}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_deadline_that_nothing_can_meet_is_refused_on_arrival(policy: str) -> None:
    """A latency SLO of a nanosecond, when the fastest batch takes 6 ms."""
    found = outcomes(policy, TWO, ["a,0,1,0.7,0.000000001", "b,0,1,0.7,1"])
    assert found == {"a": "rejected", "b": "served"}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_profile_with_one_mode_serves(policy: str) -> None:
    """Without a choice of modes there is still a choice of jobs."""
    found = outcomes(policy, ONE, [f"j{i},0,2,0.7,0.5" for i in range(10)])
    assert set(found.values()) == {"served"}


@pytest.mark.parametrize("policy", POLICIES)
def test_modes_that_take_no_time_are_no_obstacle(policy: str) -> None:
    """Latencies of zero neither divide nor loop."""
    found = outcomes(policy, FREE, [f"j{i},{i // 5 * 0.01},3,0.7,0.1" for i in range(20)])
    assert set(found.values()) == {"served"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("", "has no jobs"),
        ("a,0,1,0.7,-1", "latency_slo_s"),
        ("a,0,0,0.7,1", "requests"),
        ("a,0,1,nan,1", "accuracy_slo"),
    ],
)
@pytest.mark.parametrize("command", ["simulate", "bound"])
def test_what_is_no_workload_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], command: str, row: str, said: str
) -> None:
    """An empty workload, a deadline before the arrival, jobs without requests: the column is named."""
    write_profile(profile(TWO), Path("p.json"))
    Path("w.csv").write_text(HEADER + "\n" + (row + "\n" if row else ""))
    assert run([command, "p.json", "w.csv", *(["-o", "run"] if command == "simulate" else [])]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1


def test_one_mode_and_no_latency_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    """The frontier of one mode is a point; zero latencies are kept as such."""
    for name, modes in (("one", ONE), ("free", FREE)):
        write_profile(profile(modes), Path(f"{name}.json"))
        assert run(["plan", f"{name}.json", "-o", f"{name}-plan.json", "--quiet"]) == 0
        assert json.loads(Path(f"{name}-plan.json").read_text())["format"].startswith("mosel.plan/")
    capsys.readouterr()
