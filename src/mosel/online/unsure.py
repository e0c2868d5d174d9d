"""Requests that a cascade left unsure: what they count for, and what letting them run once more would add.

Two ledgers, which are right in the mean over requests of all kinds (`docs/cascades.md`):

1. Where the first stage alone would meet the job's accuracy SLO, escalating is **optional**. A request that is
   answered with what it has counts the first stage's accuracy; any other as much as the cascade has really
   given of late (`columns.LeftOut`).
2. Elsewhere the cascade is **promised**, and counts its accuracy. A request that is answered with what it has
   counts less, by what escalating it would have added at its confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mosel.online.columns import CascadeColumn, LeftOut
from mosel.online.tables import ModelTable
from mosel.solve.cover import LAST_SHORTFALL, SHORTFALL, Batches, Frontier, cheapest_batches

Ints = NDArray[np.int64]


NOBODY = -1


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
        worker: which keeps features of its first stage; `NOBODY` if none does.
    """

    cascade: str
    first: str
    last: str
    gain: float
    kept: float
    carried: float
    optional: bool
    worker: int = NOBODY

    @property
    def alone(self) -> "Held":
        """The same where no worker keeps anything."""
        return self if self.worker == NOBODY else replace(self, worker=NOBODY)


def judged(
    promise: Promise, confidence: float, table: ModelTable, left_out: LeftOut, worker: int = NOBODY
) -> tuple[float, Held | None]:
    """Return what a request counts that ran in its first stage, and what it holds if it is unsure.

    `worker` is the one that keeps features of it.
    """
    cascade = promise.cascade
    whole = cascade.accuracy
    if promise.optional:
        whole = left_out.counted(table.model, cascade, promise.first_accuracy)
    if not cascade.is_unsure(confidence):
        return whole, None
    gain = cascade.gain(confidence)
    kept = promise.first_accuracy if promise.optional else max(0.0, whole - gain)
    names = table.modes[cascade.first], table.modes[cascade.last]
    return whole, Held(cascade.name, *names, gain, kept, whole, promise.optional, worker)


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
    ways = Ways([table.modes.index(one.last) for one in held], table.latency_ns[:, bucket])
    return Frontier(gains, ways.latency_ns, ways), first


class Ways(Sequence[Batches]):
    """The fastest batches that hold the first 0.. of some requests, put together when they are asked for.

    Args:
        lasts: the mode of each request.
        latency_ns: of shape (modes, sizes + 1).

    Attributes:
        latency_ns: of shape (requests + 1,), how long all batches of each take.
        longest_ns: of shape (requests + 1,), how long the longest of them takes.
    """

    def __init__(self, lasts: Sequence[int], latency_ns: Ints) -> None:
        self._counts = {mode: np.cumsum([0, *(last == mode for last in lasts)]) for mode in sorted(set(lasts))}
        self._last: dict[int, Ints] = {}
        self.latency_ns = np.zeros(len(lasts) + 1, np.int64)
        self.longest_ns = np.zeros(len(lasts) + 1, np.int64)
        for mode, counts in self._counts.items():
            cost, last = cheapest_batches(latency_ns[mode], int(counts[-1]))
            longest = np.zeros_like(cost)
            for count in range(1, len(longest)):
                longest[count] = max(latency_ns[mode, last[count]], longest[count - last[count]])
            self._last[mode] = last
            self.latency_ns += cost[counts]
            self.longest_ns = np.maximum(self.longest_ns, longest[counts])

    def __len__(self) -> int:
        return len(self.latency_ns)

    @overload
    def __getitem__(self, index: int) -> Batches: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batches]: ...
    def __getitem__(self, index: int | slice) -> Batches | Sequence[Batches]:
        """Return the batches of the first `index` requests, or of several such numbers."""
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        found: list[tuple[int, int]] = []
        for mode, counts in self._counts.items():
            rest = int(counts[index])
            while rest:
                found.append((mode, int(self._last[mode][rest])))
                rest -= found[-1][1]
        return tuple(found)
