"""𝒟 as arrays: what the planner and the scheduler compute on."""

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import to_ns
from mosel.core.tables import Profile

UNAVAILABLE = np.int64(1) << 60
"""The latency, in nanoseconds, of a batch size that a mode was not profiled for."""


def latency_table(profile: Profile, *, p99: bool = False) -> NDArray[np.int64]:
    """Return 𝒟 in nanoseconds, of shape (modes, length buckets, largest batch + 1), indexed by batch size.

    It holds medians, or with `p99` the 99th percentiles.
    """
    shape = (len(profile.modes), profile.buckets, profile.batch_sizes[-1] + 1)
    table = np.full(shape, UNAVAILABLE, np.int64)
    for index, mode in enumerate(profile.modes):
        for bucket, column in enumerate(profile.columns(mode.latency_p99_s if p99 else mode.latency_s)):
            for size, latency_s in zip(profile.sizes_of(mode), column, strict=True):
                table[index, bucket, size] = to_ns(latency_s)
    table.setflags(write=False)
    return table


def resumptions(profile: Profile) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Return what last stages take where features of the first are kept, by the names of both stages' modes.

    Each is of shape (length buckets, largest batch + 1), in nanoseconds, as one mode of `latency_table`.
    """
    found: dict[tuple[str, str], NDArray[np.int64]] = {}
    for cascade in profile.cascades:
        if cascade.resumed_s is None or cascade.stages in found:
            continue
        rows = np.full((profile.buckets, profile.batch_sizes[-1] + 1), UNAVAILABLE, np.int64)
        sizes = profile.sizes_of(profile.mode_named(cascade.stages[1]))
        for bucket, column in enumerate(profile.columns(cascade.resumed_s)):
            for size, latency_s in zip(sizes, column, strict=True):
                rows[bucket, size] = to_ns(latency_s)
        found[cascade.stages] = rows
    return found


def accuracies(profile: Profile) -> NDArray[np.float64]:
    """Return the accuracy of every mode, of shape (modes,)."""
    return np.array([mode.accuracy for mode in profile.modes], np.float64)


def least_of(values: NDArray[np.int64]) -> int:
    """Return the least of some values; of one it is itself, which spares numpy's way to it."""
    return int(values.item(0) if len(values) == 1 else values.min())
