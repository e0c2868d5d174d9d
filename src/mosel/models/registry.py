"""How a word on the command line becomes a `Model`: a zoo name (an entry point) or `package.module:object`.

A size is part of a zoo name (`vilt`, `vilt-small`). Options follow it, each after a comma:
`vilt,checkpoint=vilt.safetensors,vocabulary=vocab.txt`. A worker finds its model by the same word.
"""

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

from mosel.core.errors import ModelError
from mosel.models.base import Model, Recipe

GROUP = "mosel.models"


def zoo() -> tuple[str, ...]:
    """Return the names of the models that are installed."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find(word: str) -> Model:
    """Return the model that `word` names.

    Raises:
        ModelError: there is none, it cannot be imported, the object is neither a `Model` nor a `Recipe`, or it
            does not take an option that is given.
    """
    name, *given = word.split(",")
    found = _found(name)
    if isinstance(found, Recipe):
        return found.make(**_options(word, found, given))
    if not isinstance(found, Model):
        raise ModelError(f"model {word!r}: is a {type(found).__name__}; expected a mosel.Model")
    if given:
        raise ModelError(f"model {word!r}: {name} takes no options; leave out {', '.join(given)}")
    return found


def _found(word: str) -> object:
    target = word if ":" in word else _zoo_target(word)
    module_name, _, path = target.partition(":")
    try:
        found: object = _import(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except ImportError as error:
        extra = "" if ":" in word else "; run: pip install 'mosel[zoo]'"
        raise ModelError(f"model {word!r}: {module_name} cannot be imported: {error}{extra}") from error
    except AttributeError as error:
        raise ModelError(f"model {word!r}: {module_name} has no {path!r}") from error
    return found


def _options(word: str, recipe: Recipe, given: list[str]) -> dict[str, object]:
    options: dict[str, object] = {}
    for each in given:
        name, _, text = each.partition("=")
        if name not in recipe.options or not text or name in options:
            known = ", ".join(f"{option}=…" for option in recipe.options)
            raise ModelError(f"model {word!r}: option {each!r}; expected some of {known}, each once")
        try:
            options[name] = recipe.options[name](text)
        except ValueError as error:
            raise ModelError(f"model {word!r}: option {each!r} cannot be read: {error}") from error
    return options


def _zoo_target(word: str) -> str:
    for point in entry_points(group=GROUP):
        if point.name == word:
            return point.value
    raise ModelError(
        f"model {word!r}: not in the zoo ({', '.join(zoo()) or 'empty'}); "
        "give one of these, or package.module:object"
    )


def _import(name: str) -> object:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does: a model file beside the user is found
    return importlib.import_module(name)
