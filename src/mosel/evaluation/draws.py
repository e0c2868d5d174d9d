"""What a simulation draws by its seed: noise on latencies, and how sure a model is of its answers.

Of each mode that begins a cascade the profile says which share of requests lies below which threshold. Between
these shares, and down to the least confidence that was seen, confidences are drawn in proportion.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import resumptions
from mosel.core.clock import to_ns
from mosel.core.tables import Profile
from mosel.core.types import Batch

Floats = NDArray[np.float64]


class Noise:
    """A log-normal factor of mean 1 on every batch, in the order in which they start, and the pace then.

    Before the first time of `pace` it is 1.
    """

    def __init__(self, cv: float, seed: int, pace: Sequence[tuple[int, float]] = ()) -> None:
        self._from_ns = [from_ns for from_ns, _ in pace]
        self._pace = [1.0, *(factor for _, factor in pace)]
        self._variance = math.log1p(cv**2)
        self._rng = np.random.default_rng(seed)

    def applied(self, latency_ns: int, at_ns: int) -> int:
        """Return how long the next batch takes, which starts at some time."""
        if self._from_ns:
            latency_ns = round(latency_ns * self._pace[bisect_right(self._from_ns, at_ns)])
        if not self._variance:
            return latency_ns
        factor = self._rng.lognormal(-self._variance / 2, math.sqrt(self._variance))
        return round(latency_ns * factor)


class Confidences:
    """Draws the confidences of one worker's batches, in the order in which these end."""

    def __init__(self, profiles: Iterable[Profile], rng: np.random.Generator) -> None:
        self._rng = rng
        self._quantiles = {
            (profile.model, mode): _quantiles(profile, mode)
            for profile in profiles
            for mode in {cascade.stages[0] for cascade in profile.cascades}
        }

    def of(self, batch: Batch) -> tuple[float, ...]:
        """Return the confidence in each request of a batch; nothing unless it is judged."""
        if not batch.judged:
            return ()
        shares, values = self._quantiles[batch.model, batch.mode]
        drawn = np.interp(self._rng.random(batch.size), shares, values)
        return tuple(drawn.tolist())


def kept_of(batch: Batch, confidence: Sequence[float]) -> tuple[bool, ...]:
    """Return of which requests of a batch a worker keeps features: those that are unsure, if it is to."""
    if batch.keep_below is None:
        return ()
    return tuple(not sure >= batch.keep_below for sure in confidence)


def latencies_ns(
    profiles: Mapping[str, Profile], scale: float, mode_scale: Mapping[str, float]
) -> dict[tuple[str, str, int, int], int]:
    """Return what batches really take, by model, mode, bucket and size; all scaled, single modes once more.

    What a last stage takes where features of the first are kept stands under `first>last`.
    """
    table = {}
    for model, profile in profiles.items():
        for name, mode in zip(profile.mode_names, profile.modes, strict=True):
            factor = scale * mode_scale.get(name, 1.0)
            for bucket, column in enumerate(profile.columns(mode.latency_s)):
                for size, latency_s in zip(profile.sizes_of(mode), column, strict=True):
                    took_ns = to_ns(latency_s)
                    table[model, name, bucket, size] = took_ns if factor == 1 else round(took_ns * factor)
        for stages, rows in resumptions(profile).items():
            factor = scale * mode_scale.get(stages[1], 1.0)
            for (bucket, size), resumed_ns in np.ndenumerate(rows):
                table[model, ">".join(stages), bucket, size] = round(int(resumed_ns) * factor)
    return table


def latency_ns(table: Mapping[tuple[str, str, int, int], int], batch: Batch) -> int:
    """Return what a batch really takes, by such a table."""
    if not batch.resumed:
        return table[batch.model, batch.mode, batch.bucket, batch.size]
    rest = table[batch.model, f"{batch.resumed}>{batch.mode}", batch.bucket, batch.size]
    return rest + (table[batch.model, batch.resumed, batch.bucket, batch.fresh] if batch.fresh else 0)


def _quantiles(profile: Profile, mode: str) -> tuple[Floats, Floats]:
    """Shares of requests and the confidences below which they lie, both ascending; the rest is as sure."""
    own = [cascade for cascade in profile.cascades if cascade.stages[0] == mode]
    points = sorted({(cascade.escalated, cascade.threshold) for cascade in own})
    least = min(cascade.calibration[0][0] for cascade in own)
    shares, values = zip((0.0, min(least, points[0][1])), *points, strict=True)
    return np.array(shares), np.array(values)
