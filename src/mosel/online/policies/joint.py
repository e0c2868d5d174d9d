"""`joint`: drops, modes and batches across jobs, decided together over the whole queue.

It maximises the worth of requests served on time, then accuracy. The mathematics is in `solve/joint.py`; what
is decided here is how much time is kept back. For a job that costs more work per worth than others, the time
that cheaper jobs have been taking of late is not its to plan with: they will come again before it is done.
Accuracy is restored with time that would be free even if the worst burst of late came again, and freely where
arrivals would leave workers idle at full accuracy.
"""

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.online.policies.base import BatchChoice, Decision, View, head_batch
from mosel.online.policies.exposure import exposed
from mosel.online.policies.second_look import second_look
from mosel.solve.joint import Care, Choice, Queue, choose
from mosel.solve.next_batch import HELD

RESERVE = 1.02
"""By how much planned work is inflated when a job is accepted: batches will not all be the best ones."""

RESTORE_RESERVE, BUSY_RESERVE = 1.03, 0.3
"""The same where accuracy is restored: at light demand, and by how much more where it is not light."""

KEPT_BACK = 0.4
"""How much of the time that cheaper jobs took of late is kept back for those to come."""

LEAST_SHARE = 0.15
"""What no job's share of the time falls below."""

CHEAP_FIRST = 0.1
"""How much worth per time counts beside what a batch would make late, under lasting overload.

Far from it the cheapest jobs do not have to come first: that would run batches less full.
"""

LIGHT, LIGHT_WIDTH = 1.3, 0.6
"""Demand at full accuracy, per worker: below this, less the width, it is light."""

LIGHT_BACKLOG = 0.65
"""How much of its latency SLO may be planned ahead for accuracy at light demand."""

ROOMY = 0.5
"""Demand counts as light too where so much of the workers' time would be left at the cheapest."""

BUSY, BUSY_WIDTH = 1.4, 0.4
"""Demand at full accuracy over minutes, per worker: above this no time is spent on accuracy, below this less
the width as much as bursts leave. What a lull is used for, the next burst will lack.
"""

FALLEN, FALLEN_WIDTH = 0.8, 0.4
"""The same over seconds: below this less the width the load has fallen, and the minutes before do not count."""

SAVED = 0.5
"""How much of the work that cascades save beside single modes goes to accuracy where the cheapest of all would
leave workers idle; the rest serves more jobs. It is less, the less they would be idle.
"""

CALM = 0.2
"""How much of that depends on what the worst burst of late would leave."""

HELD_NS = 100_000_000
"""How soon to look again at a batch that was left for the sake of jobs to come: fewer may be expected then."""

Floats = NDArray[np.float64]


def joint(view: View) -> Decision:
    """Choose the next batch; see the module. Hopeless jobs are given up by the scheduler."""
    queue = view.queue
    if not len(queue):
        return Decision()
    if queue.faulty:  # what such a job takes down should be no other job
        return Decision(batch=_faulty(view))
    if (alone := _lone(view)) is not None:
        return Decision(batch=alone)
    risk = exposed(view)
    chosen = _plain(view, risk) or _careful(view, risk)
    if chosen.kind == HELD:
        return Decision(answer=_answered(view, chosen), wait_until_ns=view.now_ns + HELD_NS)
    return Decision(batch=_batch(view, chosen) or _alone(view), answer=_answered(view, chosen))


def _lone(view: View) -> BatchChoice | None:
    """Return the batch where one request waits for one worker, can be served in one way only, and is in time.

    It is what `choose` would return: there is nothing to be weighed.
    """
    queue, classes = view.queue, view.amortised.classes
    if len(queue) != 1 or len(view.free_ns) != 1 or view.pools or view.fairness.on or view.amortised.cascades:
        return None
    live = queue.jobs[0]
    low, high = live.shared
    if high - low != 1 or live.escalates or (kind := view.amortised.lone(low)) is None:
        return None
    by_ns, took_ns = live.job.deadline_ns - view.margin_ns, classes.latency_ns.item(kind, 1)
    room_ns = max(by_ns - view.free_ns.item(0), 0)
    if took_ns > view.demand.least_slack_ns:  # jobs yet to come may not be able to wait for it
        return None
    if classes.cover_ns.item(kind, 1) > room_ns or took_ns >= UNAVAILABLE or view.start_ns + took_ns > by_ns:
        return None
    return BatchChoice(*view.amortised.owner(kind), ((0, 1),))


def _plain(view: View, risk: Floats) -> Choice | None:
    """Return the choice where no care is called for: it is the same, found at a fraction of the time.

    That is so where each job can be served in one way only and all are served even if the least share of the
    time may be planned: then nothing that demand of late says would change the choice.
    """
    queue, menu = view.queue, view.amortised.menu
    low, high = queue.ints("low").copy(), queue.ints("high").copy()
    if view.fairness.on or (high - low != 1).any() or view.amortised.cascades:
        return None
    jobs = len(low)
    columns = Queue(
        view.by_ns,
        np.maximum(view.budget_ns(), 0),
        _worth(view),
        low,
        high,
        np.full(jobs, LEAST_SHARE),
        np.zeros(jobs, np.int64),
    )
    care = _care(RESTORE_RESERVE, _lull(view))
    chosen = choose(columns, menu, view.amortised.classes, view.start_ns, care, risk)
    return chosen if chosen.accepted.all() else None


def _careful(view: View, risk: Floats) -> Choice:
    light = _light(view)
    care = _care(RESTORE_RESERVE + BUSY_RESERVE * (1 - light), _lull(view))
    queue, menu, classes = _columns(view, light), view.amortised.menu, view.amortised.classes

    def again(queue: Queue) -> Choice:
        return choose(queue, menu, classes, view.start_ns, care._replace(full_batches=0.0), risk)

    first = choose(queue, menu, classes, view.start_ns, care, risk)
    return second_look(view, queue, first, _slack(view), again)


def _care(restore: float, ease: float) -> Care:
    return Care(RESERVE, restore, CHEAP_FIRST * (1 - ease), 1.0, ease)


def _faulty(view: View) -> BatchChoice | None:
    """Return the first batch of the first job under which a batch failed before, with no other job in it."""
    row = next(row for row, live in enumerate(view.queue.jobs) if live.faults)
    return head_batch(view, {}, np.array([row]))


def _light(view: View) -> float:
    """How light demand is, from 0 to 1: whether workers keep up at full accuracy."""
    full = view.demand.full(view.now_ns) / view.power
    return min(1.0, max(0.0, (LIGHT - full) / LIGHT_WIDTH))


def _columns(view: View, light: float) -> Queue:
    queue, menu = view.queue, view.amortised.menu
    # Copies, as a read-only array is another type to numba, and would be compiled apart.
    worth, low, high = _worth(view), queue.ints("low").copy(), queue.ints("high").copy()
    cost_ns = menu.work_ns[low] / np.maximum(worth, 1e-9)
    taken = view.demand.below(cost_ns, view.now_ns) / view.power
    share = np.clip(1 - KEPT_BACK * taken, LEAST_SHARE, 1)
    room_ns = np.maximum(view.budget_ns(), 0)
    spare_ns = _spare_ns(view, light, menu.work_ns[low])
    return Queue(view.by_ns, room_ns, worth, low, high, share, spare_ns)


def _worth(view: View) -> NDArray[np.float64]:
    """What serving each job is worth, more where jobs with accuracy SLOs such as its own were left behind.

    One that can be answered as it is loses nothing by what else becomes of it.
    """
    raised = view.queue.floats("worth").copy()
    raised[view.amortised.menu.work_ns[view.queue.ints("low")] == 0] = 0
    if not view.fairness.on:
        return raised
    slos, models = view.queue.floats("accuracy_slo"), view.queue.ints("model")
    for number in np.unique(models).tolist():
        own = models == number
        model = view.queue.jobs[int(np.argmax(own))].job.model
        raised[own] *= view.fairness.raised(model, slos[own])
    return raised


def _spare_ns(view: View, light: float, work_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How much more work than the cheapest may be planned up to each job where accuracy is restored."""
    others_ns = work_ns.sum() - work_ns
    slo_ns = np.maximum(view.queue.ints("deadline_ns") - view.queue.ints("arrival_ns"), 1) * view.power
    left_ns = slo_ns - view.demand.burst_ns(view.now_ns)
    # The less a burst would leave, the less of it is spent: the next one may be worse.
    after_burst_ns = left_ns / slo_ns * (left_ns - others_ns)
    free = max(light, _room(view))
    freely_ns = free * (LIGHT_BACKLOG * (CALM * left_ns + (1 - CALM) * slo_ns) - others_ns)
    spared_ns = np.maximum(np.maximum(after_burst_ns, freely_ns), 0)
    saved_ns = SAVED * _slack(view) * np.cumsum(view.queue.ints("saved_ns"))
    spare_ns: NDArray[np.int64] = np.maximum(_lull(view) * spared_ns, saved_ns).astype(np.int64)
    return spare_ns


def _lull(view: View) -> float:
    """How far from lasting overload workers are, from 0 to 1: over minutes, or as the load has fallen since."""
    lasting = (BUSY - view.demand.lasting(view.now_ns) / view.power) / BUSY_WIDTH
    fallen = (FALLEN - view.demand.recent(view.now_ns) / view.power) / FALLEN_WIDTH
    return min(1.0, max(0.0, lasting, fallen))


def _room(view: View) -> float:
    """How freely accuracy is restored as time would be left, from 0 to 1; cascades spend it themselves."""
    return 0.0 if view.amortised.cascades else min(1.0, _slack(view) / ROOMY)


def _slack(view: View) -> float:
    """How much of their time workers would have left if nothing ran but the cheapest, from 0 to 1."""
    return max(0.0, 1 - view.demand.least(view.now_ns) / view.power)


def _batch(view: View, chosen: Choice) -> BatchChoice | None:
    if not len(chosen.rows):
        return None
    parts = tuple(zip(chosen.rows.tolist(), chosen.counts.tolist(), strict=True))
    return BatchChoice(*view.amortised.owner(chosen.kind), parts)


def _answered(view: View, chosen: Choice) -> tuple[int, ...]:
    """Return the rows of which nothing is to run once more: time is not to be had for their escalations."""
    first = view.amortised.menu.first
    return tuple(
        row
        for row, live in enumerate(view.queue.jobs)
        if live.escalates and not live.first and first[chosen.option[row]] == first[chosen.option[row] + 1]
    )


def _alone(view: View) -> BatchChoice | None:
    """Return the first batch of the first job that is still in time on its own."""
    for row, live in enumerate(view.queue.jobs):
        cheapest = live.cheapest
        if cheapest.batches and view.start_ns + cheapest.latency_ns <= live.job.deadline_ns:
            return head_batch(view, {row: live.cheapest}, np.array([row]))
    return None
