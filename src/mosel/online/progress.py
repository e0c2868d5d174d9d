"""What became of a job between arrival and outcome, whatever workers it ran on.

State changes follow `core/states.py`; a change that the table does not allow is a bug and fails at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mosel.core.states import TRANSITIONS, Reason, State
from mosel.core.types import ACCURACY_TOLERANCE, BatchRun, Job, Receipt
from mosel.online.unsure import NOBODY, Held, Promise
from mosel.solve.cover import SHORTFALL

if TYPE_CHECKING:
    from mosel.online.jobs import LiveJob

MOST_FAULTS = 2
"""How many batches may fail or be lost under a job before it is answered `failed`."""


class Progress:
    """What became of a job so far, whatever workers it ran on.

    Attributes:
        job: as it arrived.
        order: where it stands among others: deadline, arrival, id.
        mask: the modalities it still has, as bits; one that turned out corrupt is gone.
        waiting: indices of the requests that wait, ascending.
        state: where it stands.
        running: how many of its requests are with a worker.
        credited: accuracy sum of the requests that are done or with a worker.
        modes: requests done or with a worker, by their last mode, in the order in which modes first ran.
        promises: what the requests that are with a worker in a cascade's first stage count for, by index.
        unsure: the requests that hold an answer and may run once more, by index.
        again: those of them that are with a worker.
        runs: the batches that are done.
        cascaded: how many of its requests ran in the first stage of a cascade.
        faults: how many batches failed or were lost under it.
        fault: why, if one did.
        detail: what went wrong last, in one line.
        cell: the index of the cell that it waits in (`cells.py`).
        sides: the job as each kind of worker sees it (`kinds.py: Kind`).
        work_ns: what its waiting requests count for when cells are compared.
    """

    __slots__ = (
        "again", "cascaded", "cell", "credited", "detail", "fault", "faults", "job", "mask", "modes", "order",
        "promises", "running", "runs", "sides", "state", "unsure", "waiting", "work_ns",
    )  # fmt: skip

    def __init__(self, job: Job, mask: int, waiting: list[int]) -> None:
        self.job, self.mask, self.waiting = job, mask, waiting
        self.order = job.deadline_ns, job.arrival_ns, job.id
        self.state = State.ARRIVED
        self.running = 0
        self.credited = 0.0
        self.modes: dict[str, int] = {}
        self.promises: dict[int, Promise] = {}
        self.unsure: dict[int, Held] = {}
        self.again: dict[int, Held] = {}
        self.runs: list[BatchRun] = []
        self.cascaded = self.faults = 0
        self.fault: Reason | None = None
        self.detail = ""
        self.cell = 0
        self.sides: dict[Any, LiveJob] = {}
        self.work_ns = 0

    @property
    def needed(self) -> float:
        """The accuracy sum that the requests in line have to reach, or what escalations have to add."""
        missing = self.job.accuracy_slo * self.job.requests - self.credited
        if not self.waiting or not self.unsure:
            return missing
        return missing - sum(held.carried - held.kept for held in self.unsure.values() if not held.optional)

    @property
    def in_line(self) -> bool:
        """Whether requests wait, to run at all or once more."""
        return bool(self.waiting or self.unsure)

    @property
    def answerable(self) -> bool:
        """Whether the job may be answered with what it has, as soon as nothing of it runs."""
        return not self.waiting and self.needed <= SHORTFALL

    @property
    def is_done(self) -> bool:
        """Whether every request ran, and none is to run once more."""
        return not self.waiting and not self.running and not self.unsure

    def move(self, state: State) -> None:
        """Enter `state`."""
        if state is not self.state:
            assert state in TRANSITIONS[self.state], f"{self.job.id}: {self.state} to {state}"
            self.state = state

    def take(self, count: int, mode: str, accuracy: float) -> tuple[int, ...]:
        """Send the first `count` waiting requests off in `mode` and return their indices."""
        taken, self.waiting = tuple(self.waiting[:count]), self.waiting[count:]
        self.running += count
        self.credited += count * accuracy
        self.modes[mode] = self.modes.get(mode, 0) + count
        self.move(State.RUNNING)
        return taken

    def settle(self, requests: Sequence[int], run: BatchRun) -> None:
        """Note that these requests, which were with a worker, are done; perhaps none: all may be corrupt."""
        self.running -= len(requests)
        if requests:
            count = len(requests)
            told = run.id, run.worker, run.mode, run.size, run.start_ns, run.finish_ns, count, run.resumed
            self.runs.append(BatchRun(*told))

    def keep(self, request: int, held: Held) -> None:
        """Note that a request that ran is unsure, though it has an answer.

        What a job's requests resume is with one worker: what another keeps of them is left there.
        """
        if self.holder not in (NOBODY, held.worker):
            held = held.alone
        promise = self.promises.pop(request)
        self.cascaded += 1
        self.credited += held.kept - promise.counted
        self.unsure[request] = held
        self.plan_anew()

    @property
    def holder(self) -> int:
        """The worker that keeps features of its unsure requests; `NOBODY` if none does."""
        return max((held.worker for held in self.unsure.values()), default=NOBODY)

    def release(self) -> None:
        """Let no unsure request resume what a worker keeps of it."""
        self.unsure = {request: held.alone for request, held in self.unsure.items()}
        self.plan_anew()

    def escalate(self, requests: Sequence[int]) -> None:
        """Send unsure requests off once more."""
        for request in requests:
            held = self.again[request] = self.unsure.pop(request)
            self.credited += held.carried - held.kept
            self._count(held.first, held.last)
        self.running += len(requests)

    def take_back(self, requests: Sequence[int]) -> None:
        """Let requests that did not run once more be unsure again; their answers are still there."""
        self.plan_anew()
        for request in requests:
            held = self.unsure[request] = self.again.pop(request).alone
            self.credited -= held.carried - held.kept
            self._count(held.last, held.first)
        self.running -= len(requests)

    def confirm(self, request: int, counts: float) -> None:
        """Note that a request in a cascade's first stage is done, and what it counts."""
        self.cascaded += 1
        self.credited += counts - self.promises.pop(request).counted

    def leave_out(self) -> list[Held]:
        """Let no unsure request run once more; returns what they held."""
        held = list(self.unsure.values())
        self.unsure.clear()
        return held

    def _count(self, before: str, now: str) -> None:
        """Note that a request's last mode is another now."""
        self.modes[before] -= 1
        if not self.modes[before]:
            del self.modes[before]
        self.modes[now] = self.modes.get(now, 0) + 1

    def give_back(self, requests: Sequence[int], mode: str, accuracy: float) -> None:
        """Let requests that were with a worker wait again; they did not run."""
        self.plan_anew()
        self.running -= len(requests)
        self.credited -= len(requests) * accuracy
        self.modes[mode] -= len(requests)
        if not self.modes[mode]:
            del self.modes[mode]
        self.waiting = sorted([*self.waiting, *requests])

    def plan_anew(self, kept: "LiveJob | None" = None) -> None:
        """Let no strategy stand, but that of one side."""
        for side in self.sides.values():
            if side is not kept:
                side.strategy = None

    def leave(self) -> None:
        """Let go of what names this one: a job that has its outcome should be freed at once, not be garbage."""
        self.sides = {}

    def blame(self, reason: Reason, detail: str) -> None:
        """Note that a batch failed or was lost under this job."""
        self.faults += 1
        self.fault, self.detail = reason, detail

    def finish(self, now_ns: int) -> Receipt:
        """Return the receipt of a job all of whose requests ran: served, or late."""
        late = now_ns > self.job.deadline_ns
        assert self.credited >= self.job.accuracy_slo * self.job.requests - ACCURACY_TOLERANCE
        return self._receipt(
            State.LATE if late else State.SERVED,
            Reason.AFTER_DEADLINE if late else Reason.ON_TIME,
            f"finished {(now_ns - self.job.deadline_ns) / 1e6:.1f} ms after its deadline" if late else "",
            now_ns,
            finish_ns=now_ns,
            accuracy=self.credited / self.job.requests,
        )

    def end(self, outcome: State, reason: Reason, detail: str, now_ns: int) -> Receipt:
        """Return the receipt of a job that ends without an answer."""
        return self._receipt(outcome, reason, detail, now_ns)

    def _receipt(
        self,
        outcome: State,
        reason: Reason,
        detail: str,
        now_ns: int,
        finish_ns: int | None = None,
        accuracy: float | None = None,
    ) -> Receipt:
        self.move(outcome)
        modes, runs = tuple(self.modes.items()), tuple(self.runs)
        told = finish_ns, accuracy, modes, runs, self.cascaded
        return Receipt(self.job, outcome, reason, detail, now_ns, *told)
