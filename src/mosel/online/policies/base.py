"""What a policy sees and what it answers. A policy is a function `decide(view) -> Decision`.

It is asked whenever a worker can take work. It reads the queue in deadline order, the workers' expected
backlogs and the tables; it answers which jobs to give up, how it means to run those that stay, and the next
batch. It keeps nothing between calls: what lasts (the strategy in force of each job) stands in the queue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mosel.online.amortised import Amortised
from mosel.online.demand import Demand
from mosel.online.fairness import Fairness
from mosel.online.jobs import LiveJob
from mosel.online.queue import Rows
from mosel.online.tables import ModelTable, Strategy
from mosel.solve import line_up
from mosel.solve.assign import WORK_CAP, Search, keep_feasible
from mosel.solve.line_up import Batches

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """How the scheduler and its policies are tuned.

    Attributes:
        lead_ns: how long before a worker is expected to be free its next batch is chosen.
        batch_limit: the largest cross-job batch of `none+batching`; None takes the size with the most
            requests per second in the profile.
        batch_delay_ns: how long `none+batching` waits for a batch to fill up.
        work_cap: how many state × option pairs an exact assignment may look at.
        fairness: the least on-time share of each tercile of accuracy SLOs that `joint` aims at, as a part of
            the mean over all jobs; 0 serves the most requests, whoever they are.
        cell: how many workers share a queue at most; more are dealt out to cells (`online/cells.py`).
    """

    lead_ns: int = 0
    batch_limit: int | None = None
    batch_delay_ns: int = 0
    work_cap: int = WORK_CAP
    fairness: float = 0.0
    cell: int = 32


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one kind, as a worker that decides counts on them.

    Attributes:
        free_ns: of shape (workers that are up,), ascending: when each is expected to be free.
        speed: of shape (models,), how much of the deciding worker's work each does in the same time; 0 where
            one of the two lacks the model.
    """

    free_ns: Ints
    speed: Floats

    @property
    def slow(self) -> float:
        """How many times as long as the deciding worker each takes, in the mean over models that both have."""
        return 1 / float(self.speed[self.speed > 0].mean())


class View(Struct, frozen=True):
    """What a policy reads: the queue as the worker sees it that can take a batch.

    Latencies, strategies and costs are that worker's own; the queue holds the jobs that it can run, and where
    workers differ only those that it could still run in time.

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
        pools: where workers differ, all that are up by kind; empty where they are alike.
        slow: of shape (workers that are up,), how many times as long as this worker each takes; `ALIKE` where
            they are alike.
        search: assigns strategies, with what it knows from the decision before.
        fairness: by how much the worth of jobs is raised that are left behind.
    """

    now_ns: int
    worker: int
    start_ns: int
    free_ns: Ints
    queue: Rows
    margin_ns: int
    options: Options
    rng: np.random.Generator
    amortised: Amortised
    demand: Demand
    pools: tuple[Pool, ...]
    slow: Floats
    search: Search
    fairness: Fairness

    @property
    def power(self) -> float:
        """How many workers such as this one do as much as all that are up, over its models."""
        if not self.pools:
            return len(self.free_ns)
        own = self.pools[0].speed > 0
        return sum(len(pool.free_ns) * float(pool.speed[own].mean()) for pool in self.pools)

    @property
    def by_ns(self) -> Ints:
        """Per row, when the job has to be expected to end: its deadline, less the margin."""
        by_ns: Ints = self.queue.ints("deadline_ns") - self.margin_ns
        return by_ns

    def budget_ns(self) -> Ints:
        """Return, per row, how much work all workers together can do until that job has to end.

        With one worker this says which plans hold. With several it is a bound: a batch runs on one of them.
        Others count with what they do of this worker's work in that time, each from when it is free.
        """
        if not self.pools:
            return capacity(self.free_ns, self.by_ns)
        model, by_ns = self.queue.ints("model"), self.by_ns
        work_ns = np.zeros(len(by_ns))
        for pool in self.pools:
            work_ns += capacity(pool.free_ns, by_ns) * pool.speed[model]
        return work_ns.astype(np.int64)

    def end_ns(self, batches_ns: Sequence[int]) -> int:
        """Return when a job would end whose first batch runs here and now, the rest wherever it ends first."""
        first_ns = self.start_ns + batches_ns[0]
        if len(batches_ns) == 1:
            return first_ns
        free_ns = self.free_ns.copy()
        alike = self.slow == 1 if len(self.slow) else np.ones(len(free_ns), np.bool_)
        free_ns[np.flatnonzero(alike & (free_ns == self.start_ns))[0]] = first_ns
        rest = line_up.ends_alone(free_ns, Batches.of([batches_ns[1:]]), self.slow)
        return max(first_ns, int(rest[0]))

    def feasible(self) -> Ints:
        """Return the rows that the drop rule keeps (§4.3): all as fast as may be, in order, none late."""
        if len(self.free_ns) == 1:
            return np.flatnonzero(keep_feasible(self.queue.ints("least_ns"), self.budget_ns()))
        batches = Batches.of([live.least_batches_ns for live in self.queue.jobs])
        return np.flatnonzero(line_up.kept(self.free_ns, batches, self.by_ns, self.slow))


class BatchChoice(Struct, frozen=True):
    """The next batch: requests of these rows, in this mode (or cascade's first stage) of this model."""

    table: ModelTable
    column: int
    bucket: int
    parts: tuple[tuple[int, int], ...]
    """(row, how many of its waiting requests)"""


class Decision(Struct, frozen=True):
    """What a policy answers; rows are those of the view's queue.

    Attributes:
        drop: rows to give up.
        answer: rows to answer with what they have; none of their unsure requests runs once more.
        plans: rows whose strategy changes.
        batch: the next batch, or None to wait.
        wait_until_ns: when to be asked again, if there is work but no batch.
    """

    drop: tuple[int, ...] = ()
    plans: Mapping[int, Strategy] = {}
    batch: BatchChoice | None = None
    wait_until_ns: int | None = None
    answer: tuple[int, ...] = ()


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
    if len(free_ns) == 1:
        alone: Ints = np.maximum(by_ns - free_ns[0], 0)
        return alone
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


def head_batch(
    view: View, plans: Mapping[int, Strategy], kept: Ints, *, late: bool = False
) -> BatchChoice | None:
    """Return the first batch of the strategy of the first job that is kept (jobs run in deadline order).

    Where workers differ, a job that this one would make late runs as fast as it may; if it would be late even
    so it is left to others, unless `late` says that this does not matter.
    """
    for row in kept.tolist():
        live = view.queue.jobs[row]
        strategy = plans.get(row) or live.strategy
        assert strategy is not None, "a queued job has a strategy"
        by_ns = live.job.deadline_ns
        if view.pools and not late and view.end_ns(live.batches_ns(strategy)) > by_ns:
            strategy = live.cheapest
            if view.end_ns(live.batches_ns(strategy)) > by_ns:
                continue
        if strategy.batches:  # what holds answers already may have none
            column, size = strategy.batches[0]
            return BatchChoice(live.table, column, live.bucket, ((row, size),))
    return None
