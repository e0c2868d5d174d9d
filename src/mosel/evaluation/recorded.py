"""A run directory read back, with full validation (`docs/formats.md`); the opposite of `results.py`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job
from mosel.evaluation.garbage import no_collector
from mosel.evaluation.results import (
    BATCH_COLUMNS,
    DONE,
    FAILED,
    JOB_COLUMNS,
    RUN_FORMAT,
    BatchResult,
    Counts,
    JobResult,
    Summary,
)
from mosel.evaluation.workload import (
    OPTIONAL,
    PARSERS,
    CellError,
    parse_count,
    parse_name,
    parse_seconds,
    parse_share,
    read_rows,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run directory as it was read back."""

    folder: Path
    jobs: tuple[JobResult, ...]
    batches: tuple[BatchResult, ...]
    summary: Summary
    timing: Mapping[str, Any]


@no_collector()
def read_run(folder: Path) -> Recorded:
    """Read and validate a run directory.

    Raises:
        FileError: naming the file, the line or key and what was expected.
    """
    if not folder.is_dir():
        raise FileError(
            f"{folder}: is no folder; expected a run directory from `mosel simulate` or `mosel replay`"
        )
    summary = _read_json(folder / "summary.json", Summary)
    if summary.format != RUN_FORMAT:
        raise FileError(
            f'{folder / "summary.json"}: key `format` is {summary.format!r}; expected "{RUN_FORMAT}"'
        )
    timing = _read_json(folder / "timing.json", dict[str, Any])
    jobs = tuple(_read_jobs(folder / "jobs.csv"))
    return Recorded(folder, jobs, tuple(_read_batches(folder / "batches.csv")), summary, timing)


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_bytes(path), type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise FileError(f"{path}: {error}") from error


def _parse_counts(text: str) -> Counts:
    pairs = [cell.rpartition(":") for cell in text.split(";")] if text else []
    if not all(name and number.isdecimal() for name, _, number in pairs):
        raise CellError("name:count pairs joined by ;")
    return tuple((name, int(number)) for name, _, number in pairs)


def _parse_outcome(text: str) -> State:
    if text not in OUTCOMES:
        raise CellError(f"one of {', '.join(OUTCOMES)}")
    return State(text)


def _parse_index(text: str) -> int:
    if not text.isdecimal():
        raise CellError("a whole number from 0")
    return int(text)


def _parse_status(text: str) -> bool:
    if text not in (DONE, FAILED):
        raise CellError(f"{DONE} or {FAILED}")
    return text == DONE


_JOB_PARSERS = {
    "job": parse_name,
    "arrival_s": parse_seconds,
    "requests": parse_count,
    "accuracy_slo": parse_share,
    "deadline_s": parse_seconds,
    "outcome": _parse_outcome,
    "decided_s": parse_seconds,
    "finish_s": lambda text: parse_seconds(text) if text else None,
    "accuracy": lambda text: parse_share(text) if text else None,
    "modes": _parse_counts,
    **{name: PARSERS[name] for name in OPTIONAL},
}
_BATCH_PARSERS = {
    "batch": _parse_index,
    "worker": _parse_index,
    "start_s": parse_seconds,
    "finish_s": parse_seconds,
    "mode": parse_name,
    "size": parse_count,
    "jobs": _parse_counts,
    "status": _parse_status,
    "model": str,
    "bucket": lambda text: _parse_index(text) if text else None,
    "resumed": _parse_counts,
}


def _read_jobs(path: Path) -> Iterable[JobResult]:
    for cells in _read_table(path, JOB_COLUMNS, _JOB_PARSERS):
        job = Job(
            cells["job"],
            cells.get("model", ""),
            cells["requests"],
            cells["accuracy_slo"],
            cells["arrival_s"],
            cells["deadline_s"],
            **{name: cells[name] for name in OPTIONAL if name in cells and name != "model"},
        )
        yield JobResult(
            job, cells["outcome"], cells["decided_s"], cells["finish_s"], cells["accuracy"], cells["modes"]
        )


def _read_batches(path: Path) -> Iterable[BatchResult]:
    for cells in _read_table(path, BATCH_COLUMNS, _BATCH_PARSERS):
        yield BatchResult(
            cells["batch"],
            cells["worker"],
            cells["start_s"],
            cells["finish_s"],
            cells["mode"],
            cells["size"],
            cells["jobs"],
            cells["status"],
            cells.get("model", ""),
            cells.get("bucket"),
            cells.get("resumed", ()),
        )


def _read_table(path: Path, required: Sequence[str], parsers: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for _, cells in read_rows(file, path, required, parsers):
                yield cells
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: is no CSV in UTF-8: {error}") from error
