"""`joint`: which jobs to serve, in which modes, and which requests run together, as one choice.

Work is counted in classes, one a (model, mode, length bucket): what q requests of a class cost is the least
latency of any batches that hold them (`cover_ns`), whoever they belong to. A job's options say how many of its
requests run in each class; its cost is that of its cheapest option at each class's best batch size.

1. Accept, the least work per worth first, every job with which all accepted ones still meet their deadlines,
   keeping back a share of the time for jobs yet to come that are cheaper (`share`).
2. Restore accuracy where the accepted work leaves time before `spare_ns`.
3. Run the batch that loses least per useful nanosecond: worth that it makes late, and time that a fuller
   batch would have saved, priced at what the costliest accepted job is worth.

Deadlines are looked at in at most `GROUPS` groups, so that the cost of a choice grows with the queue, not with
its square. Nothing here knows a job, a clock or a worker; `online/policies/joint.py` prepares the columns.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mosel.solve.assign import _greedy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GROUPS = 128
"""Up to this many jobs every deadline stands for itself."""

UNKNOWN = 1 << 60


class Classes(NamedTuple):
    """What batches of each class cost.

    Attributes:
        latency_ns: of shape (classes, largest batch + 1), indexed by batch size; 2⁶⁰ where there is none.
        cover_ns: of shape (classes, requests + 1): the least latency of so many requests in batches.
        unit_ns: of shape (classes,): a request's share of the best batch.
    """

    latency_ns: Ints
    cover_ns: Ints
    unit_ns: Floats


class Menu(NamedTuple):
    """Options, flat. Option o has so many requests in so many classes: pairs first[o]..first[o + 1].

    Attributes:
        work_ns: of shape (options,), at each class's unit cost.
        accuracy: of shape (options,), summed over requests.
        first: of shape (options + 1,).
        pair_class: of shape (pairs,).
        pair_count: of shape (pairs,).
    """

    work_ns: Ints
    accuracy: Floats
    first: Ints
    pair_class: Ints
    pair_count: Ints


class Queue(NamedTuple):
    """Jobs in deadline order; all of shape (jobs,).

    Attributes:
        by_ns: when each has to end.
        room_ns: how much work all workers can do by then.
        worth: what serving it on time is worth.
        low, high: its options in the menu, cheapest first.
        share: of the time until `by_ns`, what may be planned when this job is taken in.
        spare_ns: how much work may be planned up to it where accuracy is restored.
    """

    by_ns: Ints
    room_ns: Ints
    worth: Floats
    low: Ints
    high: Ints
    share: Floats
    spare_ns: Ints


class Choice(NamedTuple):
    """The next batch; `size` is 0 if there is none.

    Attributes:
        kind: its class.
        size: how many requests.
        accepted: which jobs are meant to be served.
        option: each job's option.
    """

    kind: int
    size: int
    accepted: NDArray[np.bool_]
    option: Ints


def choose(
    queue: Queue, menu: Menu, classes: Classes, start_ns: int, *, reserve: float, cheap_first: float
) -> Choice:
    """Return the next batch for a worker that is free at `start_ns`.

    Args:
        queue: the jobs.
        menu: their options.
        classes: what batches cost.
        start_ns: when the batch would start.
        reserve: by how much planned work is inflated when a job is accepted.
        cheap_first: how much worth per nanosecond counts beside what is lost.
    """
    kind, size, accepted, option = _choose(*queue, *menu, *classes, start_ns, reserve, cheap_first)
    return Choice(int(kind), int(size), accepted, option)


@njit(cache=True, nogil=True)
def _choose(
    by: Any, room: Any, worth: Any, low: Any, high: Any, share: Any, spare: Any,
    work: Any, accuracy: Any, first: Any, pair_class: Any, pair_count: Any,
    latency: Any, cover: Any, unit: Any, start: int, reserve: float, cheap_first: float,
) -> Any:  # fmt: skip
    jobs = len(by)
    density = np.empty(jobs, np.float64)
    for job in range(jobs):
        density[job] = work[low[job]] / max(worth[job], 1e-9)
    order = np.argsort(density, kind="mergesort")
    groups = min(jobs, GROUPS)
    group = np.empty(jobs, np.int64)
    by_group = np.empty(groups, np.int64)
    room_group = np.empty(groups, np.int64)
    for job in range(jobs - 1, -1, -1):
        group[job] = job * groups // jobs
        by_group[group[job]] = by[job]
        room_group[group[job]] = room[job]
    ahead = np.zeros((groups, len(unit)), np.int64)
    total = np.zeros(groups, np.int64)
    option = low.copy()
    accepted = np.zeros(jobs, np.bool_)
    full_share = np.ones(jobs, np.float64)
    for attempt in range(2):
        limits, factor = (share, reserve) if attempt == 0 else (full_share, 1.0)
        taken = _accept(
            order, group, room_group, option, limits, factor, first, pair_class, pair_count, cover, unit,
            ahead, total, accepted,
        )  # fmt: skip
        if taken:
            break
    if not accepted.any():
        return -1, 0, accepted, option
    _restore(
        room_group, spare, group, low, high, work, accuracy, first, pair_class, pair_count, cover, unit,
        ahead, total, accepted, option,
    )  # fmt: skip
    price = np.inf
    for job in range(jobs):
        if accepted[job]:
            price = min(price, 1.0 / max(density[job], 1e-9))
    kind, size = _next_batch(
        group, by_group, room_group, worth, work, low, first, pair_class, pair_count, latency, cover, unit,
        ahead, total, accepted, option, start, price, cheap_first,
    )  # fmt: skip
    return kind, size, accepted, option


@njit(cache=True, nogil=True)
def _cost(cover: Any, unit: Any, kind: int, requests: int) -> Any:
    """The least latency of so many requests of a class; beyond the table by the best batch's rate."""
    most = cover.shape[1] - 1
    if requests <= most:
        return cover[kind, requests]
    return cover[kind, most] + np.int64((requests - most) * unit[kind])


@njit(cache=True, nogil=True)
def _accept(
    order: Any, group: Any, room: Any, option: Any, share: Any, reserve: float,
    first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any,
) -> Any:  # fmt: skip
    """Take jobs in, in `order`, while every group's work up to it fits; fills the last three."""
    groups = len(room)
    more = np.empty(groups, np.int64)
    count = 0
    for job in order:
        low, high = first[option[job]], first[option[job] + 1]
        fits = True
        for at in range(group[job], groups):
            extra = np.int64(0)
            for pair in range(low, high):
                kind = pair_class[pair]
                extra += _cost(cover, unit, kind, ahead[at, kind] + pair_count[pair]) - _cost(
                    cover, unit, kind, ahead[at, kind]
                )
            planned = total[at] + extra
            if planned > room[at] or planned * reserve > room[at] * share[job]:
                fits = False
                break
            more[at] = extra
        if not fits:
            continue
        accepted[job] = True
        count += 1
        for at in range(group[job], groups):
            total[at] += more[at]
            for pair in range(low, high):
                ahead[at, pair_class[pair]] += pair_count[pair]
    return count


@njit(cache=True, nogil=True)
def _restore(
    room: Any, spare: Any, group: Any, low: Any, high: Any, work: Any, accuracy: Any,
    first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any, option: Any,
) -> None:  # fmt: skip
    """Move accepted jobs to more accurate options while the work fits into `spare` and `room`."""
    rows = np.flatnonzero(accepted)
    planned = np.int64(0)
    offsets = np.zeros(len(rows) + 1, np.int64)
    for index, job in enumerate(rows):
        planned += work[low[job]]
        if planned > spare[job]:
            return
        offsets[index + 1] = offsets[index] + high[job] - low[job]
    latencies = np.empty(offsets[-1], np.int64)
    gains = np.empty(offsets[-1], np.float64)
    budget = np.empty(len(rows), np.int64)
    for index, job in enumerate(rows):
        latencies[offsets[index] : offsets[index + 1]] = work[low[job] : high[job]]
        gains[offsets[index] : offsets[index + 1]] = accuracy[low[job] : high[job]]
        budget[index] = spare[job]
    for index in range(len(rows) - 2, -1, -1):
        budget[index] = min(budget[index], budget[index + 1])
    picked = _greedy(offsets, latencies, gains, budget)[0]
    if len(picked) == 0:
        return
    before = ahead.copy(), total.copy()
    for index, job in enumerate(rows):
        option[job] = low[job] + picked[index]
    _recount(group, first, pair_class, pair_count, cover, unit, ahead, total, accepted, option)
    for at in range(len(room)):
        if total[at] > room[at]:
            ahead[:], total[:] = before
            for job in rows:
                option[job] = low[job]
            return


@njit(cache=True, nogil=True)
def _recount(
    group: Any, first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any, option: Any,
) -> None:  # fmt: skip
    """Sum up the accepted jobs' options up to each group."""
    ahead[:] = 0
    for job in range(len(group)):
        if accepted[job]:
            for pair in range(first[option[job]], first[option[job] + 1]):
                ahead[group[job], pair_class[pair]] += pair_count[pair]
    for at in range(len(total)):
        total[at] = 0
        for kind in range(ahead.shape[1]):
            if at:
                ahead[at, kind] += ahead[at - 1, kind]
            total[at] += _cost(cover, unit, kind, ahead[at, kind])


@njit(cache=True, nogil=True)
def _next_batch(
    group: Any, by: Any, room: Any, worth: Any, work: Any, low: Any,
    first: Any, pair_class: Any, pair_count: Any, latency: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any, option: Any, start: int, price: float, cheap_first: float,
) -> Any:  # fmt: skip
    """Return the class and size of the batch with the least loss per useful nanosecond."""
    jobs, groups, kinds = len(group), len(by), len(unit)
    worth_group = np.zeros(groups, np.float64)
    for job in range(jobs):
        if accepted[job]:
            worth_group[group[job]] += worth[job]
    own = np.zeros(groups, np.int64)
    best, best_kind, best_size = np.inf, -1, 0
    for kind in range(kinds):
        demand = ahead[groups - 1, kind]
        if demand == 0:
            continue
        own[:] = 0
        rates = np.zeros(demand, np.float64)
        filled = 0
        for job in range(jobs):
            if not accepted[job]:
                continue
            for pair in range(first[option[job]], first[option[job] + 1]):
                if pair_class[pair] == kind:
                    own[group[job]] += pair_count[pair]
                    for _ in range(pair_count[pair]):
                        rates[filled] = worth[job] * unit[kind] / max(work[low[job]], np.int64(1))
                        filled += 1
        top = min(latency.shape[1] - 1, demand)
        size = 0
        gained = 0.0
        while size < top:
            step = 1 if size < 8 else max(1, size // 4)
            following = min(top, size + step)
            for index in range(size, following):
                gained += rates[index]
            size = following
            took = latency[kind, size]
            if took >= UNKNOWN:
                continue
            lost, wasted = _lost(
                kind, size, took, start, by, room, total, ahead, own, worth_group, cover, unit, jobs
            )
            useful = max(unit[kind] * (size - wasted), 1e-3)
            score = (lost + price * (took - useful) - cheap_first * gained * (size - wasted) / size) / useful
            if score < best:
                best, best_kind, best_size = score, kind, size
    return best_kind, best_size


@njit(cache=True, nogil=True)
def _lost(
    kind: int, size: int, took: int, start: int, by: Any, room: Any, total: Any, ahead: Any, own: Any,
    worth: Any, cover: Any, unit: Any, jobs: int,
) -> Any:  # fmt: skip
    """What is lost by running this batch now: (worth of jobs that become late, requests run in vain)."""
    lost, relief, wasted = 0.0, np.int64(0), 0
    left = size
    for at in range(len(by)):
        before = ahead[at, kind]
        rest = total[at] - _cost(cover, unit, kind, before) + _cost(cover, unit, kind, max(before - size, 0))
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
