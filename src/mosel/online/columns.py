"""Cascades as the scheduler reads them: further columns of a model's table, behind its modes.

A request sent in such a column runs in the first stage's mode; if it turns out unsure, it waits again for the
last stage's. What the column counts for in plans is the whole: latencies of both stages, weighed by how often
the second is needed, and the accuracy over all requests. That features are kept is not counted on: a batch that
resumes a stage ends sooner than planned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.cascades import Cascade
from mosel.core.tables import Profile
from mosel.solve.escalation import safe_ns, shared_ns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Stages = Callable[[Ints, Ints, float], Ints]

MEMORY = 1_000
"""How many unsure requests the share of escalations left out looks back at."""


@dataclass(frozen=True, slots=True, eq=False)
class CascadeColumn:
    """A cascade of one model, its stages as indices of modes.

    Attributes:
        name: the cascade's.
        first, last: its stages.
        resumes: whether features of its first stage are kept for its last.
        threshold: requests with a lower confidence are unsure.
        escalated: the share of requests that is.
        accuracy: over all requests; no more than the last stage's mode has, so that what a job needs stays
            within reach of its modes.
        knots: of shape (3, knots): confidence, expected accuracy as it is, and once escalated.
        worth: the mean of what escalating an unsure request adds.
    """

    name: str
    first: int
    last: int
    resumes: bool
    threshold: float
    escalated: float
    accuracy: float
    knots: Floats
    worth: float

    @property
    def keep_below(self) -> float | None:
        """Below which confidence features are kept for the last stage; None if it makes no use of any."""
        return self.threshold if self.resumes else None

    def is_unsure(self, confidence: float) -> bool:
        """Whether the second stage is asked for; always, if nothing is known of the confidence."""
        return not confidence >= self.threshold

    def gain(self, confidence: float) -> float:
        """Return by how much escalating a request of this confidence raises its expected accuracy."""
        at = confidence if np.isfinite(confidence) else self.knots[0, 0]
        now, after = (float(np.interp(at, self.knots[0], row)) for row in self.knots[1:])
        return max(0.0, after - now)


class LeftOut:
    """The share of unsure requests of late that were answered with what they had although they might go on.

    Attributes:
        share: by cascade, from 0 to 1; 0 at first.
    """

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str], float] = {}

    def note(self, model: str, cascade: str, *, left_out: bool) -> None:
        """Note what became of an unsure request."""
        before = self._shares.get((model, cascade), 0.0)
        self._shares[model, cascade] = before + (left_out - before) / MEMORY

    def counted(self, model: str, column: CascadeColumn, first_accuracy: float) -> float:
        """Return what a request counts that went through its cascade, though it might have been left short.

        With s the share left out, those count the first stage's accuracy a, and the others so much that the
        mean over all requests is right: A − s·(A − a).
        """
        share = self._shares.get((model, column.name), 0.0)
        lost = share * (column.accuracy - first_accuracy)
        short = column.escalated * share
        return (
            column.accuracy if short >= 1 else (column.accuracy - lost - short * first_accuracy) / (1 - short)
        )


def cascade_columns(profile: Profile, accuracy: Floats) -> tuple[CascadeColumn, ...]:
    """Return a profile's cascades; `accuracy` is that of each mode, of shape (modes,)."""
    return tuple(_column(profile, accuracy, cascade) for cascade in profile.cascades)


def _column(profile: Profile, accuracy: Floats, cascade: Cascade) -> CascadeColumn:
    first, last = (profile.mode_names.index(name) for name in cascade.stages)
    reached = max(float(accuracy[first]), min(cascade.accuracy, float(accuracy[last])))
    gained = reached - float(accuracy[first])
    return CascadeColumn(
        cascade.name,
        first,
        last,
        cascade.resumed_s is not None,
        cascade.threshold,
        cascade.escalated,
        reached,
        np.array(cascade.calibration, np.float64).T.copy(),
        gained / max(cascade.escalated, 1e-6),
    )


def shared_rows(latency_ns: Ints, columns: tuple[CascadeColumn, ...]) -> Ints:
    """Return what batches of every column cost where unsure requests share batches; modes first."""
    return _rows(latency_ns, columns, shared_ns)


def safe_rows(latency_ns: Ints, columns: tuple[CascadeColumn, ...]) -> Ints:
    """Return how long batches of every column take in all but a few cases; modes first."""
    return _rows(latency_ns, columns, safe_ns)


def _rows(latency_ns: Ints, columns: tuple[CascadeColumn, ...], of: Stages) -> Ints:
    if not columns:
        return latency_ns
    buckets = range(latency_ns.shape[1])
    added = [
        [of(latency_ns[c.first, bucket], latency_ns[c.last, bucket], c.escalated) for bucket in buckets]
        for c in columns
    ]
    return np.concatenate([latency_ns, np.array(added, np.int64)])
