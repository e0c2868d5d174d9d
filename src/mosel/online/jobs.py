"""A job between arrival and outcome: which requests wait, run or are done, and what accuracy that earns.

State changes follow `core/states.py`; a change that the table does not allow is a bug and fails at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mosel.core.states import TRANSITIONS, Reason, State
from mosel.core.types import ACCURACY_TOLERANCE, Batch, BatchRun, Job, Receipt
from mosel.online.tables import NO_STRATEGY, ModelTable, Strategy, point
from mosel.solve.cover import Frontier, cheapest_reaching

MOST_FAULTS = 2
"""How many batches may fail or be lost under a job before it is answered `failed`."""


@dataclass(slots=True, eq=False)
class LiveJob:
    """What the scheduler knows of a job that has no outcome yet.

    Attributes:
        job: as it arrived.
        table: its model's table.
        bucket: its length bucket.
        mask: the modalities it still has, as bits; one that turned out corrupt is gone.
        waiting: indices of the requests that wait, ascending.
        state: where it stands.
        running: how many of its requests are with a worker.
        credited: accuracy sum of the requests that are done or with a worker.
        modes: requests done or with a worker, by mode index, in the order in which modes first ran.
        runs: the batches that are done.
        faults: how many batches failed or were lost under it.
        fault: why, if one did.
        detail: what went wrong last, in one line.
        strategy: how the policy means to run the waiting requests.
        frontier: the strategies of as many requests as wait (𝒫).
        first: the first of these that reaches what is needed.
        least_batches_ns: the latencies of the batches of the fastest strategy that the policy would still run.
        shared: its options where batches are shared with other jobs (`amortised.py`).
    """

    job: Job
    table: ModelTable
    bucket: int
    mask: int
    waiting: list[int]
    state: State = State.ARRIVED
    running: int = 0
    credited: float = 0.0
    modes: dict[int, int] = field(default_factory=dict)
    runs: list[BatchRun] = field(default_factory=list)
    faults: int = 0
    fault: Reason | None = None
    detail: str = ""
    strategy: Strategy | None = None
    frontier: Frontier = NO_STRATEGY
    first: int = 0
    least_batches_ns: tuple[int, ...] = ()
    shared: tuple[int, int] = (0, 0)

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

    @property
    def reachable(self) -> bool:
        """Whether a strategy for the waiting requests reaches what is needed."""
        return self.first < len(self.frontier)

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

    def look_up(self) -> None:
        """Find the strategies for what waits now; needed after every change of that."""
        self.frontier = self.table.frontier(self.bucket, self.mask, len(self.waiting))
        self.first = cheapest_reaching(self.frontier, self.needed)

    def move(self, state: State) -> None:
        """Enter `state`."""
        if state is not self.state:
            assert state in TRANSITIONS[self.state], f"{self.job.id}: {self.state} to {state}"
            self.state = state

    def take(self, count: int, mode: int) -> tuple[int, ...]:
        """Send the first `count` waiting requests off in `mode` and return their indices."""
        taken, self.waiting = tuple(self.waiting[:count]), self.waiting[count:]
        self.running += count
        self.credited += count * float(self.table.accuracy[mode])
        self.modes[mode] = self.modes.get(mode, 0) + count
        self.strategy = _rest(self.strategy, mode, count, self.table, self.bucket)
        self.move(State.RUNNING)
        return taken

    def settle(self, requests: Sequence[int], run: BatchRun) -> None:
        """Note that these requests, which were with a worker, are done."""
        self.running -= len(requests)
        self.runs.append(replace(run, requests=len(requests)))

    def give_back(self, requests: Sequence[int], mode: int) -> None:
        """Let requests that were with a worker wait again; they did not run."""
        self.running -= len(requests)
        self.credited -= len(requests) * float(self.table.accuracy[mode])
        self.modes[mode] -= len(requests)
        if not self.modes[mode]:
            del self.modes[mode]
        self.waiting = sorted([*self.waiting, *requests])
        self.strategy = None

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
        modes = tuple((self.table.modes[mode], count) for mode, count in self.modes.items())
        return Receipt(self.job, outcome, reason, detail, now_ns, finish_ns, accuracy, modes, tuple(self.runs))


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
