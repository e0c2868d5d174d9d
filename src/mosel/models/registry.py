"""How a word on the command line becomes a `Model`: a zoo name (an entry point) or `package.module:object`."""

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

from mosel.core.errors import ModelError
from mosel.models.base import Model

GROUP = "mosel.models"


def zoo() -> tuple[str, ...]:
    """Return the names of the models that are installed."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find(word: str) -> Model:
    """Return the model that `word` names.

    Raises:
        ModelError: there is none, it cannot be imported, or the object is no `Model`.
    """
    target = word if ":" in word else _zoo_target(word)
    module_name, _, path = target.partition(":")
    try:
        found: object = _import(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except ImportError as error:
        raise ModelError(f"model {word!r}: {module_name} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ModelError(f"model {word!r}: {module_name} has no {path!r}") from error
    if not isinstance(found, Model):
        raise ModelError(f"model {word!r}: is a {type(found).__name__}; expected a mosel.Model")
    return found


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
