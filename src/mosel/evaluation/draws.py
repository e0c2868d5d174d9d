"""What a simulation draws by its seed: noise on latencies, and how sure a model is of its answers.

Of each mode that begins a cascade the profile says which share of requests lies below which threshold. Between
these shares, and down to the least confidence that was seen, confidences are drawn in proportion.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mosel.core.tables import Profile
from mosel.core.types import Batch

Floats = NDArray[np.float64]


class Noise:
    """A log-normal factor of mean 1 on every batch, in the order in which batches start."""

    def __init__(self, cv: float, seed: int) -> None:
        self._variance = math.log1p(cv**2)
        self._rng = np.random.default_rng(seed)

    def applied(self, latency_ns: int) -> int:
        """Return how long the next batch takes."""
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


def _quantiles(profile: Profile, mode: str) -> tuple[Floats, Floats]:
    """Shares of requests and the confidences below which they lie, both ascending; the rest is as sure."""
    own = [cascade for cascade in profile.cascades if cascade.stages[0] == mode]
    points = sorted({(cascade.escalated, cascade.threshold) for cascade in own})
    least = min(cascade.calibration[0][0] for cascade in own)
    shares, values = zip((0.0, min(least, points[0][1])), *points, strict=True)
    return np.array(shares), np.array(values)
