"""What a policy sees and what it answers. A policy is a function `decide(view) -> Decision`.

It is asked whenever a worker can take work. It reads the queue in deadline order, the workers' expected
backlogs and the tables; it answers which jobs to give up, how it means to run those that stay, and the next
batch. It keeps nothing between calls: what lasts (the strategy in force of each job) stands in the queue.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mosel.online.amortised import Amortised
from mosel.online.demand import Demand
from mosel.online.jobs import LiveJob
from mosel.online.queue import JobQueue
from mosel.online.tables import ModelTable, Strategy
from mosel.solve import line_up
from mosel.solve.assign import WORK_CAP, Search, keep_feasible
from mosel.solve.line_up import Batches

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Options:
    """How the scheduler and its policies are tuned.

    Attributes:
        lead_ns: how long before a worker is expected to be free its next batch is chosen.
        batch_limit: the largest cross-job batch of `none+batching`; None takes the size with the most
            requests per second in the profile.
        batch_delay_ns: how long `none+batching` waits for a batch to fill up.
        work_cap: how many state × option pairs an exact assignment may look at.
    """

    lead_ns: int = 0
    batch_limit: int | None = None
    batch_delay_ns: int = 0
    work_cap: int = WORK_CAP


@dataclass(frozen=True, slots=True)
class View:
    """What a policy reads.

    Attributes:
        now_ns: the time of the decision.
        worker: the worker that can take a batch.
        start_ns: when that worker would start it.
        free_ns: of shape (workers that are up,), ascending: when each is expected to be free.
        queue: jobs with waiting requests, in deadline order.
        margin_ns: how much earlier than its deadline a job has to be expected to finish.
        options: see `Options`.
        rng: for policies that draw lots; seeded.
        amortised: what jobs cost where batches are shared.
        demand: the work that arrived of late.
        search: assigns strategies, with what it knows from the decision before.
    """

    now_ns: int
    worker: int
    start_ns: int
    free_ns: Ints
    queue: JobQueue
    margin_ns: int
    options: Options
    rng: np.random.Generator
    amortised: Amortised
    demand: Demand
    search: Search

    @property
    def by_ns(self) -> Ints:
        """Per row, when the job has to be expected to end: its deadline, less the margin."""
        by_ns: Ints = self.queue.ints("deadline_ns") - self.margin_ns
        return by_ns

    def budget_ns(self) -> Ints:
        """Return, per row, how much work all workers together can do until that job has to end.

        With one worker this says which plans hold. With several it is a bound: a batch runs on one of them.
        """
        return capacity(self.free_ns, self.by_ns)

    def feasible(self) -> Ints:
        """Return the rows that the drop rule keeps (§4.3): all as fast as may be, in order, none late."""
        if len(self.free_ns) == 1:
            return np.flatnonzero(keep_feasible(self.queue.ints("least_ns"), self.budget_ns()))
        batches = Batches.of([live.least_batches_ns for live in self.queue.jobs])
        return np.flatnonzero(line_up.kept(self.free_ns, batches, self.by_ns))


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """The next batch: requests of these rows, in this mode of this model."""

    table: ModelTable
    mode: int
    bucket: int
    parts: tuple[tuple[int, int], ...]
    """(row, how many of its waiting requests)"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy answers; rows are those of the view's queue.

    Attributes:
        drop: rows to give up.
        plans: rows whose strategy changes.
        batch: the next batch, or None to wait.
        wait_until_ns: when to be asked again, if there is work but no batch.
    """

    drop: tuple[int, ...] = ()
    plans: Mapping[int, Strategy] = field(default_factory=dict)
    batch: BatchChoice | None = None
    wait_until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A named way to decide.

    Attributes:
        decide: answers a view.
        first: the strategy of a job that has just arrived (or whose requests came back).
        least: the fastest strategy that this policy would still run; a job for which even that comes too
            late is hopeless.
        drops: whether hopeless jobs are given up at all.
        shares: whether it reads what jobs cost where batches are shared.
    """

    decide: Callable[[View], Decision]
    first: Callable[[LiveJob], Strategy]
    least: Callable[[LiveJob], Strategy]
    drops: bool = True
    shares: bool = False


def capacity(free_ns: Ints, by_ns: Ints) -> Ints:
    """Return how much work workers that are free from `free_ns` (ascending) on can do by each time."""
    sums = np.concatenate(([0], np.cumsum(free_ns)))
    count = np.searchsorted(free_ns, by_ns)
    result: Ints = count * by_ns - sums[count]
    return result


def cheapest(live: LiveJob) -> Strategy:
    """Return the fastest strategy that meets what is left of the job's accuracy SLO."""
    return live.cheapest


def most_accurate(live: LiveJob) -> Strategy:
    """Return the most accurate strategy."""
    return live.most_accurate


def full_modalities(live: LiveJob) -> Strategy:
    """Return the fastest batches with all the job's modalities: what a modality-agnostic server does."""
    mode = live.table.full_mode(live.mask, live.needed, len(live.waiting))
    return live.table.single_mode(mode, live.bucket, len(live.waiting))


def head_batch(view: View, plans: Mapping[int, Strategy], kept: Ints) -> BatchChoice | None:
    """Return the first batch of the strategy of the first job that is kept (jobs run in deadline order)."""
    if not len(kept):
        return None
    row = int(kept[0])
    live = view.queue.jobs[row]
    strategy = plans.get(row) or live.strategy
    assert strategy is not None, "a queued job has a strategy"
    mode, size = strategy.batches[0]
    return BatchChoice(live.table, mode, live.bucket, ((row, size),))
