import dataclasses
from pathlib import Path

import pytest

from mosel.core.errors import ModelError
from mosel.models import synthetic
from mosel.models.base import Model, Recipe
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


def version(letter: str = "a", number: int = 1) -> Model:
    """Return a model whose version tells its options."""
    return dataclasses.replace(synthetic.noop, version=f"{letter}{number}")


recipe = Recipe(version, {"letter": str, "number": int})


def test_options_follow_a_name_after_commas() -> None:
    """A recipe makes its model with the options given, and with its own defaults for the others."""
    assert find(f"{__name__}:recipe").version == "a1"
    assert find(f"{__name__}:recipe,number=7").version == "a7"
    assert find(f"{__name__}:recipe,letter=b,number=7").version == "b7"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=1", "option 'size=1'; expected some of letter=…, number=…, each once"),
        ("letter", "option 'letter'; expected"),
        ("letter=", "option 'letter='; expected"),
        ("letter=a,letter=b", "option 'letter=b'; expected"),
        ("number=one", "option 'number=one' cannot be read: invalid literal"),
    ],
)
def test_an_option_that_a_recipe_does_not_take_is_a_model_error(options: str, message: str) -> None:
    """The message repeats the option and names those that there are."""
    with pytest.raises(ModelError) as raised:
        find(f"{__name__}:recipe,{options}")
    assert message in str(raised.value)


def test_a_model_that_is_none_of_a_recipe_takes_no_options() -> None:
    """An option that would do nothing is refused."""
    with pytest.raises(ModelError, match="takes no options; leave out seed=1"):
        find("mosel.models.synthetic:noop,seed=1")


def test_a_zoo_model_whose_packages_are_missing_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is in the message; a module of the user's own has no extra."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named 'PIL' (in {name})")

    monkeypatch.setattr("mosel.models.registry.importlib.import_module", missing)
    with pytest.raises(ModelError, match=r"No module named 'PIL'.*pip install 'mosel\[zoo\]'"):
        find("av-digits")
    with pytest.raises(ModelError) as raised:
        find("mine:model")
    assert "pip" not in str(raised.value)
