"""What batches lose of what is yet to come: jobs that arrive under one and cannot wait for its end.

Such jobs are in classes by slack: how long each can wait. While a batch runs, those are lost that come so early
that it still runs when they have to be begun. With other workers, as many have to be free as the work of these
jobs takes; each that is missing loses its share. `online/policies/exposure.py` prepares what is asked here.
"""

from typing import Any

import numpy as np

from mosel.solve.jit import compiled
from mosel.solve.next_batch import UNKNOWN

FORGOTTEN = 1e-6
"""What less than so much worth is remembered is as nothing."""

TRADED = 0.1
"""How much worth of what is yet to come may be lost for accuracy of so much worth."""


@compiled
def exposed(tight: Any, rate: float, scarce: float, free: Any, latency: Any) -> Any:
    """Return the worth that is expected to be lost under each batch, and the work that it would have been.

    Args:
        tight: of shape (3, classes of slack), ascending: remembered worth, worth times slack, and work.
        rate: what turns it into worth and work per time.
        scarce: how much of the time would be taken otherwise, from 0 to 1; so much of the work counts.
        free: of shape (other workers,), ascending: in how much time each is free.
        latency: of shape (classes, largest batch + 1), 2⁶⁰ where there is no batch.

    Returns:
        Of shape (2, *shape of `latency`); empty if nothing is lost under any batch.
    """
    longest = np.int64(0)
    for took in latency.flat:
        if took < UNKNOWN:
            longest = max(longest, took)
    slack, rates = _soon(tight, rate, longest)
    if not len(slack):
        return np.zeros((2, 0, 0))
    since, share, lost = _missing(free, rates[1, -1])
    rates[1] *= scarce
    spared = np.zeros(rates.shape)
    for at in range(len(slack)):
        here = (rates[:, at + 1] - rates[:, at]) * _until(slack[at], since, share, lost)
        spared[:, at + 1] = spared[:, at] + here
    found = np.zeros((2, *latency.shape))
    for kind in range(latency.shape[0]):
        for size in range(latency.shape[1]):
            took = min(latency[kind, size], longest)
            below = np.searchsorted(slack, took)
            if below:
                gone = _until(took, since, share, lost)
                for what in range(2):
                    found[what, kind, size] = max(rates[what, below] * gone - spared[what, below], 0.0)
    return found


@compiled
def _soon(tight: Any, rate: float, longest: int) -> Any:
    """Return slacks shorter than the longest batch, and the sums of worth and of work per time up to each."""
    slack = np.empty(tight.shape[1])
    rates = np.zeros((2, tight.shape[1] + 1))
    count = 0
    for at in range(tight.shape[1]):
        worth = tight[0, at]
        if worth <= FORGOTTEN or tight[1, at] >= worth * longest:
            continue
        slack[count] = tight[1, at] / worth
        rates[0, count + 1] = rates[0, count] + worth * rate
        rates[1, count + 1] = rates[1, count] + tight[2, at] * rate
        count += 1
    return slack[:count], rates[:, : count + 1]


@compiled
def _missing(free: Any, wanted: float) -> Any:
    """Return, by how many other workers are free: since when, what share is lost, and how much was before."""
    since, share, lost = np.zeros(len(free) + 1), np.zeros(len(free) + 1), np.zeros(len(free) + 1)
    for at in range(len(free) + 1):
        share[at] = min(1.0, max(0.0, wanted - at)) / max(wanted, 1e-9)
        if at:
            since[at] = max(free[at - 1], since[at - 1])
            lost[at] = lost[at - 1] + share[at - 1] * (since[at] - since[at - 1])
    return since, share, lost


@compiled
def _until(time: float, since: Any, share: Any, lost: Any) -> Any:
    at = np.searchsorted(since, time, side="right") - 1
    return lost[at] + share[at] * (time - since[at])


@compiled
def harmless(
    low: Any, high: Any, worth: Any, accuracy: Any, first: Any, pair_class: Any, pair_count: Any, latency: Any,
    exposed: Any,
) -> Any:  # fmt: skip
    """Return where each job's options end: before the first that loses too much."""
    left = high.copy()
    for job in range(len(low)):
        if high[job] - low[job] < 2:
            continue
        least, requests = _alone(low[job], first, pair_class, pair_count, latency, exposed)
        for option in range(low[job] + 1, high[job]):
            lost, _ = _alone(option, first, pair_class, pair_count, latency, exposed)
            gained = (accuracy[option] - accuracy[low[job]]) * worth[job] / max(requests, np.int64(1))
            if lost - least > TRADED * gained:
                left[job] = option
                break
    return left


@compiled
def _alone(option: int, first: Any, pair_class: Any, pair_count: Any, latency: Any, exposed: Any) -> Any:
    """What an option loses in batches of its own, and how many requests it has."""
    lost, requests = 0.0, np.int64(0)
    for pair in range(first[option], first[option + 1]):
        kind, size = pair_class[pair], min(pair_count[pair], exposed.shape[2] - 1)
        while size > 1 and latency[kind, size] >= UNKNOWN:
            size -= 1
        lost += exposed[0, kind, size] * pair_count[pair] / max(size, np.int64(1))
        requests += pair_count[pair]
    return lost, requests
