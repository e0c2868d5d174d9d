"""What a profiling run is asked for, and the words it uses.

A column is a mode, or, where a model has length buckets, a mode in one of them; a cell is a column at a batch
size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from mosel.core.errors import UsageError
from mosel.core.tables import MOST_BATCH
from mosel.core.types import mode_name
from mosel.models.base import Model

Say = Callable[[str], None]
"""Takes a note of one line for the person who waits."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure and how hard.

    Attributes:
        device: `cpu`, `cuda` or `cuda:INDEX`.
        batch: the largest batch size; None means the model's own.
        threads: CPU threads that torch uses, as the worker will.
        samples: how many labelled samples accuracy is measured on, chosen by `seed`; None means all.
        repeats: timings of a cell that take neither very long nor very short.
        exhaustive: time every batch size instead of interpolating where that is confirmed.
        fresh: measure accuracies anew even where an earlier profile has them.
        seed: for the choice of samples and the order of timings.
    """

    device: str = "cpu"
    batch: int | None = None
    threads: int = 1
    samples: int | None = None
    repeats: int = 16
    exhaustive: bool = False
    fresh: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "samples", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value}: expected a whole number from 1")

    def largest_batch(self, model: Model) -> int:
        """Return the largest batch size to profile.

        Raises:
            UsageError: it is larger than a profile may hold.
        """
        found = self.batch or model.max_batch
        if found > MOST_BATCH:
            raise UsageError(f"largest batch {found}: expected {MOST_BATCH:,} at most; give --batch")
        return found


@dataclass(frozen=True, slots=True)
class Column:
    """A modality combination at a precision: one column of 𝒟, in one length bucket where there are any."""

    modalities: tuple[str, ...]
    precision: str
    bucket: int | None = None

    @property
    def mode(self) -> "Column":
        """The mode itself, whatever the length: accuracy is one for all of them."""
        return replace(self, bucket=None)

    def __str__(self) -> str:
        name = mode_name(self.modalities, self.precision)
        return name if self.bucket is None else f"{name} in length bucket {self.bucket}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A column at one batch size: one entry of 𝒟."""

    column: Column
    size: int


def columns_of(model: Model, kind: str) -> tuple[Column, ...]:
    """Return every column of 𝒟 on a kind of device, smallest combinations first, the usual precision first."""
    buckets = range(len(model.length_buckets)) if model.length_buckets else (None,)
    return tuple(
        Column(combination, precision, bucket)
        for precision in model.precisions_on(kind)
        for combination in model.combinations()
        for bucket in buckets
    )


class Meter(Protocol):
    """Shows how far a run has come; work is in seconds of device time, as far as it can be foreseen."""

    def show(self, doing: str, done_s: float, total_s: float) -> None:
        """Tell what is being done, how much work is behind, and how much there is in all."""


class NoMeter:
    """Shows nothing."""

    def show(self, doing: str, done_s: float, total_s: float) -> None:
        """Show nothing."""
