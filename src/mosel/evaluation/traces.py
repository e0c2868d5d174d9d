"""Recorded arrivals, read as requests in each second, whatever form they were published in.

1. `second count` in two columns, by blanks or commas, a header or none. Where seconds come at one regular step
   above 1, a count is a rate that holds until the next; otherwise seconds that are missing had no request.
2. Counts alone, separated by any blanks: one for each consecutive second.
3. A CSV whose first column is `second…` and whose last is the count.
4. One row a request under a header that begins with `timestamp`: dates, as in Azure's two kinds of traces,
   or seconds, as in BurstGPT. Only the instants are read.
"""

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError
from mosel.core.files import read_bytes

Counts = NDArray[np.int64]
MOST_SECONDS = 40_000_000
EXPECTED = "expected `second count` rows, counts alone, or a CSV with a timestamp a request"


def read_counts(path: Path) -> Counts:
    """Return the requests of each second from the first on, of shape (seconds,).

    Raises:
        FileError: naming the line and what was expected.
    """
    try:
        lines = read_bytes(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is no text; unpack it first, then {EXPECTED}") from error
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise FileError(f"{path}: is empty; {EXPECTED}")
    first = _cells(lines[0])
    counts = _by_header(lines, first, path) if not _is_number(first[0]) else _by_columns(lines, first, path)
    if not counts.sum():
        raise FileError(f"{path}: has no request; expected at least one")
    return counts


def _cells(line: str) -> list[str]:
    return next(csv.reader([line])) if "," in line else line.split()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _by_header(lines: Sequence[str], header: Sequence[str], path: Path) -> Counts:
    name = header[0].strip("\ufeff ").lower()
    if name.startswith("timestamp"):
        return _from_instants([_instant_s(line, number, path) for number, line in _rows(lines)], path)
    if name.startswith("second") and len(header) > 1:
        return _from_pairs([_pair(line, number, path) for number, line in _rows(lines)], path)
    raise FileError(f"{path}: line 1: column {header[0][:40]!r} is unknown; {EXPECTED}")


def _by_columns(lines: Sequence[str], first: Sequence[str], path: Path) -> Counts:
    if len(first) == 2 and len(lines) > 1:
        return _from_pairs([_pair(line, number, path) for number, line in enumerate(lines, 1)], path)
    cells = [(number, cell) for number, line in enumerate(lines, 1) for cell in line.split()]
    return np.array([_count(cell, number, path) for number, cell in cells], np.int64)


def _rows(lines: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(lines[1:], 2))


def _pair(line: str, number: int, path: Path) -> tuple[int, int]:
    cells = _cells(line)
    if len(cells) < 2:
        raise FileError(f"{path}: line {number}: {line[:40]!r}; expected a second and a count")
    return _count(cells[0], number, path), _count(cells[-1], number, path)


def _count(text: str, number: int, path: Path) -> int:
    value = float(text) if _is_number(text) else -1.0
    if not 0 <= value < 1e9 or value != int(value):
        raise FileError(f"{path}: line {number}: {text[:40]!r}; expected a whole number from 0")
    return int(value)


def _from_pairs(pairs: Sequence[tuple[int, int]], path: Path) -> Counts:
    seconds, counts = np.array(pairs, np.int64).T
    steps = np.diff(seconds)
    if (steps <= 0).any():
        raise FileError(f"{path}: its seconds do not ascend; expected each second once, in order")
    if len(steps) and steps[0] > 1 and (steps == steps[0]).all():
        _check_span(len(counts) * int(steps[0]), path)
        return np.repeat(counts, steps[0])
    return _laid_out(seconds - seconds[0], counts, path)


def _from_instants(instants_s: Sequence[float], path: Path) -> Counts:
    if not instants_s:
        raise FileError(f"{path}: has no rows; expected one for each request")
    _check_span(max(instants_s) - min(instants_s), path)
    seconds = np.floor(np.array(instants_s) - min(instants_s)).astype(np.int64)
    return _laid_out(seconds, np.ones(len(seconds), np.int64), path)


def _check_span(seconds: float, path: Path) -> None:
    if not seconds < MOST_SECONDS:
        raise FileError(f"{path}: spans {seconds:,.0f} s; expected less than {MOST_SECONDS:,}")


def _laid_out(seconds: Counts, counts: Counts, path: Path) -> Counts:
    _check_span(int(seconds.max()), path)
    return np.bincount(seconds, weights=counts).astype(np.int64)


def _instant_s(line: str, number: int, path: Path) -> float:
    text = _cells(line)[0].strip()
    if _is_number(text):
        return float(text)
    try:
        found = datetime.fromisoformat(_microseconds(text))
    except ValueError:
        raise FileError(f"{path}: line {number}: {text[:40]!r}; expected a date and time, or seconds") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _microseconds(text: str) -> str:
    """Return the text with no more digits of a second than dates are parsed with (Azure's have seven)."""
    whole, point, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{whole}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}" if point else text
