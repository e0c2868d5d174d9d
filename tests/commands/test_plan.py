from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.files import read_bytes, sha256
from mosel.core.tables import read_plan, write_profile
from tests.online.driver import profile


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A profile on disk."""
    path = tmp_path / "profile.json"
    write_profile(profile(), path)
    return path


def test_the_plan_stands_beside_the_profile(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default plan.json; it names the profile's hash; a table of the largest size goes to stderr."""
    assert run(["plan", str(source)]) == 0
    found = read_plan(source.with_name("plan.json"))
    assert found.profile_sha256 == sha256(read_bytes(source))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "strategies of a job of 4 requests" in shown.err
    assert "audio+video × 1" in shown.err


def test_quiet_shows_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And -o says where the plan goes."""
    target = tmp_path / "deep" / "p.json"
    assert run(["plan", str(source), "-o", str(target), "--quiet"]) == 0
    assert list(read_plan(target).frontiers) == ["1", "2", "3", "4"]
    assert capsys.readouterr() == ("", "")


def test_the_plan_can_go_to_standard_output(source: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`-o -` writes what the file would hold, and no file."""
    assert run(["plan", str(source), "-o", "-"]) == 0
    out = capfdbinary.readouterr().out
    assert not source.with_name("plan.json").exists()
    run(["plan", str(source), "--quiet"])
    assert out == read_bytes(source.with_name("plan.json"))


def test_another_size_can_be_shown(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--size 1` shows the three modes."""
    assert run(["plan", str(source), "--size", "1"]) == 0
    shown = capsys.readouterr().err
    assert "a job of 1 requests" in shown
    assert [line.split()[0] for line in shown.splitlines() if "×" in line] == ["│", "│", "│"]


@pytest.mark.parametrize("size", ["5", "0", "-1"])
def test_a_size_that_was_not_planned_is_an_error(
    source: Path, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says which sizes there are; exit status 2."""
    assert run(["plan", str(source), f"--size={size}"]) == 2
    shown = capsys.readouterr().err
    assert shown == f"mosel: --size {size} is not in the plan; expected a job size from 1 to 4\n"
    assert not source.with_name("plan.json").exists()


def test_with_length_buckets_a_size_is_shown_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One table a bucket."""
    write_profile(profile(buckets=(1.0, 2.0)), tmp_path / "profile.json")
    assert run(["plan", str(tmp_path / "profile.json"), "--size", "2"]) == 0
    shown = capsys.readouterr().err
    assert "a job of 2@0 requests" in shown
    assert "a job of 2@1 requests" in shown


def test_a_profile_that_is_cut_short_is_an_error(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the file; exit status 2; no plan."""
    source.write_bytes(source.read_bytes()[:100])
    assert run(["plan", str(source)]) == 2
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "profile.json: is not valid JSON" in shown
    assert not source.with_name("plan.json").exists()
