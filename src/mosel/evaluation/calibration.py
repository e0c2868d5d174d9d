"""The conditions of a simulation as a live run met them: what its batches took beside what the profile says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import resumptions
from mosel.core.clock import NS_PER_S
from mosel.core.tables import Profile
from mosel.evaluation.results import BatchResult
from mosel.evaluation.simulate import Conditions

Floats = NDArray[np.float64]


WINDOW_NS = NS_PER_S // 2
"""How long a stretch is whose batches tell one pace: some tens of batches, as slow spells of a machine last."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What batches took, in a few numbers and over time.

    Attributes:
        mode_scale: by mode, latency over the profile's.
        overhead_ns: how long a batch keeps its worker beyond its latency.
        noise_cv: how far single batches differ from that, as a part of their latency.
        slower: latency over the profile's, all modes together.
        pace: from each time in nanoseconds on, latency over what all the others tell.
    """

    mode_scale: dict[str, float]
    overhead_ns: int
    noise_cv: float
    slower: float
    pace: tuple[tuple[int, float], ...] = ()

    def conditions(self, workers: int = 1, seed: int = 0) -> Conditions:
        """Return the conditions under which a simulation's batches take as long."""
        return Conditions(
            workers,
            seed,
            mode_scale=self.mode_scale,
            noise_cv=self.noise_cv,
            overhead_ns=self.overhead_ns,
            pace=self.pace,
        )


def calibrated(batches: Sequence[BatchResult], profile: Profile) -> Calibration:
    """Return what the batches took that are done; where none is, what the profile says.

    The overhead is where the line of least squares through all batches (taken over profiled) begins; each
    mode's scale keeps its total, and the pace of each `WINDOW_NS` that of its batches. Misses are weighed by
    how long batches are: that a short one had to wait for the machine is not taken for noise on all.
    """
    done = [batch for batch in batches if batch.done]
    if not done:
        return Calibration({}, 0, 0.0, 1.0)
    taken_ns: Floats = np.array([batch.finish_ns - batch.start_ns for batch in done], np.float64)
    profiled_ns: Floats = np.array([profiled_s(batch, profile) for batch in done], np.float64) * NS_PER_S
    overhead_ns = _overhead_ns(taken_ns, profiled_ns)
    latency_ns = np.maximum(taken_ns - overhead_ns, 1.0)
    modes = np.array([batch.mode for batch in done])
    scale = {
        mode: float(latency_ns[modes == mode].sum() / profiled_ns[modes == mode].sum())
        for mode in np.unique(modes).tolist()
    }
    expected_ns = profiled_ns * np.array([scale[batch.mode] for batch in done])
    windows = np.array([batch.start_ns for batch in done]) // WINDOW_NS
    pace = _pace(latency_ns, expected_ns, windows)
    noise = _noise_cv(latency_ns, expected_ns * [pace[window] for window in windows.tolist()])
    slower = float(latency_ns.sum() / profiled_ns.sum())
    paced = tuple((window * WINDOW_NS, factor) for window, factor in pace.items())
    return Calibration(scale, round(overhead_ns), noise, slower, paced)


def _pace(latency_ns: Floats, expected_ns: Floats, windows: NDArray[np.int64]) -> dict[int, float]:
    """Return latency over expected in each window, less what single batches' noise makes of so few."""
    own = {window: windows == window for window in np.unique(windows).tolist()}
    raw = {window: latency_ns[mask].sum() / expected_ns[mask].sum() for window, mask in own.items()}
    noise = _noise_cv(latency_ns, expected_ns * [raw[window] for window in windows.tolist()])
    found = {}
    for window, mask in own.items():
        variance = noise**2 * float((expected_ns[mask] ** 2).sum() / expected_ns[mask].sum() ** 2)
        beyond = float(raw[window] - 1)
        found[window] = 1 + beyond * max(0.0, 1 - variance / max(beyond**2, 1e-12))
    return found


def _noise_cv(latency_ns: Floats, expected_ns: Floats) -> float:
    return float(np.sqrt(np.mean((latency_ns - expected_ns) ** 2) / np.mean(expected_ns**2)))


def profiled_s(batch: BatchResult, profile: Profile) -> float:
    """Return what the profile says of a batch; of one whose length bucket is not known, that of the longest.

    One that resumes a first stage takes what is left of the last, and before it the first for others.
    """
    bucket = -1 if batch.bucket is None else batch.bucket
    if not batch.resumed:
        return _latency_s(profile, batch.mode, bucket, batch.size)
    first, kept = batch.resumed[0]
    fresh = batch.size - kept
    rest_s = float(resumptions(profile)[first, batch.mode][bucket, batch.size]) / NS_PER_S
    return rest_s + (_latency_s(profile, first, bucket, fresh) if fresh else 0.0)


def _latency_s(profile: Profile, mode: str, bucket: int, size: int) -> float:
    found = profile.mode_named(mode)
    return profile.columns(found.latency_s)[bucket][profile.sizes_of(found).index(size)]


def _overhead_ns(taken_ns: Floats, profiled_ns: Floats) -> float:
    if np.ptp(profiled_ns) == 0:
        return 0.0
    _, begins = np.polyfit(profiled_ns, taken_ns, 1)
    return float(min(max(begins, 0.0), taken_ns.min()))
