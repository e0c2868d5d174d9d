import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from mosel.cli import USAGE_STATUS, run
from mosel.core.tables import read_profile
from mosel.models.tvlt import SHAPES
from mosel.models.tvlt.weights import network_of
from tests.models.datasets import made
from tests.models.datasets.test_mosei import as_tvlt

SCORES = (1.5, -0.5)


def checkpoint(path: Path) -> Path:
    """Write a small network's weights, at random."""
    save_file(network_of(SHAPES["small"], None, seed=0).state_dict(), path)
    return path


def test_a_checkpoint_and_a_data_set_make_a_profile(tmp_path: Path) -> None:
    """Accuracy is measured on the data set, and further metrics of each mode stand in `extra`."""
    as_tvlt(tmp_path / "data")
    words = ["profile", "tvlt-small", "--data", f"mosei:{tmp_path / 'data'}", "--batch", "1", "--repeats", "1"]
    given = ["--checkpoint", str(checkpoint(tmp_path / "w.safetensors")), "-o", str(tmp_path / "p.json")]
    assert run([*words, *given, "--quiet"]) == 0
    profile = read_profile(tmp_path / "p.json").profile
    extra = profile.extra or {}
    assert extra["accuracy_source"] == "measured"
    assert extra["samples_source"] == "CMU-MOSEI, 2 clips of its test split"
    assert set(extra["metrics"]) == set(profile.mode_names)
    for name, mode in zip(profile.mode_names, profile.modes, strict=True):
        assert mode.samples == len(SCORES)
        assert extra["metrics"][name]["accuracy"] == mode.accuracy
        assert extra["metrics"][name]["MAE"] > 0
    assert run([*words, *given, "--quiet"]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["extra"]["metrics"] == extra["metrics"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["tvlt-small", "--data", "mosei:nowhere"],
            "nowhere: is no folder; expected labels/label_file_test.csv",
        ),
        (["tvlt-small", "--data", "epic:nowhere"], "epic is for tbn, not for tvlt-small"),
        (["tvlt-small", "--data", "mosei:nowhere", "--update"], "leave --data out, or --update"),
        (["tvlt-small", "--checkpoint", "no.safetensors"], "no.safetensors: cannot be read"),
        (["av-digits", "--checkpoint", "no.safetensors"], "av-digits takes no options"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's mistake exits 2."""
    assert run(["profile", *words, "--quiet"]) == USAGE_STATUS
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


def test_a_damaged_clip_ends_the_run_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However late it is found."""
    as_tvlt(tmp_path)
    made.sound(tmp_path / "test" / "audio_wav" / "a_1.wav", made.tone(0, 16_000), 16_000)
    words = ["tvlt-small", "--data", f"mosei:{tmp_path}", "--batch", "1", "--repeats", "1", "--quiet"]
    assert run(["profile", *words, "-o", str(tmp_path / "p.json")]) == USAGE_STATUS
    assert "a_1.wav: its sound is empty" in capsys.readouterr().err
