"""A job between arrival and outcome: which requests wait, run or are done, and what accuracy that earns.

`Progress` is what holds whoever runs the job; a `LiveJob` is the same job as workers of one kind see it, with
the strategies that are open to it there. Where all workers are alike a job has one of each.

State changes follow `core/states.py`; a change that the table does not allow is a bug and fails at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mosel.core.states import TRANSITIONS, Reason, State
from mosel.core.types import ACCURACY_TOLERANCE, Batch, BatchRun, Job, Receipt
from mosel.online.tables import NO_STRATEGY, ModelTable, Strategy, point
from mosel.solve.cover import cheapest_reaching
from mosel.solve.line_up import idle_ns

MOST_FAULTS = 2
"""How many batches may fail or be lost under a job before it is answered `failed`."""


@dataclass(slots=True, eq=False)
class Progress:
    """What became of a job so far, whatever workers it ran on.

    Attributes:
        job: as it arrived.
        mask: the modalities it still has, as bits; one that turned out corrupt is gone.
        waiting: indices of the requests that wait, ascending.
        state: where it stands.
        running: how many of its requests are with a worker.
        credited: accuracy sum of the requests that are done or with a worker.
        modes: requests done or with a worker, by mode, in the order in which modes first ran.
        runs: the batches that are done.
        faults: how many batches failed or were lost under it.
        fault: why, if one did.
        detail: what went wrong last, in one line.
        cell: the index of the cell that it waits in (`cells.py`).
        sides: the job as each kind of worker sees it (`kinds.py: Kind`).
        work_ns: what its waiting requests count for when cells are compared.
    """

    job: Job
    mask: int
    waiting: list[int]
    state: State = State.ARRIVED
    running: int = 0
    credited: float = 0.0
    modes: dict[str, int] = field(default_factory=dict)
    runs: list[BatchRun] = field(default_factory=list)
    faults: int = 0
    fault: Reason | None = None
    detail: str = ""
    cell: int = 0
    sides: "dict[Any, LiveJob]" = field(default_factory=dict)
    work_ns: int = 0

    @property
    def needed(self) -> float:
        """The accuracy sum that the waiting requests have to reach."""
        return self.job.accuracy_slo * self.job.requests - self.credited

    @property
    def order(self) -> tuple[int, int, str]:
        """Where it stands among others."""
        return self.job.deadline_ns, self.job.arrival_ns, self.job.id

    @property
    def is_done(self) -> bool:
        """Whether every request ran."""
        return not self.waiting and not self.running

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
        """Note that these requests, which were with a worker, are done."""
        self.running -= len(requests)
        self.runs.append(replace(run, requests=len(requests)))

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

    def blame(self, reason: Reason, detail: str) -> None:
        """Note that a batch failed or was lost under this job."""
        self.faults += 1
        self.fault, self.detail = reason, detail

    def finish(self, now_ns: int) -> Receipt:
        """Return the receipt of a job all of whose requests ran: served, or late."""
        late = now_ns > self.job.deadline_ns
        assert self.credited >= self.job.accuracy_slo * self.job.requests - ACCURACY_TOLERANCE
        over_ms = (now_ns - self.job.deadline_ns) / 1e6
        return self._receipt(
            State.LATE if late else State.SERVED,
            Reason.AFTER_DEADLINE if late else Reason.ON_TIME,
            f"finished {over_ms:.1f} ms after its deadline" if late else "",
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
        modes = tuple(self.modes.items())
        return Receipt(self.job, outcome, reason, detail, now_ns, finish_ns, accuracy, modes, tuple(self.runs))


class LiveJob:
    """A job as workers of one kind see it: what policies choose strategies for.

    Attributes:
        progress: what became of it so far.
        job: as it arrived.
        order: where it stands among others: deadline, arrival, id.
        table: its model's table.
        bucket: its length bucket.
        strategy: how the policy means to run the waiting requests.
        frontier: the strategies of as many requests as wait (𝒫).
        first: the first of these that reaches what is needed.
        least_batches_ns: the latencies of the batches of the fastest strategy that the policy would still run.
        shared: its options where batches are shared with other jobs (`amortised.py`).
    """

    __slots__ = (
        "bucket", "first", "frontier", "job", "least_batches_ns", "order", "progress", "shared", "strategy",
        "table",
    )  # fmt: skip

    def __init__(self, progress: Progress, table: ModelTable, bucket: int) -> None:
        self.progress = progress
        self.job = progress.job
        self.order = progress.order
        self.table = table
        self.bucket = bucket
        self.strategy: Strategy | None = None
        self.frontier = NO_STRATEGY
        self.first = 0
        self.least_batches_ns: tuple[int, ...] = ()
        self.shared = (0, 0)

    @property
    def waiting(self) -> list[int]:
        """Indices of the requests that wait, ascending."""
        return self.progress.waiting

    @property
    def mask(self) -> int:
        """The modalities it still has, as bits."""
        return self.progress.mask

    @property
    def faults(self) -> int:
        """How many batches failed or were lost under it."""
        return self.progress.faults

    @property
    def needed(self) -> float:
        """The accuracy sum that the waiting requests have to reach."""
        return self.progress.needed

    @property
    def reachable(self) -> bool:
        """Whether a strategy for the waiting requests reaches what is needed."""
        return self.first < len(self.frontier.accuracy)

    @property
    def cheapest(self) -> Strategy:
        """The fastest strategy that meets what is left of the accuracy SLO (𝒫, §5.1)."""
        return point(self.frontier, self.first)

    @property
    def most_accurate(self) -> Strategy:
        """The fastest of the most accurate strategies (§4.3: what a new job adopts)."""
        return point(self.frontier, len(self.frontier) - 1)

    def batches_ns(self, strategy: Strategy) -> tuple[int, ...]:
        """Return the latency of each batch of a strategy for this job."""
        return tuple(int(self.table.latency_ns[mode, self.bucket, size]) for mode, size in strategy.batches)

    def alone_ns(self, workers: int) -> int:
        """How long the job takes at its fastest if so many workers are up and idle."""
        return idle_ns(self.batches_ns(self.cheapest), workers)

    def in_time(self, workers: int, now_ns: int) -> bool:
        """Whether the job, as it was last looked up, could be served by its deadline if it were alone."""
        return self.reachable and now_ns + self.alone_ns(workers) <= self.job.deadline_ns

    def look_up(self) -> None:
        """Find the strategies for what waits now; needed after every change of that."""
        self.frontier = self.table.frontier(self.bucket, self.mask, len(self.waiting))
        self.first = cheapest_reaching(self.frontier, self.needed)

    def take(self, count: int, mode: int) -> tuple[int, ...]:
        """Send the first `count` waiting requests off in `mode` and return their indices."""
        self.progress.plan_anew(self)
        self.strategy = _rest(self.strategy, mode, count, self.table, self.bucket)
        return self.progress.take(count, self.table.modes[mode], float(self.table.accuracy[mode]))

    def give_back(self, requests: Sequence[int], mode: int) -> None:
        """Let requests that were with a worker of this kind wait again; they did not run."""
        self.progress.give_back(requests, self.table.modes[mode], float(self.table.accuracy[mode]))


def run_of(batch: Batch, start_ns: int, finish_ns: int) -> BatchRun:
    """Return a batch that is done as receipts show it."""
    return BatchRun(batch.id, batch.worker, batch.mode, batch.size, start_ns, finish_ns)


def _rest(strategy: Strategy | None, mode: int, count: int, table: ModelTable, bucket: int) -> Strategy | None:
    """What remains of a strategy once its next batch is sent; None if something else was sent."""
    if strategy is None or strategy.batches[0] != (mode, count) or len(strategy.batches) == 1:
        return None
    batches = strategy.batches[1:]
    latency_ns = sum(int(table.latency_ns[m, bucket, size]) for m, size in batches)
    return Strategy(batches, latency_ns, strategy.accuracy - count * float(table.accuracy[mode]))
