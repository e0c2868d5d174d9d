"""The next batch of `joint`: the one that loses least per useful nanosecond.

A batch is useful by what its requests would cost in the best batches; it loses the worth of the jobs that it
makes late, here (`_lost`) or yet to come (`exposed`), and the time that a fuller batch would have saved,
priced at what the costliest accepted job is worth. `solve/joint.py` says what the arrays are and asks here.
"""

from typing import Any

import numpy as np

from mosel.solve.jit import compiled

UNKNOWN = 1 << 60
HELD = -2
"""The class of no batch, where there are some that all lose more of what is yet to come than they gain."""

SLIGHT = 0.1
"""Of what a batch serves: where less is lost of what is yet to come, that does not decide which one is next."""

SAME = 1e-9
"""What losses may differ by and be the same."""


@compiled
def next_batch(
    group: Any, by: Any, room: Any, worth: Any, work: Any, low: Any,
    first: Any, pair_class: Any, pair_count: Any, latency: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any, option: Any, start: int, price: float, cheap_first: float,
    spare_all: bool, exposed: Any,
) -> Any:  # fmt: skip
    """Return the class and size of the batch with the least loss per useful nanosecond.

    With `spare_all` it is the one that loses least, and of these the one with the least per useful nanosecond.
    One that would lose more of what is yet to come (`exposed`) than it gains is left; if all are, the class is
    `HELD`.
    """
    jobs, groups, kinds = len(group), len(by), len(unit)
    worth_group = np.zeros(groups, np.float64)
    for job in range(jobs):
        if accepted[job]:
            worth_group[group[job]] += worth[job]
    own = np.zeros(groups, np.int64)
    best, best_kind, best_size, least = np.inf, -1, 0, np.inf
    for kind in range(kinds):
        demand = ahead[groups - 1, kind]
        if demand == 0:
            continue
        own[:] = 0
        rates = np.zeros(demand, np.float64)
        share = np.zeros(demand, np.float64)
        filled = 0
        for job in range(jobs):
            if not accepted[job]:
                continue
            begin, end = first[option[job]], first[option[job] + 1]
            for pair in range(begin, end):
                if pair_class[pair] == kind:
                    own[group[job]] += pair_count[pair]
                    each = worth[job] / pair_count[begin:end].sum()
                    for _ in range(pair_count[pair]):
                        share[filled] = each
                        rates[filled] = worth[job] * unit[kind] / max(work[low[job]], np.int64(1))
                        filled += 1
        top = min(latency.shape[1] - 1, demand)
        size = 0
        gained, served = 0.0, 0.0
        while size < top:
            step = 1 if size < 8 else max(1, size // 4)
            following = min(top, size + step)
            for index in range(size, following):
                gained += rates[index]
                served += share[index]
            size = following
            took = latency[kind, size]
            if took >= UNKNOWN:
                continue
            risk = 0.0
            if exposed.size:  # less what the requests of this batch are worth in the same time
                instead = exposed[1, kind, size] * served / max(unit[kind] * size, 1e-3)
                risk = exposed[0, kind, size] - instead
                if risk < SLIGHT * served:
                    risk = 0.0
            if risk > served:
                if best_kind < 0:
                    best_kind = HELD
                continue
            lost, wasted = _lost(
                kind, size, took, start, by, room, total, ahead, own, worth_group, cover, unit, jobs
            )
            useful = max(unit[kind] * (size - wasted), 1e-3)
            cheap = cheap_first * gained * (size - wasted) / size
            score = (lost + risk + price * (took - useful) - cheap) / useful
            if score < best if abs(lost - least) < SAME or not spare_all else lost < least:
                best, best_kind, best_size, least = score, kind, size, lost
    return best_kind, best_size


@compiled
def fill(
    by: Any, first: Any, pair_class: Any, pair_count: Any, latency: Any, accepted: Any, option: Any,
    start: int, kind: int, size: int,
) -> Any:  # fmt: skip
    """Fill a batch from accepted jobs in deadline order, without those that it would make late.

    Returns (rows, counts), both empty if there is none; a size that cannot be filled gives way to a smaller.
    """
    rows = np.empty(size, np.int64)
    counts = np.empty(size, np.int64)
    while size > 0:
        found, filled = 0, 0
        for job in range(len(by)):
            if filled == size:
                break
            if not accepted[job] or start + latency[kind, size] > by[job]:
                continue
            own = 0
            for pair in range(first[option[job]], first[option[job] + 1]):
                if pair_class[pair] == kind:
                    own += pair_count[pair]
            if own:
                rows[found], counts[found] = job, min(own, size - filled)
                filled += counts[found]
                found += 1
        if filled == size:
            return rows[:found], counts[:found]
        size = filled
        while size > 0 and latency[kind, size] >= UNKNOWN:
            size -= 1
    return rows[:0], counts[:0]


@compiled
def cost(cover: Any, unit: Any, kind: int, requests: int) -> Any:
    """The least latency of so many requests of a class; beyond the table by the best batch's rate."""
    most = cover.shape[1] - 1
    if requests <= most:
        return cover[kind, requests]
    return cover[kind, most] + np.int64((requests - most) * unit[kind])


@compiled
def _lost(
    kind: int, size: int, took: int, start: int, by: Any, room: Any, total: Any, ahead: Any, own: Any,
    worth: Any, cover: Any, unit: Any, jobs: int,
) -> Any:  # fmt: skip
    """What is lost by running this batch now: (worth of jobs that become late, requests run in vain)."""
    lost, relief, wasted = 0.0, np.int64(0), 0
    left = size
    for at in range(len(by)):
        before = ahead[at, kind]
        rest = total[at] - cost(cover, unit, kind, before) + cost(cover, unit, kind, max(before - size, 0))
        rest -= relief
        space = room[at] - min(np.int64(took), max(by[at] - start, np.int64(0)))
        taken = min(left, own[at])
        left -= taken
        early = taken > 0 and start + took > by[at]
        if rest <= space and not early:
            continue
        mine = total[at] - (total[at - 1] if at else np.int64(0))
        whole = early or len(by) == jobs
        part = 1.0 if whole else min(1.0, (rest - space) / max(mine, np.int64(1)))
        lost += part * worth[at]
        relief += np.int64(part * mine)
        wasted += int(part * taken)
    return lost, wasted
