"""`workload.csv`: which job arrives when, with which SLOs (`docs/formats.md`).

Reading validates every cell and streams, so that a million rows are a matter of seconds. How workloads are made
stands in `arrivals.py`; what is done with one, in `simulate.py` and `replay.py`.
"""

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import msgspec

from mosel.core.clock import to_ns, to_s
from mosel.core.errors import FileError
from mosel.core.files import READ_LIMIT_BYTES, write_atomic
from mosel.core.types import Job
from mosel.evaluation.garbage import no_collector

REQUIRED = ("job", "arrival_s", "requests", "accuracy_slo", "latency_slo_s")
OPTIONAL = ("modalities", "model", "tenant", "weight", "length")
ROW_LIMIT = 20_000_000
MOST_REQUESTS = 1_000_000
"""Of one job: each is kept apart in the scheduler."""
COUNT_DIGITS = 20
"""Beyond that a number is not even looked at."""
MOST_SECONDS = 1e9
"""Of an arrival and of a latency SLO; a deadline's nanoseconds then fit 64 bits."""

Modalities = Mapping[str, Sequence[str]]
"""The models that a workload may name, each with its modalities in its own order."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs in order of arrival, and which optional columns their file had."""

    jobs: tuple[Job, ...]
    columns: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """How many requests all jobs have together."""
        return sum(job.requests for job in self.jobs)


@no_collector()
def read_workload(path: Path, models: Modalities | None = None) -> Workload:
    """Read and validate a `workload.csv`.

    With `models`, a job's model must be among them (the only one is the default) and its modalities must be
    that model's; they are put into the model's own order.

    Raises:
        FileError: naming the file, the line, the column and what was expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, path, models)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: is no CSV in UTF-8: {error}") from error


def merged(workloads: Sequence[Workload]) -> Workload:
    """Return one workload of several models' in order of arrival, each job named after its model."""
    jobs = [msgspec.structs.replace(job, id=f"{job.model}-{job.id}") for each in workloads for job in each.jobs]
    jobs.sort(key=lambda job: (job.arrival_ns, job.id))
    known = {"model", *(name for each in workloads for name in each.columns)}
    return Workload(tuple(jobs), tuple(name for name in OPTIONAL if name in known))


def write_workload(workload: Workload, path: Path) -> None:
    """Write `workload` atomically."""
    write_atomic(path, format_workload(workload))


def format_workload(workload: Workload) -> str:
    """Return the text of a `workload.csv`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(REQUIRED + workload.columns)
    for job in workload.jobs:
        slo_s = to_s(job.deadline_ns - job.arrival_ns)
        row = (job.id, to_s(job.arrival_ns), job.requests, job.accuracy_slo, slo_s)
        writer.writerow(row + optional_cells(job, workload.columns))
    return out.getvalue()


def optional_cells(job: Job, columns: Iterable[str]) -> tuple[Any, ...]:
    """Return the job's cells of these optional columns, as they are written."""
    return tuple(_OPTIONAL_CELLS[name](job) for name in columns)


_OPTIONAL_CELLS: dict[str, Callable[[Job], Any]] = {
    "modalities": lambda job: "+".join(job.modalities),
    "model": lambda job: job.model,
    "tenant": lambda job: job.tenant,
    "weight": lambda job: job.weight,
    "length": lambda job: "" if job.length is None else job.length,
}


class CellError(ValueError):
    """A cell that does not hold what its column asks for; the text says what was expected."""


_MARKS = frozenset(";:\n\r")


def parse_name(text: str) -> str:
    """Return a job's name."""
    if not text or not _MARKS.isdisjoint(text):
        raise CellError("a name without ; : or line breaks")
    return text


def parse_seconds(text: str) -> int:
    """Return seconds ≥ 0 as nanoseconds."""
    return to_ns(
        _number(text, f"seconds ≥ 0, at most {MOST_SECONDS:g}", lambda value: 0 <= value <= MOST_SECONDS)
    )


def parse_count(text: str) -> int:
    """Return a whole number of requests, from 1."""
    if not text.isdecimal() or len(text) > COUNT_DIGITS or not 1 <= int(text) <= MOST_REQUESTS:
        raise CellError(f"a whole number from 1 to {MOST_REQUESTS:,}")
    return int(text)


def parse_share(text: str) -> float:
    """Return a number from 0 to 1."""
    return _number(text, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def _parse_slo(text: str) -> int:
    return to_ns(
        _number(text, f"seconds > 0, at most {MOST_SECONDS:g}", lambda value: 0 < value <= MOST_SECONDS)
    )


def _parse_weight(text: str) -> float:
    return _number(text, "a number > 0, or nothing for 1", lambda value: value > 0) if text else 1.0


def _parse_length(text: str) -> float | None:
    return _number(text, "a number > 0, or nothing", lambda value: value > 0) if text else None


@lru_cache(maxsize=1024)
def _parse_modalities(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+")) if text else ()
    if "" in names or len(set(names)) != len(names):
        raise CellError("different names joined by +, or nothing for all")
    return names


def _number(text: str, expected: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        raise CellError(expected) from None
    if "_" in text or not math.isfinite(value) or not fits(value):
        raise CellError(expected)
    return value


PARSERS: dict[str, Callable[[str], Any]] = {
    "job": parse_name,
    "arrival_s": parse_seconds,
    "requests": parse_count,
    "accuracy_slo": parse_share,
    "latency_slo_s": _parse_slo,
    "modalities": _parse_modalities,
    "model": str,
    "tenant": str,
    "weight": _parse_weight,
    "length": _parse_length,
}


def read_rows(
    file: TextIO, path: Path, required: Sequence[str], parsers: Mapping[str, Callable[[str], Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the parsed cells of every row, the header checked first.

    Raises:
        FileError: an unknown, missing or repeated column, a short or long row, or a cell that does not parse.
    """
    if os.fstat(file.fileno()).st_size > READ_LIMIT_BYTES:
        raise FileError(f"{path}: holds more than {READ_LIMIT_BYTES:,} bytes; is it the right file?")
    reader = csv.reader(file, strict=True)
    header = next(reader, [])
    _check_header(header, path, required, parsers)
    columns = [(name, parsers[name]) for name in header]
    for row in reader:
        if len(row) != len(header):
            raise FileError(f"{path}: line {reader.line_num}: {len(row)} cells; expected {len(header)}")
        try:
            cells = {name: parse(text) for (name, parse), text in zip(columns, row, strict=True)}
        except CellError:
            raise _cell_error(path, reader.line_num, columns, row) from None
        yield reader.line_num, cells


def _check_header(header: Sequence[str], path: Path, required: Sequence[str], known: Iterable[str]) -> None:
    for name in header:
        if name not in known:
            raise FileError(f"{path}: line 1: column {name!r} is unknown; expected {', '.join(known)}")
    if len(set(header)) != len(header):
        raise FileError(f"{path}: line 1: a column stands twice in {', '.join(header)}")
    if missing := [name for name in required if name not in header]:
        raise FileError(f"{path}: line 1: column {missing[0]!r} is missing; expected {', '.join(required)}")


def _cell_error(
    path: Path, line: int, columns: Sequence[tuple[str, Callable[[str], Any]]], row: Sequence[str]
) -> FileError:
    for (name, parse), text in zip(columns, row, strict=True):
        try:
            parse(text)
        except CellError as error:
            return FileError(f"{path}: line {line}: column {name!r} is {text[:80]!r}; expected {error}")
    raise AssertionError("a cell failed to parse and then parsed")


def _parse(file: TextIO, path: Path, models: Modalities | None) -> Workload:
    jobs: list[Job] = []
    seen: set[str] = set()
    latest_ns = 0
    columns: tuple[str, ...] = ()
    fitted: dict[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]] = {}
    for line, cells in read_rows(file, path, REQUIRED, PARSERS):
        columns = columns or tuple(name for name in cells if name in OPTIONAL)
        given = (cells.get("model", ""), cells.get("modalities", ()))
        if given not in fitted:
            fitted[given] = given if models is None else _fitted(*given, models, f"{path}: line {line}")
        job = _job(cells, *fitted[given])
        if problem := _order_problem(job, latest_ns, seen, len(jobs)):
            raise FileError(f"{path}: line {line}: {problem}")
        seen.add(job.id)
        latest_ns = job.arrival_ns
        jobs.append(job)
    if not jobs:
        raise FileError(f"{path}: has no jobs; expected at least one row below the header")
    return Workload(tuple(jobs), columns)


def _job(cells: Mapping[str, Any], model: str, modalities: tuple[str, ...]) -> Job:
    arrival_ns = cells["arrival_s"]
    return Job(
        cells["job"],
        model,
        cells["requests"],
        cells["accuracy_slo"],
        arrival_ns,
        arrival_ns + cells["latency_slo_s"],
        modalities,
        cells.get("weight", 1.0),
        cells.get("tenant", ""),
        cells.get("length"),
    )


def _order_problem(job: Job, latest_ns: int, seen: set[str], count: int) -> str | None:
    if job.arrival_ns < latest_ns:
        return (
            f"column 'arrival_s' is {to_s(job.arrival_ns)}, after {to_s(latest_ns)}; expected ascending times"
        )
    if job.id in seen:
        return f"column 'job' is {job.id!r}, which an earlier line has; expected a name of its own"
    if count >= ROW_LIMIT:
        return f"more than {ROW_LIMIT:,} jobs; split the workload"
    return None


def _fitted(
    given: str, modalities: tuple[str, ...], models: Modalities, where: str
) -> tuple[str, tuple[str, ...]]:
    model = given or (next(iter(models)) if len(models) == 1 else "")
    if model not in models:
        raise FileError(f"{where}: column 'model' is {given!r}; expected one of {', '.join(models)}")
    names = models[model]
    if unknown := [name for name in modalities if name not in names]:
        raise FileError(f"{where}: column 'modalities' has {unknown[0]!r}; expected some of {'+'.join(names)}")
    return model, tuple(name for name in names if name in modalities)
