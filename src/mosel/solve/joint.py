"""`joint`: which jobs to serve, in which modes, and which requests run together, as one choice.

Work is counted in classes, one a (model, mode, length bucket): what q requests of a class cost is the least
latency of any batches that hold them (`cover_ns`), whoever they belong to. A job's options say how many of its
requests run in each class; its cost is that of its cheapest option at each class's best batch size.

1. Accept, the least work per worth first, every job with which all accepted ones still meet their deadlines,
   keeping back a share of the time for jobs yet to come that are cheaper (`share`). Where workers keep up,
   nothing is kept back if that lets in everybody. Short of lasting overload a job joins batches of others in
   a dearer mode where that adds less than a batch of its own.
2. Restore accuracy, the most per work first, where the time that the accepted work leaves allows (`spare_ns`).
3. Run the batch that loses least per useful nanosecond (`solve/next_batch.py`).

Deadlines are looked at in at most `GROUPS` groups, so that the cost of a choice grows with the queue, not with
its square. Nothing here knows a job, a clock or a worker; `online/policies/joint.py` prepares the columns.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosel.solve.exposure import harmless
from mosel.solve.jit import compiled
from mosel.solve.next_batch import cost, fill, next_batch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GROUPS = 128
"""Up to this many jobs every deadline stands for itself."""


NONE = np.zeros((2, 0, 0))
"""Nothing is lost of what is yet to come."""

RESTORED = 384
"""How many jobs accuracy is restored for, the most urgent first: others will be before they run."""


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
        spare_ns: how much more than the cheapest may be planned up to it where accuracy is restored.
    """

    by_ns: Ints
    room_ns: Ints
    worth: Floats
    low: Ints
    high: Ints
    share: Floats
    spare_ns: Ints


class Care(NamedTuple):
    """How much is kept back.

    Attributes:
        accept: by how much planned work is inflated when a job is accepted: batches will not all be the best.
        restore: the same where accuracy is restored.
        cheap_first: how much worth per nanosecond counts beside what a batch loses.
        full_batches: how much the time counts that a fuller batch would have saved; 1 where time is short.
        ease: from 0 to 1, how far workers are from lasting overload. Where they are, every job is taken in as
            cheaply as may be; where they keep up, those that are here come before those yet to come.
    """

    accept: float
    restore: float
    cheap_first: float
    full_batches: float
    ease: float


class Choice(NamedTuple):
    """The next batch; `rows` is empty if there is none.

    Then `kind` is `HELD` if there is one, but it would lose more than it gains.

    Attributes:
        kind: its class.
        rows: whose requests it holds, in deadline order.
        counts: how many of each.
        accepted: which jobs are meant to be served.
        option: each job's option.
    """

    kind: int
    rows: Ints
    counts: Ints
    accepted: NDArray[np.bool_]
    option: Ints


def choose(
    queue: Queue, menu: Menu, classes: Classes, start_ns: int, care: Care, exposed: Floats = NONE
) -> Choice:
    """Return the next batch for a worker that is free at `start_ns`.

    `exposed` is of the shape of `classes.latency_ns`, the worth of jobs yet to come that each batch would lose,
    or empty if there is none (`solve/exposure.py`).
    """
    kind, rows, counts, accepted, option = _choose(*queue, *menu, *classes, start_ns, *care, exposed)
    return Choice(int(kind), rows, counts, accepted, option)


@compiled
def _choose(
    by: Any, room: Any, worth: Any, low: Any, high: Any, share: Any, spare: Any,
    work: Any, accuracy: Any, first: Any, pair_class: Any, pair_count: Any,
    latency: Any, cover: Any, unit: Any, start: int, accept: float, restore: float, cheap_first: float,
    full_batches: float, ease: float, exposed: Any,
) -> Any:  # fmt: skip
    jobs = len(by)
    groups = min(jobs, GROUPS)
    group, by_group, room_group, spare_group = _grouped(by, room, spare, groups)
    if exposed.size:
        high = harmless(low, high, worth, accuracy, first, pair_class, pair_count, latency, exposed)
    density = np.empty(jobs, np.float64)
    for job in range(jobs):
        density[job] = work[low[job]] / max(worth[job], 1e-9)
    order = np.argsort(density, kind="mergesort")
    option = low.copy()
    taken, ahead, total, accepted = _take_in(
        order, group, room_group, option, low, high, share, accept, ease,
        first, pair_class, pair_count, cover, unit,
    )  # fmt: skip
    if not taken:
        return -1, np.empty(0, np.int64), np.empty(0, np.int64), accepted, option
    _restore(
        group, room_group, spare_group, low, high, work, accuracy, first, pair_class, pair_count, cover, unit,
        restore, ahead, total, accepted, option,
    )  # fmt: skip
    price = np.inf
    for job in range(jobs):
        if accepted[job]:
            price = min(price, 1.0 / max(density[job], 1e-9))
    kind, size = next_batch(
        group, by_group, room_group, worth, work, low, first, pair_class, pair_count, latency, cover, unit,
        ahead, total, accepted, option, start, price * full_batches, cheap_first,
        ease == 1 and taken == jobs, exposed,
    )  # fmt: skip
    rows, counts = fill(by, first, pair_class, pair_count, latency, accepted, option, start, kind, size)
    return kind, rows, counts, accepted, option


@compiled
def _grouped(by: Any, room: Any, spare: Any, groups: int) -> Any:
    """Each job's group, and what holds for the first job of each (for `spare` the least)."""
    jobs = len(by)
    group = np.empty(jobs, np.int64)
    by_group = np.empty(groups, np.int64)
    room_group = np.empty(groups, np.int64)
    spare_group = np.full(groups, np.int64(1) << 60)
    for job in range(jobs - 1, -1, -1):
        at = job * groups // jobs
        group[job], by_group[at], room_group[at] = at, by[job], room[job]
        spare_group[at] = min(spare_group[at], spare[job])
    return group, by_group, room_group, spare_group


@compiled
def _take_in(
    order: Any, group: Any, room: Any, option: Any, low: Any, high: Any, share: Any, reserve: float,
    ease: float, first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
) -> Any:  # fmt: skip
    """Return how many jobs are accepted, the work ahead of each group by class, in all, and which jobs.

    Nothing is kept back where workers keep up and that lets in everybody, or else somebody: whatever is yet to
    come, a worker does not idle beside a job that it can serve.
    """
    jobs, groups = len(order), len(room)
    join = ease > 0 and jobs <= RESTORED
    ahead = np.zeros((groups, len(unit)), np.int64)
    total = np.zeros(groups, np.int64)
    accepted = np.zeros(jobs, np.bool_)
    taken = _accept(
        order, group, room, option, low, high, share, reserve, join, first, pair_class, pair_count, cover, unit,
        ahead, total, accepted,
    )  # fmt: skip
    if taken == jobs or (taken and ease < 1):
        return taken, ahead, total, accepted
    fuller, longer, more = ahead.copy(), total.copy(), accepted.copy()
    added = _accept(
        order[~accepted[order]], group, room, option, low, high, np.ones(jobs), 1.0, join,
        first, pair_class, pair_count, cover, unit, fuller, longer, more,
    )  # fmt: skip
    if taken and taken + added < jobs:
        return taken, ahead, total, accepted
    return taken + added, fuller, longer, more


@compiled
def _accept(
    order: Any, group: Any, room: Any, option: Any, low: Any, high: Any, share: Any, reserve: float,
    join: bool, first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
    ahead: Any, total: Any, accepted: Any,
) -> Any:  # fmt: skip
    """Take jobs in, in `order`, while every group's work up to it fits; fills the last three.

    Each comes in its cheapest option, or, to `join`, in that which costs least beside the work due before it.
    """
    groups = len(room)
    more = np.empty(groups, np.int64)
    count = 0
    for job in order:
        if join:
            option[job] = _joining(
                low[job], high[job], ahead[group[job]], first, pair_class, pair_count, cover, unit
            )  # fmt: skip
        begin, end = first[option[job]], first[option[job] + 1]
        fits = True
        for at in range(groups - 1, group[job] - 1, -1):  # the last is full first
            extra = np.int64(0)
            for pair in range(begin, end):
                kind, before = pair_class[pair], ahead[at, pair_class[pair]]
                extra += cost(cover, unit, kind, before + pair_count[pair]) - cost(cover, unit, kind, before)
            planned = total[at] + extra
            if planned > room[at] or planned * reserve > room[at] * share[job]:
                fits = False
                break
            more[at] = extra
        if not fits:
            option[job] = low[job]
            continue
        accepted[job] = True
        count += 1
        for at in range(group[job], groups):
            total[at] += more[at]
            for pair in range(begin, end):
                ahead[at, pair_class[pair]] += pair_count[pair]
    return count


@compiled
def _joining(
    low: int, high: int, ahead: Any, first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any
) -> Any:
    """Return the option that adds least to the work `ahead` by class: it may join batches that run anyway."""
    best, least = low, np.int64(1) << 60
    for option in range(low, high):
        extra = np.int64(0)
        for pair in range(first[option], first[option + 1]):
            kind, before = pair_class[pair], ahead[pair_class[pair]]
            extra += cost(cover, unit, kind, before + pair_count[pair]) - cost(cover, unit, kind, before)
        if extra < least:
            best, least = option, extra
    return best


@compiled
def _restore(
    group: Any, room: Any, spare: Any, low: Any, high: Any, work: Any, accuracy: Any,
    first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any,
    reserve: float, ahead: Any, total: Any, accepted: Any, option: Any,
) -> None:  # fmt: skip
    """Move accepted jobs to more accurate options, the most per work first, while the work fits.

    Every group's work, times `reserve`, has to stay within `room`, and what it grew by within `spare`.
    """
    limit = np.empty(len(room), np.int64)
    most = np.int64(0)
    for at in range(len(room)):
        limit[at] = min(np.int64(room[at] / reserve), total[at] + spare[at])
        most = max(most, limit[at] - total[at])
    if most <= 0:
        return
    step_job, step_to, rise = _steps(low, high, work, accuracy, accepted)
    blocked = np.zeros(len(group), np.bool_)
    for index in np.argsort(-rise, kind="mergesort"):
        job = step_job[index]
        to = low[job] + step_to[index]
        while not blocked[job] and option[job] < to:
            if _move(
                job, to, group, limit, option, first, pair_class, pair_count, cover, unit, ahead, total
            ):  # fmt: skip
                break
            to -= 1  # a part of the step may fit where the whole does not
            blocked[job] = to == option[job]


@compiled
def _steps(low: Any, high: Any, work: Any, accuracy: Any, accepted: Any) -> Any:
    """Concave hulls of the first accepted jobs' options: (job, option reached, accuracy per work)."""
    rows = np.flatnonzero(accepted)[:RESTORED]
    most = 0
    for job in rows:
        most += high[job] - low[job]
    step_job = np.empty(most, np.int64)
    step_to = np.empty(most, np.int64)
    rises = np.empty(most, np.float64)
    count = 0
    for job in rows:
        begin = count
        for to in range(low[job] + 1, high[job]):
            while True:
                at = low[job] if count == begin else low[job] + step_to[count - 1]
                rise = (accuracy[to] - accuracy[at]) / max(work[to] - work[at], np.int64(1))
                if count == begin or rises[count - 1] > rise:
                    break
                count -= 1
            step_job[count], step_to[count], rises[count] = job, to - low[job], rise
            count += 1
    return step_job[:count], step_to[:count], rises[:count]


@compiled
def _move(
    job: int, to: int, group: Any, limit: Any, option: Any,
    first: Any, pair_class: Any, pair_count: Any, cover: Any, unit: Any, ahead: Any, total: Any,
) -> Any:  # fmt: skip
    """Move a job to another option if every group's work stays within its limit; whether it did."""
    groups, kinds = len(limit), len(unit)
    change = np.zeros(kinds, np.int64)
    for pair in range(first[option[job]], first[option[job] + 1]):
        change[pair_class[pair]] -= pair_count[pair]
    for pair in range(first[to], first[to + 1]):
        change[pair_class[pair]] += pair_count[pair]
    kinds_moved = np.flatnonzero(change)
    more = np.empty(groups, np.int64)
    for at in range(groups - 1, group[job] - 1, -1):
        extra = np.int64(0)
        for kind in kinds_moved:
            before = ahead[at, kind]
            extra += cost(cover, unit, kind, before + change[kind]) - cost(cover, unit, kind, before)
        if extra > 0 and total[at] + extra > limit[at]:
            return False
        more[at] = extra
    for at in range(group[job], groups):
        total[at] += more[at]
        for kind in kinds_moved:
            ahead[at, kind] += change[kind]
    option[job] = to
    return True
