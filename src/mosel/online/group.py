"""A replica group of a fleet: a scheduler with workers of its own, and how much work it has before it.

Its scheduler numbers workers and batches from 0. Here they get the numbers that they have in the fleet: the
group's workers follow each other, and batch b of group g of n is batch b · n + g. What waits is counted in the
units of `expected.py`, what runs as the scheduler expects it to take.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from mosel.core.states import Reason, State
from mosel.core.types import Batch, BatchRun, Job, Receipt
from mosel.online.events import (
    Action,
    BatchFailed,
    Cancelled,
    Complete,
    Dispatch,
    Event,
    Finished,
    Retired,
    Scheduling,
    WakeAt,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)
from mosel.online.expected import Cost, Costs


@dataclass(frozen=True, slots=True)
class Place:
    """Which group of how many it is, and its workers' numbers in the fleet."""

    index: int
    groups: int
    workers: range


@dataclass(frozen=True, slots=True)
class Load:
    """How a group stands: work before its workers together, in nanoseconds, and how many of them are up."""

    work_ns: float
    up: int


@dataclass(slots=True, eq=False)
class _Mine:
    """A job of the group: what its requests cost, how many have not been sent, whether any was with a worker.

    `moved` says that it came from a group that is down: then it was accepted, and cannot be rejected any more.
    """

    job: Job
    cost: Cost
    left: int
    tried: bool
    moved: bool
    done: bool = False


class Group:
    """Some workers and the scheduler that has them.

    Args:
        place: where it stands in the fleet.
        scheduler: of as many workers.
        costs: what jobs ask of them.

    Attributes:
        up: how many of its workers are.
        closing: it gets no more jobs, and with the last that it has its last worker may go, as this says.
        wake_ns: when its scheduler wants to be called at the latest.
    """

    def __init__(self, place: Place, scheduler: Scheduling, costs: Costs) -> None:
        self.place = place
        self.costs = costs
        self.wake_ns: int | None = None
        self.up = 0
        self.closing: WorkerRetiring | None = None
        self._scheduler = scheduler
        self._first = place.workers.start
        self._alone = place.groups == 1
        self._jobs: dict[str, _Mine] = {}
        self._waiting_ns = 0.0
        self._sent: dict[int, Batch] = {}
        self._held: list[deque[Batch]] = [deque() for _ in place.workers]
        self._free_ns = [0] * len(place.workers)
        self._is_up = [False] * len(place.workers)
        self._withdrawn: set[str] = set()

    def __len__(self) -> int:
        """Return how many jobs it has."""
        return len(self._jobs)

    def load(self, now_ns: int) -> Load:
        """Return how it stands."""
        hands_ns = sum(free_ns - now_ns for free_ns in self._free_ns if free_ns > now_ns)
        return Load(self._waiting_ns + hands_ns, 0 if self.closing else self.up)

    def late_ns(self, job: Job, cost: Cost, now_ns: int) -> float:
        """Return by how much a job is expected to miss its deadline here; negative if it has time left."""
        if not self.up or self.closing:
            return float("inf")
        return now_ns + self.load(now_ns).work_ns / self.up + cost.alone_ns - job.deadline_ns

    def take(self, job: Job, cost: Cost, *, moved: bool = False, tried: bool = False) -> None:
        """Count a job, of which the group is going to be told.

        Args:
            job: the job.
            cost: what it costs here.
            moved: it comes from a group that is down.
            tried: it was with a worker there.
        """
        self._jobs[job.id] = _Mine(job, cost, job.requests, tried, moved)
        self._waiting_ns += cost.request_ns * job.requests

    def set_up(self, worker: int, up: bool) -> None:
        """Note that one of the fleet's workers that is here came up or went down."""
        self.up += up - self._is_up[worker - self._first]
        self._is_up[worker - self._first] = up

    def movable(self) -> list[tuple[Job, bool]]:
        """Return the jobs of which nothing is done, and whether something of them is with a worker.

        A job that a worker was lost under in another group already is not among them if it is with one again.
        """
        found = [(mine, mine.left < mine.job.requests) for mine in self._jobs.values() if not mine.done]
        return [(mine.job, mine.tried or sent) for mine, sent in found if not (mine.tried and sent)]

    def withdraw(self, job: str) -> Cancelled:
        """Return what takes a job out that goes to another group; nobody is told of it."""
        mine = self._jobs.pop(job)
        self._waiting_ns -= mine.left * mine.cost.request_ns
        self._withdrawn.add(job)
        return Cancelled(job)

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Let the scheduler take in what happened and return what is to be done, by the fleet's numbers."""
        own = [self._own(event, now_ns) for event in events]
        found: list[Action] = []
        for action in self._scheduler.handle(own, now_ns):
            match action:
                case Dispatch(batch):
                    self._note_sent(batch, now_ns)
                    found.append(Dispatch(self._numbered(batch)))
                case Complete(receipt):
                    found += self._ended(receipt)
                case WakeAt(at_ns):
                    self.wake_ns = at_ns
                case Retired(worker):
                    found.append(Retired(self._first + worker))
        return found

    # Events

    def _own(self, event: Event, now_ns: int) -> Event:
        """Return an event by the scheduler's numbers, and count what it changes."""
        match event:
            case WorkerReady(worker, profiles):
                return WorkerReady(worker - self._first, profiles)
            case WorkerRetiring(worker):
                return WorkerRetiring(worker - self._first)
            case WorkerLost(worker, detail):
                self._lose(worker - self._first)
                return WorkerLost(worker - self._first, detail)
            case Finished(number):
                self._take_off(
                    number // self.place.groups, now_ns, [(c.job, 1) for c in event.undone], ran=True
                )
                return event if self._alone else replace(event, batch=number // self.place.groups)
            case BatchFailed(number, detail):
                batch = self._sent.get(number // self.place.groups)
                back = [] if batch is None else [(part.job, len(part.requests)) for part in batch.parts]
                self._take_off(number // self.place.groups, now_ns, back)
                return BatchFailed(number // self.place.groups, detail)
        return event

    def _lose(self, worker: int) -> None:
        for batch in self._held[worker]:
            del self._sent[batch.id]
            self._give_back([(part.job, len(part.requests)) for part in batch.parts])
        self._held[worker].clear()
        self._free_ns[worker] = 0

    def _take_off(
        self, number: int, now_ns: int, back: Sequence[tuple[str, int]], *, ran: bool = False
    ) -> None:
        batch = self._sent.pop(number, None)
        if batch is None:
            return
        for part in batch.parts if ran else ():
            if mine := self._jobs.get(part.job):
                mine.done = True
        held = self._held[batch.worker]
        held.remove(batch)
        self._free_ns[batch.worker] = now_ns + sum(each.expected_ns for each in held)
        self._give_back(back)

    def _give_back(self, requests: Sequence[tuple[str, int]]) -> None:
        for job, count in requests:
            if mine := self._jobs.get(job):
                mine.left += count
                self._waiting_ns += count * mine.cost.request_ns

    # Actions

    def _note_sent(self, batch: Batch, now_ns: int) -> None:
        self._sent[batch.id] = batch
        self._held[batch.worker].append(batch)
        self._free_ns[batch.worker] = max(self._free_ns[batch.worker], now_ns) + batch.expected_ns
        for part in batch.parts:
            mine = self._jobs[part.job]
            count = min(len(part.requests), mine.left)  # a cascade's second stage was counted with its first
            mine.left -= count
            self._waiting_ns -= count * mine.cost.request_ns

    def _ended(self, receipt: Receipt) -> list[Action]:
        job = receipt.job.id
        if job in self._withdrawn:
            self._withdrawn.discard(job)
            return []
        mine = self._jobs.pop(job)
        self._waiting_ns -= mine.left * mine.cost.request_ns
        if mine.moved and receipt.outcome is State.REJECTED:
            ending = (State.FAILED, Reason.WORKER_LOST) if mine.tried else (State.DROPPED, Reason.NO_TIME_LEFT)
            receipt = replace(receipt, outcome=ending[0], reason=ending[1])
        if not self._alone and receipt.batches:
            receipt = replace(receipt, batches=tuple(map(self._run, receipt.batches)))
        return [Complete(receipt)]

    def _numbered(self, batch: Batch) -> Batch:
        if self._alone:
            return batch
        return Batch(
            self._number(batch.id),
            self._first + batch.worker,
            batch.model,
            batch.mode,
            batch.bucket,
            batch.parts,
            batch.expected_ns,
            batch.judged,
            batch.keep_below,
            batch.resumed,
            batch.resumes,
        )

    def _run(self, run: BatchRun) -> BatchRun:
        return replace(run, id=self._number(run.id), worker=self._first + run.worker)

    def _number(self, batch: int) -> int:
        return batch * self.place.groups + self.place.index
