"""Lanes: what workers of one kind in a cell have before them (`cells.py`)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import least_of
from mosel.online.demand import Demand
from mosel.online.jobs import LiveJob, Progress
from mosel.online.kinds import Kind
from mosel.online.queue import JobQueue
from mosel.solve.assign import Search

Floats = NDArray[np.float64]

NEVER = np.iinfo(np.int64).max


@dataclass(slots=True, eq=False)
class Lane:
    """What workers of one kind in a cell have before them."""

    kind: Kind
    queue: JobQueue
    demand: Demand
    search: Search


def row_of(lane: Lane, progress: Progress) -> int | None:
    """The row at which a job stands in a lane, if it does."""
    side = progress.sides.get(lane.kind)
    return None if side is None else lane.queue.row(side)


def note(lane: Lane, side: LiveJob, now_ns: int, workers: int) -> None:
    """Let a lane's demand include a job; so many workers are up."""
    amortised = lane.kind.amortised
    worth = side.job.requests * side.job.weight
    least_ns, full_ns = float(amortised.work_ns(side.shared[0])), float(amortised.full_ns(side))
    slo_ns = side.job.deadline_ns - side.job.arrival_ns
    slack_ns = max(slo_ns - side.cheapest.latency_ns, 0)
    lane.demand.observe(now_ns, worth, least_ns, full_ns, slo_ns, slack_ns, workers)


def next_late_ns(queue: JobQueue, now_ns: int) -> int | None:
    """When the next job becomes hopeless if every worker is idle.

    One that is past that and still counts on workers of other kinds is hopeless at its deadline at the latest.
    """
    last_ns = queue.ints("last_ns")
    if not len(last_ns):
        return None
    first_ns = least_of(last_ns)
    if first_ns < now_ns:
        last_ns = np.where(last_ns < now_ns, queue.ints("deadline_ns"), last_ns)
        first_ns = int(last_ns.min(initial=NEVER, where=last_ns >= now_ns))
    return first_ns + 1 if first_ns < NEVER else None


def foreign_ns(queue: JobQueue, speed: Floats) -> int:
    """How much work waits in a queue of models that the workers beside it lack."""
    if speed.all():
        return 0
    return int(queue.ints("least_ns")[speed[queue.ints("model")] == 0].sum())
