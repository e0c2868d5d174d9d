from pathlib import Path

import pytest

from mosel.core.errors import ModelError
from mosel.models import synthetic
from mosel.models.registry import find, zoo


def test_the_zoo_names_the_bundled_model() -> None:
    """`av-digits` is installed with the package."""
    assert "av-digits" in zoo()


def test_an_object_is_found_by_its_module() -> None:
    """`package.module:object` gives that object."""
    assert find("mosel.models.synthetic:toy") is synthetic.toy


def test_a_file_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model file beside the user needs no installation."""
    (tmp_path / "besides_me.py").write_text("from mosel.models.synthetic import noop as mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find("besides_me:mine") is synthetic.noop


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("av-digit", "not in the zoo"),
        ("no.such.module:model", "cannot be imported"),
        ("mosel.models.synthetic:tyo", "has no 'tyo'"),
        ("mosel.models.synthetic:linear", "is a function; expected a mosel.Model"),
    ],
)
def test_what_names_no_model_is_a_model_error(word: str, message: str) -> None:
    """The message repeats what was given and says what was wrong."""
    with pytest.raises(ModelError) as raised:
        find(word)
    assert message in str(raised.value)
    assert word in str(raised.value)
