"""Requests that a cascade left unsure: what they count for, and what letting them run once more would add.

Two ledgers, which are right in the mean over requests of all kinds (`docs/cascades.md`):

1. Where the first stage alone would meet the job's accuracy SLO, escalating is **optional**. A request that is
   answered with what it has counts the first stage's accuracy; any other as much as the cascade has really
   given of late (`columns.LeftOut`).
2. Elsewhere the cascade is **promised**, and counts its accuracy. A request that is answered with what it has
   counts less, by what escalating it would have added at its confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mosel.online.columns import CascadeColumn, LeftOut
from mosel.online.tables import ModelTable
from mosel.solve.cover import LAST_SHORTFALL, SHORTFALL, Frontier, cheapest_batches


@dataclass(frozen=True, slots=True)
class Promise:
    """What a request was sent for: a cascade, the accuracy of its first stage, and whether that is enough."""

    cascade: CascadeColumn
    first_accuracy: float
    optional: bool

    @property
    def counted(self) -> float:
        """The accuracy that it counts until it has run."""
        return self.first_accuracy if self.optional else self.cascade.accuracy


@dataclass(frozen=True, slots=True)
class Held:
    """An unsure request.

    Attributes:
        cascade: the name of its cascade.
        first, last: the names of its stages' modes.
        gain: by how much escalating raises its expected accuracy.
        kept: what it counts if it is answered with what it has.
        carried: what it counts if it is escalated.
        optional: see `Promise`.
    """

    cascade: str
    first: str
    last: str
    gain: float
    kept: float
    carried: float
    optional: bool


def judged(
    promise: Promise, confidence: float, table: ModelTable, left_out: LeftOut
) -> tuple[float, Held | None]:
    """Return what a request counts that ran in its first stage, and what it holds if it is unsure."""
    cascade = promise.cascade
    whole = cascade.accuracy
    if promise.optional:
        whole = left_out.counted(table.model, cascade, promise.first_accuracy)
    if not cascade.is_unsure(confidence):
        return whole, None
    gain = cascade.gain(confidence)
    kept = promise.first_accuracy if promise.optional else max(0.0, whole - gain)
    names = table.modes[cascade.first], table.modes[cascade.last]
    return whole, Held(cascade.name, *names, gain, kept, whole, promise.optional)


def in_line(unsure: Mapping[int, Held], table: ModelTable, mask: int) -> list[int]:
    """Return the unsure requests that can run once more, those first that gain most."""
    masks = dict(zip(table.modes, table.masks.tolist(), strict=True))
    able = [request for request, held in unsure.items() if not masks.get(held.last, ~mask) & ~mask]
    return sorted(able, key=lambda request: (-unsure[request].gain, request))


def options(held: Sequence[Held], needed: float, table: ModelTable, bucket: int) -> tuple[Frontier, int]:
    """Return the ways to let the first 0.. of these run once more, and the first that adds what is needed.

    Accuracies are expected gains; what is needed is counted as the ledgers do.
    """
    added = np.cumsum([0.0, *(one.carried - one.kept for one in held)])
    first = int(np.searchsorted(added, needed - SHORTFALL))
    if first == len(added) and added[-1] >= needed - LAST_SHORTFALL:
        first -= 1
    gains = np.cumsum([0.0, *(one.gain for one in held)])
    lasts = [table.modes.index(one.last) for one in held]
    ways = [_batches(lasts[:count], table, bucket) for count in range(len(held) + 1)]
    latency = [sum(int(table.latency_ns[mode, bucket, size]) for mode, size in way) for way in ways]
    return Frontier(gains, np.array(latency, np.int64), tuple(ways)), first


def _batches(modes: Sequence[int], table: ModelTable, bucket: int) -> tuple[tuple[int, int], ...]:
    """The fastest batches that hold one request in each of these modes."""
    found: list[tuple[int, int]] = []
    for mode in sorted(set(modes)):
        rest = modes.count(mode)
        last = cheapest_batches(table.latency_ns[mode, bucket], rest)[1]
        while rest:
            found.append((mode, int(last[rest])))
            rest -= found[-1][1]
    return tuple(found)
