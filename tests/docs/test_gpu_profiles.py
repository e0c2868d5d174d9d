import json
from pathlib import Path
from typing import Any

import pytest

from mosel.core.errors import UsageError
from mosel.core.tables import read_profile
from mosel.models.registry import find
from mosel.offline.journal import journal_path
from tests.docs.test_pages import load_script

WORDS = ("--device", "cpu", "--size", "small", "--models", "selfmm", "--precisions", "")
LITTLE = ("--batch", "1", "--repeats", "1", "--samples", "20")


def test_it_makes_what_is_missing_and_leaves_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile names its device and precisions; given again, the command does not touch it."""
    script = load_script("gpu_profiles")
    words = (*WORDS[:-1], "float32,bfloat16", *LITTLE, "--output", str(tmp_path))
    script.main(words)
    path = tmp_path / "selfmm-small-cpu.json"
    assert capsys.readouterr().out.strip() == str(path)
    profile = read_profile(path).profile
    assert profile.device.kind == "cpu"
    assert {profile.precision_of(mode) for mode in profile.modes} == {"float32", "bfloat16"}
    before = path.read_bytes()
    script.main(words)
    assert path.read_bytes() == before


def test_a_profile_of_other_weights_is_made_anew(tmp_path: Path) -> None:
    """So is one of another software; one that cannot be read is as good as none."""
    script = load_script("gpu_profiles")
    script.main((*WORDS[:-1], "float32", *LITTLE, "--output", str(tmp_path)))
    path, settings = tmp_path / "selfmm-small-cpu.json", script.Settings("cpu")
    model = script.at(find("selfmm-small"), ("float32",))
    assert script.finished(path, model, settings)
    assert not script.finished(path, script.at(find("selfmm-small,seed=1"), ("float32",)), settings)
    found: dict[str, Any] = json.loads(path.read_text())
    found["software"]["torch"] = "1.0"
    path.write_text(json.dumps(found))
    assert not script.finished(path, model, settings)
    path.write_text("{")
    assert not script.finished(path, model, settings)


def test_what_a_model_does_not_offer_is_left_out() -> None:
    """TBN has no int8; a model with none of the precisions is an error that names those it has."""
    script = load_script("gpu_profiles")
    assert script.at(find("tbn"), ("float32", "int8")).precisions == ("float32",)
    with pytest.raises(UsageError, match="offers bfloat16, float16, float32"):
        script.at(find("tbn"), ("int8",))


def test_an_interrupted_profile_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was timed stays in a journal beside the profile, and is not timed again."""
    script = load_script("gpu_profiles")
    words = (*WORDS[:-1], "float32", *LITTLE, "--output", str(tmp_path))
    path = tmp_path / "selfmm-small-cpu.json"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mosel.offline.session.Session.score", interrupt)
        with pytest.raises(KeyboardInterrupt):
            script.main(words)
    assert not path.exists()
    timed = journal_path(path).read_text().splitlines()[1:]
    assert timed
    assert all('"timed"' in line for line in timed)
    capsys.readouterr()
    script.main(words)
    assert "going on from where an earlier run was interrupted" in capsys.readouterr().err
    assert read_profile(path).profile.modes
    assert not journal_path(path).exists()


def test_a_model_that_fails_does_not_keep_the_others_from_being_profiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TBN offers no int8: that is said, Self-MM's profile is made, and the exit status tells."""
    script = load_script("gpu_profiles")
    words = (*WORDS[:4], "--models", "tbn,selfmm", "--precisions", "int8", *LITTLE, "--output", str(tmp_path))
    with pytest.raises(SystemExit, match="not made: tbn-small"):
        script.main(words)
    assert "tbn-small: model 'tbn-small': offers" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["selfmm-small-cpu.json"]
