"""Offline strategies, §5.1: the whole exact Pareto frontier of every job size, for every accuracy SLO at once.

A strategy splits n requests into batches, each in one mode. Its latency is the sum of its batches' latencies,
its accuracy the sum over its requests (divide by n for the mean). The paper asks an integer non-linear
solver for one cell (n, α) at a time; here one pass gives every cell:

1. within one mode, the least latency of j requests in batches is an unbounded coin-change recurrence;
2. modes are merged one at a time, keeping only Pareto points of (accuracy, latency).

Both steps keep an optimum for every accuracy, because dropping a dominated part of a strategy can only
improve it. Latencies are integers, so ties are exact; accuracies that differ by less than `TIE` are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.jit import compiled

TIE = 1e-12

SHORTFALL = 5e-10
LAST_SHORTFALL = 9e-10
"""By how much an accuracy sum may miss what is needed; both below the 1e-9 of `core/types.py`."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Batches = tuple[tuple[int, int], ...]
"""A strategy: (mode index, batch size) of each batch, accurate modes first."""


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    """The Pareto frontier of one job size, ascending in accuracy and latency.

    Attributes:
        accuracy: of shape (points,), summed over the job's requests.
        latency_ns: of shape (points,).
        batches: per point the strategy that attains it.
        levels: the accuracies once more, as a list: one is found in it without an array's overhead.
    """

    accuracy: Floats
    latency_ns: Ints
    batches: Sequence[Batches]
    levels: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", self.accuracy.tolist())

    def __len__(self) -> int:
        return len(self.accuracy)


def frontiers(latency_ns: Ints, accuracy: Floats, largest: int) -> list[Frontier]:
    """Return the frontier of every job size from 0 to `largest` (§5.1: 𝒟 → 𝒫).

    Args:
        latency_ns: 𝒟, of shape (modes, sizes + 1), indexed by batch size; entry 0 is not read, and
            `UNAVAILABLE` marks sizes that a mode lacks.
        accuracy: of shape (modes,).
        largest: the largest job size.

    Returns:
        `largest` + 1 frontiers; one is empty where no strategy has that many requests.
    """
    modes = len(accuracy)
    cost, last = zip(*(cheapest_batches(row, largest) for row in latency_ns), strict=True)
    order = [mode for mode in _by_accuracy(accuracy) if not is_dominated(mode, accuracy, cost)]
    states = _State.start(largest)
    history: list[_State] = []
    for mode in order:
        history.append(states)
        states = _State(*_merge(*states.columns, cost[mode], accuracy[mode], largest))
    assert len(order) <= modes
    batches, ends = _strategies(states, history, order, last), states.offsets.tolist()
    return [
        Frontier(states.accuracy[low:high].copy(), states.latency_ns[low:high].copy(), tuple(batches[low:high]))
        for low, high in pairwise(ends)
    ]


def cheapest_batches(latency_ns: Ints, largest: int) -> tuple[Ints, Ints]:
    """Return, for 0..`largest` requests in one mode, the least total latency and the last batch's size.

    Args:
        latency_ns: of shape (sizes + 1,), indexed by batch size.
        largest: the largest number of requests.
    """
    cost, last = _coin_change(latency_ns, largest)
    return cost, last


def is_dominated(mode: int, accuracy: Floats, cost: Sequence[Ints]) -> bool:
    """Return whether another mode is as accurate and never dearer; of equal ones the first stays.

    Args:
        mode: which one.
        accuracy: of shape (modes,).
        cost: per mode the least latency of 0.. requests.
    """
    for other in range(len(accuracy)):
        if other == mode or accuracy[other] < accuracy[mode] or not np.all(cost[other] <= cost[mode]):
            continue
        same = accuracy[other] == accuracy[mode] and np.array_equal(cost[other], cost[mode])
        if not same or other < mode:
            return True
    return False


def pareto(latency: Ints, accuracy: Floats) -> Ints:
    """Return the indices of the points that no other beats, ascending."""
    order = np.lexsort((-accuracy, latency))
    best = np.maximum.accumulate(accuracy[order])
    keep = np.ones(len(order), bool)
    keep[1:] = accuracy[order][1:] > best[:-1] + TIE
    return order[keep]


@dataclass(frozen=True, slots=True)
class _State:
    """Pareto points of all job sizes, flat: those of size n stand at offsets[n]..offsets[n + 1]."""

    offsets: Ints
    latency_ns: Ints
    accuracy: Floats
    parent: Ints
    taken: Ints

    @classmethod
    def start(cls, largest: int) -> "_State":
        """Return the points before any mode: no request at no cost."""
        offsets = np.ones(largest + 2, np.int64)
        offsets[0] = 0
        zero = np.zeros(1, np.int64)
        return cls(offsets, zero, np.zeros(1), zero, zero)

    @property
    def columns(self) -> tuple[Ints, Ints, Floats]:
        return self.offsets, self.latency_ns, self.accuracy


def _by_accuracy(accuracy: Floats) -> list[int]:
    return [int(mode) for mode in np.argsort(-accuracy, kind="stable")]


def _strategies(states: _State, history: list[_State], order: list[int], last: Sequence[Ints]) -> list[Batches]:
    """The batches of every point, found by going back through the states before each mode."""
    point = np.arange(len(states.latency_ns))
    requests = np.empty((len(point), len(order)), np.int64)
    for column in reversed(range(len(order))):
        requests[:, column] = states.taken[point]
        point, states = states.parent[point], history[column]
    own = [_chains(mode, last[mode]) for mode in order]
    return [
        tuple(chain.from_iterable(chains[count] for chains, count in zip(own, row, strict=True) if count))
        for row in requests.tolist()
    ]


def _chains(mode: int, last: Ints) -> list[Batches]:
    """The fastest batches of 0.. requests in one mode, large batches first; none where there are no such."""
    found: list[Batches] = [()]
    for requests, size in enumerate(last.tolist()[1:], start=1):
        batches = (*found[requests - size], (mode, size)) if size else ()
        found.append(tuple(sorted(batches, key=lambda batch: -batch[1])))
    return found


@compiled
def _coin_change(latency: Any, largest: int) -> Any:
    cost = np.full(largest + 1, UNAVAILABLE, np.int64)
    last = np.zeros(largest + 1, np.int64)
    cost[0] = 0
    for requests in range(1, largest + 1):
        for size in range(1, min(requests, len(latency) - 1) + 1):
            if latency[size] >= UNAVAILABLE or cost[requests - size] >= UNAVAILABLE:
                continue
            total = cost[requests - size] + latency[size]
            if total < cost[requests]:
                cost[requests] = total
                last[requests] = size
    return cost, last


@compiled
def _merge(offsets: Any, latency: Any, accuracy: Any, cost: Any, gain: float, largest: int) -> Any:
    """Add one mode: for each size n, Pareto over j of (n − j requests so far) + (j requests in this mode)."""
    out_offsets = np.zeros(largest + 2, np.int64)
    capacity = 4 * len(latency) + 64
    out = _points(capacity)
    now, then = _points(len(latency)), _points(len(latency))
    filled = 0
    for size in range(largest + 1):
        count = 0
        for own in range(size + 1):
            if cost[own] < UNAVAILABLE:
                low, high = offsets[size - own], offsets[size - own + 1]
                count = _join(now, count, then, latency, accuracy, low, high, cost[own], own, own * gain)
                now, then = then, now
        while filled + count > capacity:
            more = _points(capacity)
            out = (
                np.append(out[0], more[0]),
                np.append(out[1], more[1]),
                np.append(out[2], more[2]),
                np.append(out[3], more[3]),
            )
            capacity *= 2
        for at in range(count):
            out[0][filled + at], out[1][filled + at] = now[0][at], now[1][at]
            out[2][filled + at], out[3][filled + at] = now[2][at], now[3][at]
        filled += count
        out_offsets[size + 1] = filled
    return out_offsets, out[0][:filled], out[1][:filled], out[2][:filled], out[3][:filled]


@compiled
def _points(room: int) -> Any:
    """Room for points: latency, accuracy, the point before, requests in the mode that was added."""
    return (
        np.empty(room, np.int64),
        np.empty(room, np.float64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )


@compiled
def _join(
    now: Any, count: int, then: Any, latency: Any, accuracy: Any,
    low: int, high: int, cost: int, own: int, gain: float,
) -> int:  # fmt: skip
    """Write the Pareto points of `now` and of points low..high with `own` more requests; returns how many."""
    lat, acc, parent, taken = then
    at, point, filled = 0, low, 0
    while at < count or point < high:
        fresh = at == count or (point < high and latency[point] + cost < now[0][at])
        if fresh:
            spent, gained, before, mine = latency[point] + cost, accuracy[point] + gain, point, own
            point += 1
        else:
            spent, gained, before, mine = now[0][at], now[1][at], now[2][at], now[3][at]
            at += 1
        if filled and gained <= acc[filled - 1] + TIE:
            continue
        if filled and spent == lat[filled - 1]:
            filled -= 1
        lat[filled], acc[filled], parent[filled], taken[filled] = spent, gained, before, mine
        filled += 1
    return filled
