"""A job between arrival and outcome: which requests wait, run or are done, and what accuracy that earns.

`Progress` (`progress.py`) is what holds whoever runs the job; a `LiveJob` is the same job as workers of one
kind see it, with the strategies that are open to it there. Where all workers are alike a job has one of each.

A request that a cascade left unsure holds an answer and may run once more (`unsure.py`). Those of a job stand
in line when none of its requests waits to run at all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.types import Batch, BatchRun
from mosel.online.columns import CascadeColumn
from mosel.online.covers import Covers
from mosel.online.progress import MOST_FAULTS, Progress
from mosel.online.tables import NO_STRATEGY, ModelTable, Strategy, point
from mosel.online.unsure import Promise, Ways, in_line, options
from mosel.solve.cover import SHORTFALL, Frontier
from mosel.solve.idle import idle_ns
from mosel.solve.reaching import cheapest_reaching

__all__ = ["MOST_FAULTS", "LiveJob", "Progress", "run_of"]

Ints = NDArray[np.int64]


class LiveJob:
    """A job as workers of one kind see it: what policies choose strategies for.

    Attributes:
        progress: what became of it so far.
        job: as it arrived.
        order: where it stands among others: deadline, arrival, id.
        table: its model's table.
        bucket: its length bucket.
        strategy: how the policy means to run the waiting requests.
        frontier: the strategies of as many requests as wait (𝒫), in single modes.
        first: the first of these that reaches what is needed.
        wide, wide_first: the same over cascades too, with latencies that hold in all but a few cases.
        least_batches_ns: the latencies of the batches of the fastest strategy that the policy would still run.
        shared: its options where batches are shared with other jobs (`amortised.py`).
        saved_ns: how much less work the first of these is than the cheapest in single modes.
    """

    __slots__ = (
        "bucket", "first", "frontier", "job", "least_batches_ns", "order", "progress", "saved_ns", "shared",
        "strategy", "table", "wide", "wide_first",
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
        self.wide = NO_STRATEGY
        self.wide_first = 0
        self.least_batches_ns: tuple[int, ...] = ()
        self.shared = (0, 0)
        self.saved_ns = 0

    @property
    def waiting(self) -> list[int]:
        """Indices of the requests in line: ascending, or if all are unsure, first what gains most."""
        return self.progress.waiting or self._unsure()

    @property
    def escalates(self) -> bool:
        """Whether what is in line holds an answer already, and would run once more."""
        return not self.progress.waiting and bool(self.progress.unsure)

    @property
    def grace_ns(self) -> int:
        """How long before its deadline a job that could be answered now has to run once more; 0 for others."""
        if not self.escalates or self.first or len(self.frontier) < 2:
            return 0
        return int(self.frontier.latency_ns[1])

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
        return self.first < len(self.frontier.levels)

    @property
    def cheapest(self) -> Strategy:
        """The fastest strategy that meets what is left of the accuracy SLO (𝒫, §5.1)."""
        return self._point(self.first)

    @property
    def most_accurate(self) -> Strategy:
        """The fastest of the most accurate strategies (§4.3: what a new job adopts)."""
        return self._point(len(self.frontier.levels) - 1)

    def batches_ns(self, strategy: Strategy) -> tuple[int, ...]:
        """Return the latency of each batch of a strategy for this job."""
        return self.table.batches_ns(self.bucket, strategy.batches)

    def options(self, wide: bool) -> tuple[Frontier, int]:
        """Return the strategies for what is in line, and the first that reaches what is needed."""
        return (self.wide, self.wide_first) if wide else (self.frontier, self.first)

    def option_ns(self, index: int, wide: bool) -> tuple[int, ...]:
        """Return the latency of each batch of one of the `options`."""
        if self.escalates:
            return self.batches_ns(point(self.frontier, index))
        return self._covers(wide).batches_ns(self.bucket, self.mask, len(self.waiting), index)

    def longest_ns(self, wide: bool) -> Ints:
        """Return the longest batch of each of the `options`, of shape (points,)."""
        if isinstance(self.frontier.batches, Ways):
            return self.frontier.batches.longest_ns
        return self._covers(wide).longest_ns(self.bucket, self.mask, len(self.waiting))

    def alone_ns(self, workers: int) -> int:
        """How long the job takes at its fastest if so many workers are up and idle."""
        return idle_ns(self.batches_ns(self.cheapest), workers)

    def in_time(self, workers: int, now_ns: int) -> bool:
        """Whether the job, as it was last looked up, could be served by its deadline if it were alone."""
        return self.reachable and now_ns + self.alone_ns(workers) <= self.job.deadline_ns

    def look_up(self) -> None:
        """Find the strategies for what waits now; needed after every change of that."""
        if self.escalates:
            held = [self.progress.unsure[request] for request in self._unsure()]
            self.frontier, self.first = options(held, self.progress.needed, self.table, self.bucket)
            self.wide, self.wide_first = self.frontier, self.first
            return
        asked = self.bucket, self.mask, len(self.waiting)
        self.frontier = self.wide = self.table.frontier(*asked)
        self.first = self.wide_first = cheapest_reaching(self.frontier, self.needed)
        if self.table.cascades:
            self.wide = self.table.wide.frontier(*asked)
            self.wide_first = cheapest_reaching(self.wide, self.needed)

    def take(self, count: int, column: int) -> tuple[int, ...]:
        """Send `count` of the requests in line off, in a mode or a cascade, and return their indices."""
        self.progress.plan_anew(self)
        self.strategy = _rest(self.strategy, column, count, self.table, self.bucket)
        if self.escalates:
            return self._take_again(count, column)
        cascade = self.table.cascade(column)
        mode = column if cascade is None else cascade.first
        accuracy = float(self.table.accuracy[mode])
        if cascade is None:
            return self.progress.take(count, self.table.modes[mode], accuracy)
        promise = self._promise(cascade, accuracy)
        taken = self.progress.take(count, self.table.modes[mode], promise.counted)
        self.progress.promises.update(dict.fromkeys(taken, promise))
        return taken

    def give_back(self, requests: Sequence[int], mode: int) -> None:
        """Let requests that were with a worker of this kind wait again; they did not run."""
        progress, name = self.progress, self.table.modes[mode]
        again = [request for request in requests if request in progress.again]
        if again:
            progress.take_back(again)
        for request in requests:
            if request not in progress.unsure:
                promise = progress.promises.pop(request, None)
                counted = float(self.table.accuracy[mode]) if promise is None else promise.counted
                progress.give_back((request,), name, counted)

    def _point(self, index: int) -> Strategy:
        """One point of the frontier; that of escalations is this job's own, and not worth keeping."""
        return point(self.frontier, index) if self.escalates else self.table.point(self.frontier, index)

    def _promise(self, cascade: CascadeColumn, accuracy: float) -> Promise:
        """What requests in a cascade count for: its whole, unless its first stage is enough for the job."""
        waiting = len(self.progress.waiting)
        enough = accuracy * waiting >= self.progress.needed - SHORTFALL
        return Promise(cascade, accuracy, enough)

    def _covers(self, wide: bool) -> Covers:
        return self.table.wide if wide else self.table.covers

    def _unsure(self) -> list[int]:
        if not self.progress.unsure:
            return []
        return in_line(self.progress.unsure, self.table, self.mask)

    def _take_again(self, count: int, mode: int) -> tuple[int, ...]:
        name, unsure = self.table.modes[mode], self.progress.unsure
        fitting = [request for request in self._unsure() if unsure[request].last == name]
        taken = tuple(sorted(fitting[:count]))
        assert len(taken) == count, "as many are unsure as are sent"
        self.progress.escalate(taken)
        return taken


def run_of(batch: Batch, start_ns: int, finish_ns: int, *, whole: bool = False) -> BatchRun:
    """Return a batch that is done as receipts show it; `whole` if it resumed nothing, though it was to."""
    resumed = () if whole else batch.picked_up
    return BatchRun(batch.id, batch.worker, batch.mode, batch.size, start_ns, finish_ns, resumed=resumed)


def _rest(strategy: Strategy | None, mode: int, count: int, table: ModelTable, bucket: int) -> Strategy | None:
    """What remains of a strategy once its next batch is sent; None if something else was sent."""
    if strategy is None or strategy.batches[:1] != ((mode, count),) or len(strategy.batches) == 1:
        return None
    batches = strategy.batches[1:]
    latency_ns = sum(int(table.safe_ns[m, bucket, size]) for m, size in batches)
    return Strategy(batches, latency_ns, strategy.accuracy - count * float(table.column_accuracy[mode]))
