"""All cells of a scheduler: which one a job waits in, which of them something happened in."""

import math
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import least_of
from mosel.core.tables import Profile
from mosel.online.cells import NEVER, Cell
from mosel.online.fairness import Fairness
from mosel.online.jobs import Progress
from mosel.online.kinds import Kind, Kinds
from mosel.online.policies.base import Options, Policy
from mosel.online.sent import Sent
from mosel.online.tables import ModelTable

MOST_TAKEN_OVER = 8
"""How many jobs a cell without work takes over from another at a time."""


class Cells:
    """The workers, dealt out to cells so that each cell has some of every kind, and what is with them.

    Args:
        kinds: all kinds of workers.
        policy: what decides.
        options: see `Options`.
        rng: for policies that draw lots.
        fairness: see `View`.
    """

    def __init__(
        self,
        kinds: Kinds,
        policy: Policy,
        options: Options,
        rng: np.random.Generator,
        fairness: Fairness,
    ) -> None:
        workers = sorted(range(kinds.workers), key=lambda worker: (kinds.of(worker).base, worker))
        count = math.ceil(len(workers) / max(options.cell, 1))
        members = [sorted(workers[index::count]) for index in range(count)]
        self.all = [
            Cell(index, own, kinds, policy, options, rng, fairness) for index, own in enumerate(members)
        ]
        self.only = self.all[0] if len(self.all) == 1 else None
        self.largest = max(len(own) for own in members)
        self._of = {worker: cell for cell in self.all for worker in cell.crew.members}
        self._where: dict[int, Cell] = {}
        self._retiring: set[int] = set()
        self._astir: dict[Cell, None] = dict.fromkeys(self.all)
        self._kinds = kinds
        self._work_ns = np.zeros(count)
        self._power = np.zeros(count)
        self._idlers = np.zeros(count)
        self._wakes_ns = np.full(count, NEVER)
        self._having: dict[Kind, NDArray[np.bool_]] = {}

    @property
    def idle(self) -> bool:
        """Whether workers are up and none has anything in hand."""
        return not self._where and any(cell.crew.up.any() for cell in self.all)

    @property
    def wake_ns(self) -> int | None:
        """When something has to happen in a cell although no event comes; None if never."""
        wake_ns = least_of(self._wakes_ns)
        return wake_ns if wake_ns < NEVER else None

    def of(self, worker: int) -> Cell:
        """Return a worker's cell."""
        return self._of[worker]

    def astir(self, now_ns: int) -> list[Cell]:
        """Return the cells in which something happened, or is due, since they were last settled."""
        if len(self.all) == 1:
            return self.all
        for index in np.flatnonzero(self._wakes_ns <= now_ns):
            self._astir[self.all[index]] = None
        return sorted(self._astir, key=lambda cell: cell.index)

    def settle(self, cell: Cell, now_ns: int, wait_until_ns: int | None) -> None:
        """Note that what happened in a cell is dealt with, until something else does."""
        self._astir.pop(cell, None)
        times = [time for time in (cell.next_wake_ns(now_ns), wait_until_ns) if time is not None]
        self._wakes_ns[cell.index] = min(times, default=NEVER)
        if len(self.all) > 1:
            self._work_ns[cell.index] = cell.work_ns
            self._idlers[cell.index] = cell.crew.idlers

    # Workers

    def ready(self, worker: int) -> None:
        """Note that a worker is up (again)."""
        cell = self._of[worker]
        self._retiring.discard(worker)
        cell.crew.ready(worker)
        self._manned(cell)

    def retire(self, worker: int) -> None:
        """Send a worker nothing more; it keeps what it has in hand."""
        cell = self._of[worker]
        cell.crew.retire(worker)
        self._retiring.add(worker)
        self._manned(cell)

    def let_go(self) -> list[int]:
        """Return the workers that retired and have nothing left in hand, each once."""
        found = sorted(worker for worker in self._retiring if not self._of[worker].crew.holds(worker))
        self._retiring.difference_update(found)
        return found

    def assign(self, worker: int, profiles: Mapping[str, Profile]) -> list[Progress]:
        """Give a worker that is down other profiles; returns what waited in its cell, and is in no lane now."""
        cell = self._of[worker]
        waiting = sorted(cell.jobs.values(), key=lambda progress: progress.order)
        for progress in waiting:
            cell.take_out(progress)
        self._kinds.assign(worker, profiles)
        self.regroup(worker)
        return waiting

    def lose(self, worker: int) -> list[Sent]:
        """Take a worker down and return the batches that it had in hand, the running one first."""
        cell = self._of[worker]
        self._retiring.discard(worker)
        lost = cell.crew.lose(worker)
        for sent in lost:
            del self._where[sent.batch.id]
        self._manned(cell)
        return lost

    def send(self, sent: Sent, now_ns: int) -> None:
        """Hand a batch to its worker."""
        cell = self._of[sent.batch.worker]
        cell.crew.send(sent, now_ns)
        self._where[sent.batch.id] = cell
        cell.sent(sent.jobs)

    def report(self, batch: int, now_ns: int, *, failed: bool = False) -> Sent | None:
        """Take a batch off its worker; the next one starts. None if it is not known (any more).

        One that `failed` may have been waiting there.
        """
        cell = self._where.get(batch)
        sent = None if cell is None else cell.crew.report(batch, now_ns)
        if sent is None and cell is not None and failed:
            sent = cell.crew.take_back(batch)
        if cell is not None and sent is not None:
            del self._where[batch]
            self._astir[cell] = None
        return sent

    def regroup(self, worker: int) -> None:
        """Note that a worker is of another kind now."""
        self._of[worker].regroup()
        self._having.clear()
        self._manned(self._of[worker])

    def reload(self, moved: Collection[ModelTable]) -> None:
        """Plan all jobs anew, those of tables that moved from scratch."""
        for cell in self.all:
            cell.reload(moved)
            self._manned(cell)

    # Jobs

    def route(self, progress: Progress, now_ns: int) -> Cell | None:
        """Return the cell with the least work for its workers among those that could serve a job in time.

        An idle worker counts as much as the job itself. None if no cell could.
        """
        sides = ((kind, side) for kind, side in progress.sides.items() if self._kinds.has(kind))
        able = [kind for kind, side in sides if side.in_time(self.largest, now_ns)]
        if len(self.all) == 1 or not able:
            return self.all[0] if able else None
        least_ns = min(sum(progress.sides[kind].batches_ns(progress.sides[kind].cheapest)) for kind in able)
        load = (self._work_ns - self._idlers * least_ns) / np.maximum(self._power, 1e-6)
        load[self._power == 0] = 1e300
        load[~np.logical_or.reduce([self._cells_having(kind) for kind in able])] = np.inf
        return self.all[int(load.argmin())]

    def place(self, progress: Progress, now_ns: int) -> Cell | None:
        """Return the cell for a job whose requests came back: its own if that could still serve it in time."""
        home = self.all[progress.cell]
        if home.could_serve(progress, now_ns):
            return home
        for side in progress.sides.values():
            side.look_up()
        return self.route(progress, now_ns) if len(self.all) > 1 else None

    def put(self, progress: Progress, cell: Cell, *, looked_up: bool = False) -> None:
        """Let a job wait in a cell, and in no other; `looked_up` says that its sides are up to date."""
        home = self.all[progress.cell]
        if home is not cell:
            home.take_out(progress)
            self._stir(home)
        cell.put(progress, looked_up=looked_up)
        self._stir(cell)

    def take_out(self, progress: Progress) -> None:
        """Let a job wait no longer."""
        cell = self.all[progress.cell]
        cell.take_out(progress)
        self._stir(cell)

    def spread(self, worker: int, now_ns: int) -> None:
        """Deal out anew what waits in the cell of a worker that was lost."""
        home = self._of[worker]
        for progress in list(home.jobs.values()) if len(self.all) > 1 else ():
            cell = self.route(progress, now_ns)
            if cell is not None and cell is not home:
                self.put(progress, cell)

    def help_out(self, cell: Cell, now_ns: int) -> bool:
        """Let a cell that has nothing to do take over jobs whose own workers are all busy; whether it did."""
        if len(self.all) == 1 or not cell.crew.idlers:
            return False
        donor = self.all[int(np.where(self._idlers > 0, 0, self._work_ns).argmax())]
        waiting = sorted(donor.jobs.values(), key=lambda progress: progress.order) if donor is not cell else []
        for progress in waiting[: 2 * MOST_TAKEN_OVER : 2]:
            if cell.could_serve(progress, now_ns):
                self.put(progress, cell)
        return bool(cell.jobs)

    def _stir(self, cell: Cell) -> None:
        """Note that something happened in a cell."""
        self._astir[cell] = None
        self._work_ns[cell.index] = cell.work_ns

    def _manned(self, cell: Cell) -> None:
        """Note that a cell's workers are others, or other than before."""
        cell.count_workers()
        up = zip(cell.crew.members, cell.crew.up, strict=True)
        kinds = [self._kinds.of(worker) for worker, is_up in up if is_up]
        self._power[cell.index] = sum(math.exp(-self._kinds.slowness(kind)) for kind in kinds)
        self._stir(cell)

    def _cells_having(self, kind: Kind) -> NDArray[np.bool_]:
        """Which cells have workers of a kind."""
        if kind not in self._having:
            self._having[kind] = np.array([any(lane.kind is kind for lane in cell.lanes) for cell in self.all])
        return self._having[kind]
