"""Cells: a queue and the workers that serve it, at most `Options.cell` of them, so that a decision stays small.

Up to that many workers there is one cell and every decision is about all jobs. Beyond it jobs are dealt out on
arrival, to the cell where least work waits for its workers; a cell whose workers have nothing to do takes jobs
over from another. Within a cell each kind of worker has a lane of its own: the jobs that it can run, as it sees
them. A job stands in every lane that can serve it.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import least_of
from mosel.online.crew import Crew
from mosel.online.demand import Demand
from mosel.online.fairness import Fairness
from mosel.online.jobs import LiveJob, Progress
from mosel.online.kinds import Kinds
from mosel.online.lanes import NEVER, Lane, foreign_ns, next_late_ns, note, row_of
from mosel.online.policies.base import Options, Policy, Pool, View
from mosel.online.queue import JobQueue, Selection
from mosel.online.resuming import Resuming
from mosel.online.tables import ModelTable, Strategy
from mosel.solve.assign import Search
from mosel.solve.line_up import ALIKE, Batches, ends_alone

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

__all__ = ["NEVER", "Cell", "Lane"]


class Cell:
    """Some workers and the jobs that wait for them.

    Args:
        index: its number.
        members: its workers' numbers.
        kinds: all kinds of workers.
        policy: what decides here.
        options: see `Options`.
        rng: for policies that draw lots.
        fairness: see `View`.

    Attributes:
        crew: its workers.
        lanes: one for each kind of worker in it.
        jobs: those that have requests waiting here, by id.
        resuming: those of them that a worker keeps features of.
        work_ns: how much work they are, at the fastest.
    """

    def __init__(
        self,
        index: int,
        members: Sequence[int],
        kinds: Kinds,
        policy: Policy,
        options: Options,
        rng: np.random.Generator,
        fairness: Fairness,
    ) -> None:
        self.index = index
        self.crew = Crew(members)
        self.lanes: list[Lane] = []
        self.jobs: dict[str, Progress] = {}
        self.resuming = Resuming(self.crew)
        self.work_ns = 0
        self._kinds = kinds
        self._policy = policy
        self._options = options
        self._rng = rng
        self._fairness = fairness
        self._order: list[int] = []
        self.regroup()

    # Workers

    def regroup(self) -> None:
        """Have one lane for each kind that a worker here is of, and every job in those that can run it."""
        kinds = list(dict.fromkeys(self._kinds.of(worker) for worker in self.crew.members))
        before = {lane.kind: lane for lane in self.lanes}
        self.lanes = [
            before.get(kind) or Lane(kind, JobQueue(len(self.crew.members)), Demand(), Search())
            for kind in kinds
        ]
        for seat, worker in enumerate(self.crew.members):
            self.crew.lanes[seat] = kinds.index(self._kinds.of(worker))
        for progress in list(self.jobs.values()):
            self.refresh(progress)
        self._rank()

    def count_workers(self) -> None:
        """Take over how many workers are up."""
        up = int(np.count_nonzero(self.crew.up)) or len(self.crew.members)
        for lane in self.lanes:
            lane.queue.count_workers(up)

    # Jobs

    def put(self, progress: Progress, *, looked_up: bool = False) -> None:
        """Let a job wait here; `looked_up` says that its sides are up to date."""
        progress.cell = self.index
        self.refresh(progress, looked_up=looked_up)

    def refresh(self, progress: Progress, *, looked_up: bool = False) -> None:
        """Bring every lane into line with what waits of a job, and what it may run in."""
        self._leave(progress)
        least_ns = []
        for lane in self.lanes:
            side = self._refresh(lane, progress, looked_up)
            if side is not None:
                least_ns.append(sum(side.least_batches_ns))
        assert bool(least_ns) == progress.in_line, "what waits stands in a lane"
        if least_ns:
            progress.work_ns = min(least_ns)
            self.jobs[progress.job.id] = progress
            self.work_ns += progress.work_ns
            self.resuming.note(progress)

    def sent(self, jobs: Sequence[LiveJob]) -> None:
        """Bring every lane into line after requests of these jobs were sent off in a batch."""
        gone = []
        for live in jobs:
            if live.progress.in_line:
                self.refresh(live.progress)
            elif self._leave(live.progress):
                gone.append(live.progress)
        for lane in self.lanes:
            rows = [row for progress in gone if (row := row_of(lane, progress)) is not None]
            lane.queue.remove(sorted(rows))

    def take_out(self, progress: Progress) -> None:
        """Let a job wait here no longer."""
        if self._leave(progress):
            for lane in self.lanes:
                row = row_of(lane, progress)
                if row is not None:
                    lane.queue.remove([row])

    def release(self, seat: int, now_ns: int) -> None:
        """Let this worker have what others keep features of but could not begin in time for that to pay."""
        for progress in self.resuming.overdue(seat, now_ns):
            progress.release()
            self.refresh(progress)

    def could_serve(self, progress: Progress, now_ns: int) -> bool:
        """Whether what waits of a job could be served in time if it were alone here."""
        for lane in self.lanes:
            side = self._side(lane, progress)
            if side is not None:
                side.look_up()
                if side.in_time(len(self.crew.members), now_ns):
                    return True
        return False

    def takes(self, progress: Progress) -> bool:
        """Whether what waits of a job could be run here, be it late."""
        sides = [side for lane in self.lanes if (side := self._side(lane, progress)) is not None]
        for side in sides:
            side.look_up()
        return any(side.reachable for side in sides)

    def plan(self, live: LiveJob, worker: int, strategy: Strategy) -> None:
        """Put another strategy in force for a job, as a worker sees it."""
        queue = self.lanes[self.crew.lane(worker)].queue
        row = queue.row(live)
        assert row is not None, "what is planned waits"
        queue.plan(row, strategy)

    def reload(self, moved: Collection[ModelTable]) -> None:
        """Plan all jobs anew; those of tables that moved without their strategies so far."""
        for progress in list(self.jobs.values()):
            for side in progress.sides.values():
                if side.table in moved:
                    side.strategy = None
            self.refresh(progress)
        self._rank()

    def note(self, progress: Progress, now_ns: int) -> None:
        """Let the demand include a job that has just arrived."""
        if self._policy.shares:
            for lane in self.lanes:
                side = progress.sides.get(lane.kind)
                if side is not None and side.reachable:
                    note(lane, side, now_ns, self.crew.manned)

    def hopeless(self, now_ns: int) -> list[Progress]:
        """Return the jobs that could not be served even if they were next, in deadline order."""
        if len(self.lanes) == 1:
            lane = self.lanes[0]
            return [lane.queue.jobs[row].progress for row in self._late(0, now_ns)]
        late = [
            {lane.queue.jobs[row].progress for row in self._late(number, now_ns)}
            for number, lane in enumerate(self.lanes)
        ]
        lanes = list(zip(self.lanes, late, strict=True))
        found = [
            progress
            for progress in set[Progress]().union(*late)
            if all(progress in own or row_of(lane, progress) is None for lane, own in lanes)
        ]
        return sorted(found, key=lambda progress: progress.order)

    def next_wake_ns(self, now_ns: int) -> int | None:
        """When a worker's lead begins or a job becomes hopeless, whichever is first."""
        if not self.jobs:
            return None
        times = [self.crew.next_ripe_ns(now_ns, self._options.lead_ns)]
        if self._policy.drops:
            times += [next_late_ns(lane.queue, now_ns) for lane in self.lanes]
        return min((time for time in times if time is not None), default=None)

    # Decisions

    def ripe(self, now_ns: int, passed: Collection[int]) -> int | None:
        """The seat of the worker that takes a batch now; see `Crew.ripe`."""
        return self.crew.ripe(now_ns, self._options.lead_ns, self._order, passed)

    def view(self, seat: int, now_ns: int) -> View | None:
        """Return what is to be decided for a worker; None if there is nothing that it could run in time."""
        number = int(self.crew.lanes[seat])
        lane, free_ns = self.lanes[number], self.crew.free_ns(now_ns)
        start_ns, up = int(free_ns[seat]), self.crew.up
        alike = len(self.lanes) == 1
        if alike and not self.resuming:
            own_ns = free_ns if len(free_ns) == 1 else np.sort(free_ns[up])  # a worker that decides is up
            return self._view(seat, now_ns, start_ns, own_ns, lane.queue)
        rows = lane.queue.ints("last_ns") >= start_ns
        if not self._policy.drops or alike:
            rows = np.ones_like(rows)
        others = self.resuming.of_others(self.crew.members[seat])
        rows[[row for progress in others if (row := row_of(lane, progress)) is not None]] = False
        if not rows.any():
            return None
        queue = lane.queue if rows.all() else Selection(lane.queue, np.flatnonzero(rows))
        if alike:
            return self._view(seat, now_ns, start_ns, np.sort(free_ns[up]), queue)
        pools = self._pools(number, free_ns, int(lane.queue.ints("least_ns")[~rows].sum()))
        every_ns = np.concatenate([pool.free_ns for pool in pools])
        slow = np.concatenate([np.full(len(pool.free_ns), pool.slow) for pool in pools])
        order = np.argsort(every_ns, kind="stable")
        return self._view(seat, now_ns, start_ns, every_ns[order], queue, pools, slow[order])

    def _leave(self, progress: Progress) -> bool:
        """Count a job no longer; whether it was."""
        self.resuming.leave(progress)
        if self.jobs.pop(progress.job.id, None) is None:
            return False
        self.work_ns -= progress.work_ns
        return True

    def _view(
        self,
        seat: int,
        now_ns: int,
        start_ns: int,
        free_ns: Ints,
        queue: JobQueue | Selection,
        pools: tuple[Pool, ...] = (),
        slow: Floats = ALIKE,
    ) -> View:
        lane = self.lanes[self.crew.lanes[seat]]
        return View(
            now_ns,
            self.crew.members[seat],
            start_ns,
            free_ns,
            queue,
            lane.kind.estimator.margin_ns,
            self._options,
            self._rng,
            lane.kind.amortised,
            lane.demand,
            pools,
            slow,
            lane.search,
            self._fairness,
        )

    def _pools(self, number: int, free_ns: Ints, left_ns: int) -> tuple[Pool, ...]:
        """The workers by lane, as lane `number` counts on them.

        Others are busy for longer with what only they can run: `left_ns` of this lane's work, and jobs that
        are not in it.
        """
        lane = self.lanes[number]
        own = Pool(np.sort(free_ns[self._seats(number)]), self._kinds.speed(lane.kind, lane.kind))
        others = []
        for index, other in enumerate(self.lanes):
            speed = self._kinds.speed(other.kind, lane.kind)
            seats = self._seats(index)
            if index != number and speed.any() and len(seats):
                beside_ns = foreign_ns(other.queue, speed) // len(seats)
                others.append(Pool(np.sort(free_ns[seats]) + beside_ns, speed))
        power = sum(len(pool.free_ns) / pool.slow for pool in others)
        return (own, *(Pool(pool.free_ns + int(left_ns / power), pool.speed) for pool in others))

    def _rank(self) -> None:
        """Let lanes of fast workers take work first; of equally fast ones those that can do less else."""
        slowness = [self._kinds.slowness(lane.kind) for lane in self.lanes]
        self._order = sorted(
            range(len(self.lanes)),
            key=lambda number: (slowness[number], len(self.lanes[number].kind.tables), number),
        )

    def _seats(self, number: int) -> Ints:
        """The seats of a lane's workers that are up."""
        return np.flatnonzero(self.crew.up & (self.crew.lanes == number))

    def _late(self, number: int, now_ns: int) -> list[int]:
        """The rows of a lane whose jobs could not be served there even if they were next.

        A job of one batch needs one of the lane's own workers; larger ones may count on all in the cell.
        """
        queue = self.lanes[number].queue
        if not len(queue):
            return []
        latest_ns = queue.ints("latest_ns")
        start_ns = self.crew.first_ns(now_ns, number if len(self.lanes) > 1 else None)
        if least_of(latest_ns) >= start_ns:
            return []
        tight = np.flatnonzero(latest_ns < start_ns)
        free_ns, own = self.crew.free_ns(now_ns), self._seats(number)
        all_ns = free_ns[self.crew.up] if len(own) else np.full(len(free_ns), now_ns)
        if len(all_ns) == 1:
            return [int(row) for row in tight]
        several = [int(row) for row in tight if len(queue.jobs[row].least_batches_ns) > 1]
        ends_ns = ends_alone(all_ns, Batches.of([queue.jobs[row].least_batches_ns for row in several]))
        by_ns = queue.ints("deadline_ns")[several]
        in_time = {row for row, end_ns, due_ns in zip(several, ends_ns, by_ns, strict=True) if end_ns <= due_ns}
        return [int(row) for row in tight if row not in in_time]

    def _side(self, lane: Lane, progress: Progress) -> LiveJob | None:
        side = progress.sides.get(lane.kind)
        if side is None and (side := lane.kind.side(progress)) is not None:
            progress.sides[lane.kind] = side
        return side

    def _refresh(self, lane: Lane, progress: Progress, looked_up: bool) -> LiveJob | None:
        """Bring a lane into line; returns the job as it stands there, None if it does not."""
        side = self._side(lane, progress)
        if side is None:
            return None
        row = lane.queue.row(side)
        if progress.in_line:
            if not looked_up:
                side.look_up()
            if side.reachable:
                self._plan(lane, side, row)
                return side
        if row is not None:
            lane.queue.remove([row])
        return None

    def _plan(self, lane: Lane, side: LiveJob, row: int | None) -> None:
        side.strategy = side.strategy or self._policy.first(side)
        if self._policy.shares:
            side.shared = lane.kind.amortised.options_of(side)
            side.saved_ns = lane.kind.amortised.saved_ns(side)
        least = self._policy.least(side)
        if row is None:
            lane.queue.insert(side, least)
        else:
            lane.queue.refresh(row, least)
