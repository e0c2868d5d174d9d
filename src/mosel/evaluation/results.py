"""A run directory: what became of every job, from simulation and live replay alike (`docs/formats.md`).

`jobs.csv`, `batches.csv` and `summary.json` are byte-identical when a simulation is rerun; wall times stand
apart in `timing.json`. Where the numbers come from is not known here; whether they can be true is checked in
`check.py`; how a directory is read back, in `recorded.py`.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import NS_PER_S, to_s
from mosel.core.files import write_atomic
from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job
from mosel.evaluation.garbage import no_collector
from mosel.evaluation.workload import optional_cells

RUN_FORMAT = "mosel.run/1"
DONE, FAILED = "done", "failed"

JOB_COLUMNS = (
    "job",
    "arrival_s",
    "requests",
    "accuracy_slo",
    "deadline_s",
    "outcome",
    "decided_s",
    "finish_s",
    "accuracy",
    "modes",
)
BATCH_COLUMNS = ("batch", "worker", "start_s", "finish_s", "mode", "size", "jobs", "status")
BATCH_OPTIONAL = ("model", "bucket", "resumed")

T = TypeVar("T")
Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of one job: a row of `jobs.csv`.

    `finish_ns` and `accuracy` are None unless the job was served or late; `modes` counts the requests that ran.
    """

    job: Job
    outcome: State
    decided_ns: int
    finish_ns: int | None = None
    accuracy: float | None = None
    modes: Counts = ()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One batch that started: a row of `batches.csv`. `jobs` counts the requests of each job in it.

    `resumed` names the mode of a first stage of which features were kept, and of how many of its requests.
    """

    id: int
    worker: int
    start_ns: int
    finish_ns: int
    mode: str
    size: int
    jobs: Counts
    done: bool = True
    model: str = ""
    bucket: int | None = None
    resumed: Counts = ()


class Jct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Job completion time over served and late jobs, in seconds; null where there are none."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`summary.json`: shares of requests, accuracy, completion times and throughput of one run."""

    format: str
    policy: str
    workers: int
    seed: int
    requests: int
    on_time: float
    late: float
    dropped: float
    rejected: float
    failed: float
    accuracy: float | None
    effective_accuracy: float
    jct_s: Jct
    throughput_rps: float
    violation_ratio: float
    bound: float | None
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its settings, every job in the workload's order and every batch that started.

    `decisions_ns` are the wall times of the scheduler's decisions, where they are known; `wall` holds other
    measurements of this one execution. Neither is part of the result. `bound` is the share of requests that any
    schedule could at most serve on time (`bound.py`), where that was asked for.
    """

    policy: str
    workers: int
    seed: int
    jobs: Sequence[JobResult]
    batches: Sequence[BatchResult]
    columns: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    decisions_ns: Sequence[int] = ()
    wall: Mapping[str, float] = field(default_factory=dict)
    bound: float | None = None


def modes_run(batches: Iterable[BatchResult]) -> dict[str, dict[str, int]]:
    """Return for each job how many of its requests ran in each mode, counted from the batches that are done."""
    counts: dict[str, dict[str, int]] = {}
    for batch in batches:
        if batch.done:
            for job, requests in batch.jobs:
                modes = counts.setdefault(job, {})
                modes[batch.mode] = modes.get(batch.mode, 0) + requests
    return counts


@no_collector()
def write_run(run: Run, folder: Path) -> Summary:
    """Write the four files of a run directory, each atomically, and return the summary.

    Raises:
        FileError: the folder cannot be written.
    """
    summary = summarise(run)
    write_atomic(folder / "jobs.csv", _jobs_text(run))
    write_atomic(folder / "batches.csv", _batches_text(run.batches))
    write_atomic(folder / "timing.json", _json({"decision_us": _decision_us(run.decisions_ns), **run.wall}))
    write_atomic(folder / "summary.json", _json(summary))
    return summary


def summarise(run: Run) -> Summary:
    """Return the run's summary; every share is one of requests, and any job not `served` is a violation."""
    requests = np.array([row.job.requests for row in run.jobs], np.int64)
    total = int(requests.sum())
    by_outcome = {
        outcome: int(requests[[row.outcome is outcome for row in run.jobs]].sum()) for outcome in OUTCOMES
    }
    served = [row for row in run.jobs if row.outcome is State.SERVED]
    gained = sum((row.accuracy or 0.0) * row.job.requests for row in served)
    on_time = by_outcome[State.SERVED]
    return Summary(
        format=RUN_FORMAT,
        policy=run.policy,
        workers=run.workers,
        seed=run.seed,
        requests=total,
        on_time=_share(on_time, total),
        late=_share(by_outcome[State.LATE], total),
        dropped=_share(by_outcome[State.DROPPED], total),
        rejected=_share(by_outcome[State.REJECTED], total),
        failed=_share(by_outcome[State.FAILED], total),
        accuracy=gained / on_time if on_time else None,
        effective_accuracy=gained / total if total else 0.0,
        jct_s=_jct(run.jobs),
        throughput_rps=_throughput_rps(run.jobs, on_time),
        violation_ratio=_share(total - on_time, total),
        bound=run.bound,
        extra=dict(run.extra),
    )


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _jct(jobs: Iterable[JobResult]) -> Jct:
    ends = [row.finish_ns - row.job.arrival_ns for row in jobs if row.finish_ns is not None]
    if not ends:
        return Jct(None, None, None, None)
    took_s = np.array(ends, np.int64) / NS_PER_S
    p50, p90, p99 = np.percentile(took_s, (50, 90, 99)).tolist()
    return Jct(float(took_s.mean()), p50, p90, p99)


def _throughput_rps(jobs: Sequence[JobResult], on_time: int) -> float:
    finishes = [row.finish_ns for row in jobs if row.finish_ns is not None]
    if not finishes or not on_time:
        return 0.0
    span_ns = max(finishes) - min(row.job.arrival_ns for row in jobs)
    return on_time / to_s(span_ns) if span_ns > 0 else 0.0


def _decision_us(decisions_ns: Sequence[int]) -> dict[str, float] | None:
    if not len(decisions_ns):
        return None
    us: NDArray[np.float64] = np.asarray(decisions_ns, np.int64) / 1e3
    p50, p99 = np.percentile(us, (50, 99)).tolist()
    return {"mean": float(us.mean()), "p50": p50, "p99": p99, "max": float(us.max())}


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _jobs_text(run: Run) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(JOB_COLUMNS + run.columns)
    writer.writerows(_job_row(row) + optional_cells(row.job, run.columns) for row in run.jobs)
    return out.getvalue()


def _job_row(row: JobResult) -> tuple[Any, ...]:
    job = row.job
    return (
        job.id,
        to_s(job.arrival_ns),
        job.requests,
        job.accuracy_slo,
        to_s(job.deadline_ns),
        row.outcome.value,
        to_s(row.decided_ns),
        "" if row.finish_ns is None else to_s(row.finish_ns),
        "" if row.accuracy is None else row.accuracy,
        _counts_text(row.modes),
    )


def _batches_text(batches: Sequence[BatchResult]) -> str:
    columns = _batch_columns(batches)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BATCH_COLUMNS + columns)
    writer.writerows(_batch_row(batch, columns) for batch in batches)
    return out.getvalue()


def _batch_columns(batches: Sequence[BatchResult]) -> tuple[str, ...]:
    used = (
        len({batch.model for batch in batches}) > 1,
        any(batch.bucket is not None for batch in batches),
        any(batch.resumed for batch in batches),
    )
    return tuple(name for name, present in zip(BATCH_OPTIONAL, used, strict=True) if present)


def _batch_row(batch: BatchResult, columns: Iterable[str]) -> tuple[Any, ...]:
    fixed = (
        batch.id,
        batch.worker,
        to_s(batch.start_ns),
        to_s(batch.finish_ns),
        batch.mode,
        batch.size,
        _counts_text(batch.jobs),
        DONE if batch.done else FAILED,
    )
    optional = {"model": batch.model, "bucket": batch.bucket, "resumed": _counts_text(batch.resumed)}
    return fixed + tuple(optional[name] for name in columns)


def _counts_text(counts: Counts) -> str:
    return ";".join(f"{name}:{count}" for name, count in counts)
