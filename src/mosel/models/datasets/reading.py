"""What readers of data sets share: samples decoded on demand, tables with a header, files that are missing."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.models.base import Further, Samples

Array = NDArray[Any]

TABLE_BYTES = 256 << 20
PICKLES = (".pkl", ".pickle", ".p")
LEAST = 1e-6
"""What stands for the end of silence, on a scale on which full is about 1."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled samples of a data set, and what is measured on them.

    Attributes:
        samples: of its test split.
        further: metrics beside the one that SLOs are held against.
    """

    samples: Samples
    further: Further


class Lazy(Sequence[Array]):
    """One array a sample, read when it is asked for and not kept: a data set need not fit into memory."""

    def __init__(self, count: int, read: Callable[[int], Array]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Read one sample; IndexError beyond the last."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._read(int(index))


def table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a comma-separated file with a header.

    Raises:
        FileError: it cannot be read, is no UTF-8 text, or one of `columns` is missing.
    """
    try:
        text = read_bytes(path, TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is no UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise FileError(f"{path}: has no column {', '.join(missing)}; it has {reader.fieldnames or 'none'}")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise FileError(f"{path}: line {reader.line_num}: {error}") from error
    short = next((n for n, row in enumerate(rows, 2) if any(row[name] is None for name in columns)), None)
    if short:
        raise FileError(f"{path}: row {short} has fewer columns than its header")
    return rows


def number(path: Path, row: Mapping[str, str], column: str) -> float:
    """Return a finite number of a row.

    Raises:
        FileError: it is none.
    """
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FileError(f"{path}: column {column} holds {row[column]!r}; expected a finite number")
    return value


def plain(path: Path, name: str) -> str:
    """Return a name that is to be part of a path.

    Raises:
        FileError: it would lead elsewhere.
    """
    if not name or name in (".", "..") or Path(name).name != name:
        raise FileError(f"{path}: names {name!r}; expected the plain name of a file or folder")
    return name


def first(folder: Path, *candidates: str) -> Path | None:
    """Return the first of these paths in `folder` that is there."""
    return next((folder / name for name in candidates if (folder / name).exists()), None)


def absent(folder: Path, expected: str, instead: str = "") -> FileError:
    """Return the error that says what a folder lacks; where pickles lie in it, that they are never opened.

    Args:
        folder: that was given.
        expected: the layout, in words.
        instead: what to do with a pickle of this data set.
    """
    if not folder.is_dir():
        return FileError(f"{folder}: is no folder; expected {expected}")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if not pickles:
        return FileError(f"{folder}: expected {expected}")
    return FileError(
        f"{folder}: holds {pickles[0]}, a pickle, which runs whatever its author wrote when it is opened: "
        f"it is never read here. Expected {expected}. {instead}".rstrip()
    )


def present(values: Array) -> Array:
    """Return values whose last entry along the first axis is not all zero.

    Zeros at a request's end fill it up and count as nothing; what a data set holds are no such zeros: there
    the least number stands at the end.
    """
    if values[-1].any():
        return values
    kept = values.copy()
    kept[-1, ...] = LEAST if kept.dtype.kind == "f" else 1
    return kept
