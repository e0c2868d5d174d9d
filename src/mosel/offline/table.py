"""From timings, peak memory and accuracies to the columns of 𝒟; what was not measured is interpolated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mosel.core.clock import to_s
from mosel.core.tables import Mode, Profile
from mosel.offline.accuracy import Accuracy
from mosel.offline.sampling import interpolate
from mosel.offline.settings import Column
from mosel.offline.timing import Bench

NOISY_RATIO, NOISY_SHARE = 1.5, 0.1


def mode_of(bench: Bench, mode: Column, accuracy: Accuracy, largest: int) -> Mode:
    """Return a mode of 𝒟, measured up to the bench's limit; `largest` is the profile's largest batch.

    The 99th percentile is that of the timings seen, so with few of them about their maximum. With length
    buckets each list is one of such lists, the shortest bucket's first.
    """
    limit = bench.limit(mode)
    rows = [_row(bench, column, limit) for column in bench.columns(mode)]
    bucketed = bench.columns(mode) != [mode]

    def lists(name: str) -> Any:
        values = [getattr(row, name) for row in rows]
        return values if bucketed else values[0]

    return Mode(
        modalities=mode.modalities,
        accuracy=accuracy.mean,
        accuracy_low=accuracy.low,
        samples=accuracy.samples,
        latency_s=lists("latency_s"),
        latency_p99_s=lists("p99_s"),
        memory_bytes=lists("memory_bytes"),
        precision=mode.precision if bench.several_precisions else None,
        batch_limit=None if limit == largest else limit,
        measured=lists("measured"),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """What was measured of one column, by batch size from 1."""

    latency_s: list[float]
    p99_s: list[float]
    memory_bytes: list[int]
    measured: list[bool]


def _row(bench: Bench, column: Column, limit: int) -> _Row:
    sizes = range(1, limit + 1)
    timed = {cell.size: took for cell, took in bench.took_ns.items() if cell.column == column}
    medians = {size: float(np.median(took)) for size, took in timed.items()}
    p99s = {size: float(np.quantile(took, 0.99)) for size, took in timed.items()}
    memory = {c.size: float(m) for c, m in bench.memory_bytes.items() if c.column == column}
    latency_s = [to_s(round(interpolate(medians, size))) for size in sizes]
    p99_s = [to_s(round(interpolate(p99s, size))) for size in sizes]
    return _Row(
        latency_s,
        [max(pair) for pair in zip(latency_s, p99_s, strict=True)],
        [round(interpolate(memory, size)) for size in sizes],
        [size in timed for size in sizes],
    )


def noisy_share(timings: Iterable[Sequence[int]]) -> float:
    """Return of how many of these series the 99th percentile is over 1.5 times the median, as a share."""
    ratios = [np.quantile(took, 0.99) / np.median(took) for took in timings]
    return float(np.mean(np.asarray(ratios) > NOISY_RATIO)) if ratios else 0.0


def column_of(profile: Profile, mode: Mode) -> Column:
    """Return the mode that a profile's mode is."""
    return Column(tuple(mode.modalities), profile.precision_of(mode))


def by_column(profile: Profile | None) -> dict[Column, Mode]:
    """Return a profile's modes by column."""
    return {column_of(profile, mode): mode for mode in profile.modes} if profile else {}
