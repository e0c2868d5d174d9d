import ast
import inspect
import re
from pathlib import Path

import pytest

from mosel.core import errors


def test_every_error_is_below_mosel_error() -> None:
    """Each class in the module is a MoselError, so that an edge can catch them all."""
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, errors.MoselError) for kind in found)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing at the top of the module names each error below its parent."""
    above: list[str] = []
    parents: dict[str, str] = {}
    for indent, name in re.findall(r"^ {4}([│ ├└─]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        above[len(indent) // 4 :] = [name]
        parents[name] = above[-2] if len(above) > 1 else ""
    assert parents.pop("MoselError") == ""
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind is not errors.MoselError
    }
    assert parents == real


def test_there_is_one_tree() -> None:
    """No other module defines an error below these, so that the drawing shows all that can be caught."""
    below = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    package = Path(errors.__file__).parents[1]
    elsewhere = [
        f"{path}: {node.name}"
        for path in package.rglob("*.py")
        if path != Path(errors.__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and below & {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    ]
    assert elsewhere == []


@pytest.mark.parametrize("retry_after_s", [1.0, 7.5])
def test_refusal_says_when_to_come_back(retry_after_s: float) -> None:
    """A refusal carries its message and the seconds after which to retry."""
    error = errors.RefusedError("draining", retry_after_s)
    assert str(error) == "draining"
    assert error.retry_after_s == retry_after_s
