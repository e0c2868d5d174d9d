"""`joint`: drops, modes and batches across jobs, decided together over the whole queue.

It maximises the worth of requests served on time, then accuracy. The mathematics is in `solve/joint.py`; what
is decided here is how much time is kept back. For a job that costs more work per worth than others, the time
that cheaper jobs have been taking of late is not its to plan with: they will come again before it is done.
Accuracy is restored into time that the arrivals of late leave free.
"""

import numpy as np
from numpy.typing import NDArray

from mosel.online.policies.base import BatchChoice, Decision, View, head_batch
from mosel.solve.joint import Choice, Queue, choose

RESERVE = 1.1
"""By how much planned work is inflated when a job is accepted: batches will not all be the best ones."""

KEPT_BACK = 0.55
"""How much of the time that cheaper jobs took of late is kept back for those to come."""

LEAST_SHARE = 0.15
"""What no job's share of the time falls below."""

CHEAP_FIRST = 0.1
"""How much worth per time counts beside what a batch would make late."""

BUSY_BACKLOG = 0.3
"""Where arrivals would fill the workers at full accuracy: how much of its latency SLO may be planned ahead."""

LIGHT, LIGHT_WIDTH = 1.5, 0.6
"""Demand at full accuracy, per worker: below this, less the width, all of the latency SLO may be planned."""

FULL, FULL_WIDTH = 1.0, 0.5
"""Demand at the cheapest, per worker: from this on accuracy is not restored; it fades over the width."""


def joint(view: View) -> Decision:
    """Choose the next batch; see the module. Hopeless jobs are given up by the scheduler."""
    queue = view.queue
    if not len(queue):
        return Decision()
    if any(live.faults for live in queue.jobs):  # what such a job takes down should be no other job
        return Decision(batch=_faulty(view))
    chosen = choose(
        _columns(view),
        view.amortised.menu,
        view.amortised.classes,
        view.start_ns,
        reserve=RESERVE,
        cheap_first=CHEAP_FIRST,
    )
    return Decision(batch=_batch(view, chosen) or _alone(view))


def _faulty(view: View) -> BatchChoice | None:
    """Return the first batch of the first job under which a batch failed before, with no other job in it."""
    row = next(row for row, live in enumerate(view.queue.jobs) if live.faults)
    return head_batch(view, {}, np.array([row]))


def _columns(view: View) -> Queue:
    queue = view.queue
    workers = view.power
    worth, low, high = queue.floats("worth").copy(), queue.ints("low").copy(), queue.ints("high").copy()
    cost_ns = view.amortised.menu.work_ns[low] / np.maximum(worth, 1e-9)
    taken = view.demand.below(cost_ns, view.now_ns) / workers
    share = np.clip(1 - KEPT_BACK * taken, LEAST_SHARE, 1)
    room_ns = np.maximum(view.budget_ns(), 0)
    spare_ns = np.minimum(room_ns, _spare_ns(view, workers))
    return Queue(view.by_ns, room_ns, worth, low, high, share, spare_ns)


def _spare_ns(view: View, workers: float) -> NDArray[np.int64]:
    """How much work may be planned up to each job where accuracy is restored."""
    light = np.clip((LIGHT - view.demand.full(view.now_ns) / workers) / LIGHT_WIDTH, 0, 1)
    fading = np.clip((FULL - view.demand.least(view.now_ns) / workers) / FULL_WIDTH, 0, 1)
    part = max(float(light), BUSY_BACKLOG * float(fading))
    slo_ns = view.queue.ints("deadline_ns") - view.queue.ints("arrival_ns")
    spare_ns: NDArray[np.int64] = (part * slo_ns * workers).astype(np.int64)
    return spare_ns


def _batch(view: View, chosen: Choice) -> BatchChoice | None:
    """Fill the batch from accepted jobs in deadline order; without those that it would make late."""
    table, mode, bucket = view.amortised.owner(chosen.kind)
    latency_ns, size = table.latency_ns[mode, bucket], chosen.size
    while size:
        parts = _share(view, chosen, size, view.by_ns - int(latency_ns[size]))
        filled = sum(count for _, count in parts)
        if filled == size:
            return BatchChoice(table, mode, bucket, parts)
        sizes = table.batch_sizes(mode, bucket)
        size = int(sizes[sizes <= filled][-1]) if filled else 0
    return None


def _share(view: View, chosen: Choice, size: int, latest_ns: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Return up to `size` requests of the batch's class, of jobs for which it starts early enough."""
    menu, left, parts = view.amortised.menu, size, []
    for row in np.flatnonzero(chosen.accepted & (latest_ns >= view.start_ns)):
        option = chosen.option[row]
        pairs = slice(menu.first[option], menu.first[option + 1])
        mine = int(menu.pair_count[pairs][menu.pair_class[pairs] == chosen.kind].sum())
        if count := min(left, mine):
            parts.append((int(row), count))
            left -= count
        if not left:
            break
    return tuple(parts)


def _alone(view: View) -> BatchChoice | None:
    """Return the first batch of the first job that is still in time on its own."""
    for row, live in enumerate(view.queue.jobs):
        if view.start_ns + live.cheapest.latency_ns <= live.job.deadline_ns:
            return head_batch(view, {row: live.cheapest}, np.array([row]))
    return None
