"""The cheapest mix of modes for a job whose requests may share batches with any other's.

Then a request's cost is a number a mode, whatever its job's other requests do, and a mix is how many run in
which mode: §5.1 with batches of one. Only costs are found here, not the mixes; `cover.py` finds strategies.
"""

import numpy as np
from numpy.typing import NDArray

FINENESS = 1 << 40
"""Accuracies are whole multiples of one over this, rounded up, so that sums are exact and ties are ties."""

WHOLE_UP_TO = 64
"""Larger jobs are mixed in fractions of a request, which costs less by at most one request's worth."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def least_costs(unit: Floats, accuracy: Floats, requests: Ints, needed: Floats) -> Floats:
    """Return the least cost of each job, infinite where its accuracy is out of reach.

    Accuracies count as up to 1e-12 more than they are: a cost may be a little too low for it, never too high.

    Args:
        unit: of shape (modes,), what a request costs; infinite for a mode that cannot be used.
        accuracy: of shape (modes,).
        requests: of shape (jobs,), from 1.
        needed: of shape (jobs,), the least mean accuracy.
    """
    found = np.full(len(requests), np.inf)
    usable = np.isfinite(unit)
    if not usable.any():
        return found
    unit, gain = unit[usable], np.ceil(accuracy[usable] * FINENESS).astype(np.int64)
    small = requests <= WHOLE_UP_TO
    costs, sums = np.zeros(1), np.zeros(1, np.int64)
    for size in range(1, int(requests[small].max(initial=0)) + 1):
        costs, sums = _pareto(np.add.outer(unit, costs).ravel(), np.add.outer(gain, sums).ravel())
        own = np.flatnonzero(requests == size)
        at = np.searchsorted(sums, np.floor(needed[own] * size * FINENESS).astype(np.int64))
        found[own] = np.append(costs, np.inf)[at]
    large = ~small
    found[large] = requests[large] * _least_means(unit, gain / FINENESS, needed[large])
    return found


def _pareto(cost: Floats, gain: Ints) -> tuple[Floats, Ints]:
    order = np.lexsort((-gain, cost))
    best = np.maximum.accumulate(gain[order])
    keep = np.ones(len(order), bool)
    keep[1:] = gain[order][1:] > best[:-1]
    return cost[order[keep]], gain[order[keep]]


def _least_means(unit: Floats, accuracy: Floats, needed: Floats) -> Floats:
    """Return the least mean cost at each mean accuracy: a mix of at most two modes, in any proportion."""
    found = np.full(len(needed), np.inf)
    for low, cheap in zip(accuracy, unit, strict=True):
        found = np.where(low >= needed, np.minimum(found, cheap), found)
        for high, dear in zip(accuracy, unit, strict=True):
            if high > low:
                part = (needed - low) / (high - low)
                mixed = cheap + part * (dear - cheap)
                found = np.where((part >= 0) & (part <= 1), np.minimum(found, mixed), found)
    return found
