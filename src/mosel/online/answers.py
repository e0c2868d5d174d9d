"""What the engine keeps of a job until it has its outcome, what it answers, and what it tells of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from mosel.core.errors import MoselError
from mosel.core.types import Job, Receipt
from mosel.online.decisions import Decisions
from mosel.online.tensors import JobTensors

Confidences = Mapping[tuple[str, int], float]
"""How sure the model was of the requests of a batch, by job and index, as far as it is known."""


class Answer(Struct, frozen=True):
    """What became of a job; `outputs` by name, each (requests, …), or None unless it was served or late."""

    receipt: Receipt
    outputs: Mapping[str, NDArray[Any]] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's counters at one moment.

    Attributes:
        queued_jobs: jobs that have no outcome yet.
        batches: batches that ran.
        failed_batches: batches on which the model raised.
        lost_workers: how often a worker was lost.
        workers: each worker's state, in a word.
        decisions: wall times of the scheduler's decisions.
        split_batches: batches that memory did not hold, so that they ran in pieces.
        backlog_s: work before each worker, in seconds.
        latency_ratios: by model and mode, seen over profiled latency, see `drift.py`.
        queued_requests: of those jobs.
    """

    queued_jobs: int
    batches: int
    failed_batches: int
    lost_workers: int
    workers: tuple[str, ...]
    decisions: Decisions
    split_batches: int = 0
    backlog_s: float = 0.0
    latency_ratios: Mapping[tuple[str, str], float] = field(default_factory=dict)
    queued_requests: int = 0


Tell = Callable[["Answer | MoselError"], None]
"""Is handed what became of a job, once, on the event loop. An error means that the engine itself failed."""


class Live(Struct, eq=False):
    """A job without an outcome, its tensors, and who is told of its answer."""

    job: Job
    tensors: JobTensors
    tell: Tell


def nobody(_: Answer | MoselError) -> None:
    """There is nobody to tell."""
