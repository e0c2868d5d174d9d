import subprocess
import sys
from pathlib import Path

import pytest

from mosel.cli import FAILURE_STATUS, USAGE_STATUS, run
from mosel.core.tables import read_profile
from mosel.models.registry import find
from mosel.offline import accuracy
from mosel.runtime.device import describe, profile_path

MODEL = "tests.offline.stand_ins:MODEL"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOSEL_CACHE", str(tmp_path / "cache"))


def test_the_profile_is_written_and_its_path_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the path goes to stdout; the table goes to stderr."""
    path = tmp_path / "p.json"
    assert run(["profile", MODEL, "-o", str(path), "--repeats", "1"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}\n"
    assert "ear+eye" in told.err
    assert read_profile(path).profile.mode_names == ("ear", "eye", "ear+eye")


def test_accuracies_that_are_not_claimed_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights have a dash where others have an accuracy, and a note."""
    assert run(["profile", "tests.offline.stand_ins:UNTRAINED", "--repeats", "1"]) == 0
    told = capsys.readouterr().err
    assert "note: the weights of senses are random" in told
    assert "0.000" not in told


def test_a_model_with_length_buckets_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Mode by mode, the upper limit of the bucket behind its name; all of it within 80 columns."""
    assert run(["profile", "tests.offline.test_length_buckets:PARROT", "--repeats", "1"]) == 0
    rows = [line.split() for line in capsys.readouterr().err.splitlines() if "sight " in line]
    assert [row[:2] for row in rows] == [["sight", "2"], ["sight", "5"], ["sight", "10"]] + [
        ["sound+sight", limit] for limit in ("2", "5", "10")
    ]
    assert "…" not in capsys.readouterr().err


def test_by_default_it_goes_to_the_cache_where_serving_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is the one that `profile_path` names for this model on this device."""
    assert run(["profile", MODEL, "--repeats", "1", "--quiet"]) == 0
    found = find(MODEL)
    expected = profile_path(found.name, found.version, describe("cpu", found.framework))
    told = capsys.readouterr()
    assert told.out == f"{expected}\n"
    assert told.err == ""
    assert read_profile(expected).profile.model == "senses"


def test_a_second_run_keeps_the_accuracies_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The profile at the target is read before it is replaced."""
    run(["profile", MODEL, "--repeats", "1", "--quiet"])
    assert run(["profile", MODEL, "--repeats", "1"]) == 0
    assert "note: accuracies are kept from 20" in capsys.readouterr().err


def test_an_update_refreshes_the_profile_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --update the profile that is there is re-checked; without one that is an error."""
    words = ["profile", MODEL, "-o", str(tmp_path / "p.json"), "--update"]
    assert run(words) == USAGE_STATUS
    assert "p.json: cannot be read" in capsys.readouterr().err
    run(["profile", MODEL, "-o", str(tmp_path / "p.json"), "--repeats", "1", "--quiet"])
    before = read_profile(tmp_path / "p.json").profile
    assert run(words) == 0
    assert read_profile(tmp_path / "p.json").profile.batch_sizes == before.batch_sizes


def test_a_broken_file_in_the_way_is_replaced_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile cut short does not stop a new one from being made."""
    path = tmp_path / "p.json"
    path.write_text('{"format": "mosel.prof')
    assert run(["profile", MODEL, "-o", str(path), "--repeats", "1"]) == 0
    assert "is not valid JSON" in capsys.readouterr().err
    assert read_profile(path).profile.model == "senses"


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves what was measured beside the output, and the same command completes it."""
    path = tmp_path / "p.json"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(accuracy, "lower_bound", interrupt)
        assert run(["profile", MODEL, "-o", str(path), "--repeats", "1"]) == 130
    told = capsys.readouterr().err
    assert f"What was measured is kept in {path}.partial: give the command again to go on." in told
    assert not path.exists()
    assert run(["profile", MODEL, "-o", str(path), "--repeats", "1"]) == 0
    assert "going on from where an earlier run was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no-such-model"], USAGE_STATUS, "not in the zoo"),
        ([MODEL, "--batch", "0"], USAGE_STATUS, "--batch 0: expected a whole number from 1"),
        ([MODEL, "--threads", "4096"], USAGE_STATUS, "4096 threads asked for; this process may use"),
        ([MODEL, "--accuracy", "no.json"], USAGE_STATUS, "no.json: cannot be read"),
        ([MODEL, "--accuracy", "no.json", "--update"], USAGE_STATUS, "--update keeps the profile's accuracies"),
        (["tests.offline.stand_ins:FAILS"], FAILURE_STATUS, "runs in no mode: model 'senses'"),
        (["tests.offline.stand_ins:EMPTY"], USAGE_STATUS, "its set of labelled samples is empty"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_status(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's mistake exits 2, a model that fails exits 1; stdout stays empty."""
    assert run(["profile", *words, "--quiet"]) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert len(told.err.splitlines()) == 1


def test_a_numpy_model_is_profiled_without_torch(tmp_path: Path) -> None:
    """Where no torch model runs, torch need not be installed."""
    words = ["profile", MODEL, "-o", str(tmp_path / "p.json"), "--repeats", "1", "--quiet"]
    code = (
        f"import sys; from mosel import cli; status = cli.run({words!r}); print('torch' in sys.modules, status)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False 0"
