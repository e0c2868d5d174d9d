import json
from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.tables import write_profile
from mosel.evaluation.check import check_run

from .stand_ins import profile

FILES = ("jobs.csv", "batches.csv", "summary.json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a profile and a workload, entered."""
    monkeypatch.chdir(tmp_path)
    write_profile(profile(), tmp_path / "profile.json")
    assert (
        run(["workload", "--profile", "profile.json", "--load", "1.5", "--duration", "3", "-o", "w.csv"]) == 0
    )
    return tmp_path


def test_a_workload_goes_to_stdout_without_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data goes to stdout, the note about it to stderr; both are the same as with -o."""
    assert run(["workload", "--profile", "profile.json", "--load", "1.5", "--duration", "3"]) == 0
    told = capsys.readouterr()
    assert told.out == (folder / "w.csv").read_text()
    assert "times the full mode's capacity" in told.err


def test_simulations_are_byte_identical_when_rerun(folder: Path) -> None:
    """Everything but `timing.json` is the same, noise, outage and a random policy included."""
    words = ["simulate", "profile.json", "w.csv", "--policy", "random", "--workers", "2", "--seed", "3"]
    words += ["--noise", "0.2", "--outage", "1:0.5:1", "--latency-scale", "1.1", "--latency-scale", "audio=0.9"]
    for name in ("one", "two"):
        assert run([*words, "-o", name, "--quiet"]) == 0
    for file in FILES:
        assert (folder / "one" / file).read_bytes() == (folder / "two" / file).read_bytes()
    assert b"failed" in (folder / "one" / "batches.csv").read_bytes()
    found = check_run(folder / "one", folder / "profile.json", folder / "w.csv", profiled=False)
    assert found == []


def test_a_simulation_prints_its_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One screen on stderr: policy, shares and modes; nothing on stdout, nothing at all when quiet."""
    assert run(["simulate", "profile.json", "w.csv", "--policy", "none", "-o", "run"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "violation ratio" in told.err
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert f"{summary['on_time']:.1%}" in told.err
    assert run(["simulate", "profile.json", "w.csv", "-o", "run", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_charging_for_decisions_still_holds(folder: Path) -> None:
    """With decisions charged for, every law but reproducibility stays."""
    assert run(["simulate", "profile.json", "w.csv", "--charge-decisions", "-o", "run", "--quiet"]) == 0
    assert check_run(folder / "run", folder / "profile.json", folder / "w.csv") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "profile.json", "-o", "run"], "simulate PROFILE… WORKLOAD"),
        (["simulate", "profile.json", "profile.json", "w.csv", "-o", "run"], "has a profile already"),
        (["simulate", "none.json", "w.csv", "-o", "run"], "none.json: cannot be read"),
        (["simulate", "profile.json", "profile.json", "-o", "run"], "profile.json: line 1: column"),
        (["simulate", "profile.json", "w.csv", "--policy", "best", "-o", "run"], "expected one of none"),
        (["simulate", "profile.json", "w.csv", "--latency-scale", "a=b", "-o", "run"], "MODE=NUMBER"),
        (["simulate", "profile.json", "w.csv", "--latency-scale", "x=2", "-o", "run"], "mode 'x'"),
        (["simulate", "profile.json", "w.csv", "--outage", "0:1", "-o", "run"], "WORKER:FROM:TO"),
        (["simulate", "profile.json", "w.csv", "--outage", "3:1:2", "-o", "run"], "a worker from 0 to 0"),
        (["workload", "--profile", "profile.json", "--rate", "1", "--load", "1"], "give one of them"),
        (["workload", "--profile", "profile.json", "--rate", "1", "--latency-slo", "soon"], "as in 5x"),
        (["workload", "--profile", "profile.json"], "no rate"),
        (["workload", *["--profile", "profile.json"] * 2, "--rate", "1"], "expected one a model"),
        (["workload", "weekly", "--profile", "profile.json", "--rate", "1"], "expected one of constant"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    """A mistake on the command line exits with 2 and one line that says what was expected."""
    capsys.readouterr()
    assert run(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1
