"""What a batch costs whose requests may need a second stage: in expectation, and at a high quantile.

Of `size` requests a binomial number is unsure. All functions take the latencies of two modes in one bucket, of
shape (sizes + 1,), indexed by batch size, with `UNAVAILABLE` where there is none.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.cover import cheapest_batches
from mosel.solve.jit import compiled

SAFE = 0.99
"""In what share of cases no more requests are unsure than a deadline is held with."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def expected_ns(first_ns: Ints, last_ns: Ints, escalated: float) -> Ints:
    """Return what each batch size costs in the mean, if its unsure requests share batches of their own only."""
    cost = cheapest_batches(last_ns, len(first_ns) - 1)[0]
    more = np.array([_shares(size, escalated) @ cost[: size + 1] for size in range(len(first_ns))], np.float64)
    return _added(first_ns, more)


def shared_ns(first_ns: Ints, last_ns: Ints, escalated: float) -> Ints:
    """Return what each batch size costs in the mean, if unsure requests share batches with any others."""
    sizes = np.flatnonzero(last_ns[1:] < UNAVAILABLE) + 1
    unit = float(np.min(last_ns[sizes] / sizes))
    return _added(first_ns, np.arange(len(first_ns), dtype=np.float64) * escalated * unit)


def cover_ns(first_ns: Ints, last_ns: Ints, escalated: float, most: int) -> Ints:
    """Return what 0..`most` requests cost in the mean, if the unsure ones among them share batches.

    Few requests have few unsure ones, whose batches are as small: that is what `shared_ns` leaves out.
    """
    first, last = (cheapest_batches(np.ascontiguousarray(each), most)[0] for each in (first_ns, last_ns))
    found: Ints = np.rint(first + _means(last, escalated)).astype(np.int64)
    return found


def safe_ns(first_ns: Ints, last_ns: Ints, escalated: float) -> Ints:
    """Return what each batch size takes at most in a share `SAFE` of cases, and if one request is unsure."""
    cost = cheapest_batches(last_ns, len(first_ns) - 1)[0]
    more = [cost[max(1, _quantile(size, escalated))] if size else 0 for size in range(len(first_ns))]
    return _added(first_ns, np.array(more, np.float64))


@compiled
def _means(cost: Any, chance: float) -> Any:
    """Return, for 0.. requests, the mean cost of those of them that are unsure."""
    most = len(cost) - 1
    given = cost.astype(np.float64)  # the mean if so many are unsure already
    means = np.empty(most + 1)
    means[0] = given[0]
    for more in range(1, most + 1):
        for unsure in range(most + 1 - more):
            given[unsure] += chance * (given[unsure + 1] - given[unsure])
        means[more] = given[0]
    return means


def _shares(size: int, escalated: float) -> Floats:
    """The probability of 0.. unsure requests."""
    shares: Floats = binom.pmf(np.arange(size + 1), size, escalated)
    return shares


def _quantile(size: int, escalated: float) -> int:
    return int(np.searchsorted(np.cumsum(_shares(size, escalated)), SAFE - 1e-12))


def _added(first_ns: Ints, more_ns: Floats) -> Ints:
    known = first_ns < UNAVAILABLE
    return np.where(known, np.rint(first_ns + np.where(known, more_ns, 0)), UNAVAILABLE).astype(np.int64)
