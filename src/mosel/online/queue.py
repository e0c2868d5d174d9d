"""A queue of jobs with waiting requests, in deadline order, as columns of arrays with one owner.

One row per job that has requests waiting and that workers of the queue's kind can run; a job whose requests all
run is not in it, and comes back if some of them return. Ties in the order break by arrival, then job id.
Policies read the columns through `policies/base.py: View`; only the scheduler writes here.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mosel.online.jobs import LiveJob
from mosel.online.tables import Strategy
from mosel.solve.idle import idle_ns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FIRST_CAPACITY = 64

_INTS = (
    "deadline_ns", "arrival_ns", "model", "waiting", "least_ns", "alone_ns", "latest_ns", "last_ns",
    "planned_ns", "low", "high", "saved_ns",
)  # fmt: skip
_FLOATS = ("weight", "worth", "accuracy_slo", "planned_accuracy")
INTS = {name: number for number, name in enumerate(_INTS)}
FLOATS = {name: number for number, name in enumerate(_FLOATS)}
DEADLINE, WAITING, ALONE, LATEST, LAST, PLANNED, ACCURACY = 0, 3, 5, 6, 7, 8, 3


class Rows(Protocol):
    """Jobs in deadline order, to be read: a whole queue, or some of its rows."""

    def __len__(self) -> int:
        """Return how many jobs there are."""

    @property
    def jobs(self) -> list[LiveJob]:
        """The jobs, row by row; not to be changed by the reader."""

    @property
    def faulty(self) -> bool:
        """Whether a batch failed or was lost under one of the jobs."""

    def ints(self, name: str) -> Ints:
        """Return an integer column as a read-only view."""

    def floats(self, name: str) -> Floats:
        """Return a float column as a read-only view."""


class JobQueue:
    """Jobs with waiting requests in deadline order.

    The columns, of shape (jobs,), as views that hold until the next change:
        deadline_ns, arrival_ns, waiting (requests), weight, accuracy_slo.
        worth: what serving the job on time is worth, requests × weight.
        least_ns: the latency of the fastest strategy that the policy would still run.
        alone_ns: how long that takes if every worker is idle.
        latest_ns, last_ns: when that has to start at the latest on one worker, and on all if they are idle;
            for a job that could be answered now, when it would have to run once more.
        planned_ns, planned_accuracy: of the strategy in force.
        low, high: its options where batches are shared (`amortised.py`).
        saved_ns: how much less work the first of these is than the cheapest in single modes.
        model: the number of its model.
    """

    __slots__ = (
        "_faulty", "_floats", "_ints", "_jobs", "_orders", "_read_floats", "_read_ints", "_size", "_workers",
    )  # fmt: skip

    def __init__(self, workers: int = 1) -> None:
        self._size = 0
        self._workers = workers
        self._jobs: list[LiveJob] = []
        self._orders: list[tuple[int, int, str]] = []
        self._faulty: set[LiveJob] = set()
        self._hold(np.zeros((len(INTS), FIRST_CAPACITY), np.int64), np.zeros((len(FLOATS), FIRST_CAPACITY)))

    def __len__(self) -> int:
        return self._size

    @property
    def jobs(self) -> list[LiveJob]:
        """The jobs, row by row; not to be changed by the reader."""
        return self._jobs

    @property
    def faulty(self) -> bool:
        """Whether a batch failed or was lost under one of the jobs."""
        return bool(self._faulty)

    def ints(self, name: str) -> Ints:
        """Return an integer column as a read-only view."""
        column: Ints = self._read_ints[INTS[name], : self._size]
        return column

    def floats(self, name: str) -> Floats:
        """Return a float column as a read-only view."""
        column: Floats = self._read_floats[FLOATS[name], : self._size]
        return column

    def row(self, live: LiveJob) -> int | None:
        """Return the row of `live`, or None if it has no request waiting."""
        row = bisect_left(self._orders, live.order)
        return row if row < self._size and self._jobs[row] is live else None

    def insert(self, live: LiveJob, least: Strategy) -> int:
        """Put `live` in its place and return its row."""
        row, size = bisect_left(self._orders, live.order), self._size
        if size == self._ints.shape[1]:
            self._hold(
                *(np.concatenate([old, np.zeros_like(old)], axis=1) for old in (self._ints, self._floats))
            )
        self._move(row, row + 1, size - row)
        self._jobs.insert(row, live)
        self._orders.insert(row, live.order)
        self._size = size + 1
        job = live.job
        ints, accuracy = self._varying(live, least)
        self._ints[:, row] = (job.deadline_ns, job.arrival_ns, live.table.number, *ints)
        self._floats[:, row] = (job.weight, job.requests * job.weight, job.accuracy_slo, accuracy)
        return row

    def remove(self, rows: Sequence[int]) -> None:
        """Take the jobs in these rows, ascending, out; rows that stand together at the cost of one."""
        for first, last in _runs(rows):
            self._move(last, first, self._size - last)
            self._faulty.difference_update(self._jobs[first:last])
            del self._jobs[first:last], self._orders[first:last]
            self._size -= last - first

    def refresh(self, row: int, least: Strategy) -> None:
        """Take over what changed about a job: its waiting requests, its strategy, its fastest strategy."""
        self._ints[WAITING:, row], self._floats[ACCURACY, row] = self._varying(self._jobs[row], least)

    def count_workers(self, workers: int) -> None:
        """Take over how many workers share the queue's batches."""
        self._workers = workers
        for row, live in enumerate(self._jobs):
            alone_ns = idle_ns(live.least_batches_ns, workers)
            self._ints[ALONE, row] = alone_ns
            self._ints[LAST, row] = live.job.deadline_ns - (alone_ns or live.grace_ns)

    def plan(self, row: int, strategy: Strategy) -> None:
        """Put another strategy in force for a job; what waits is the same."""
        live = self._jobs[row]
        if live.strategy is not strategy:
            live.strategy = strategy
            self._ints[PLANNED, row] = strategy.latency_ns
            self._floats[ACCURACY, row] = strategy.accuracy

    def _varying(self, live: LiveJob, least: Strategy) -> tuple[tuple[int, ...], float]:
        """The columns from `waiting` on of a job, given its fastest strategy, and its planned accuracy."""
        live.least_batches_ns = live.batches_ns(least)
        if live.faults:
            self._faulty.add(live)
        strategy = live.strategy or least
        alone_ns = idle_ns(live.least_batches_ns, self._workers)
        due_ns, least_ns = live.job.deadline_ns, least.latency_ns
        latest_ns = due_ns - (least_ns or live.grace_ns)
        last_ns = due_ns - (alone_ns or live.grace_ns)
        found = (
            len(live.waiting), least_ns, alone_ns, latest_ns, last_ns, strategy.latency_ns, *live.shared,
            live.saved_ns,
        )  # fmt: skip
        return found, strategy.accuracy

    def _hold(self, ints: Ints, floats: Floats) -> None:
        """Take these as columns; what is handed out is a view that cannot be written."""
        self._ints, self._floats = ints, floats
        self._read_ints, self._read_floats = ints.view(), floats.view()
        self._read_ints.flags.writeable = self._read_floats.flags.writeable = False

    def _move(self, start: int, to: int, count: int) -> None:
        """Move rows up or down."""
        if count:
            for columns in (self._ints, self._floats):
                columns[:, to : to + count] = columns[:, start : start + count]


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first row and the one behind the last of those that stand together, the last ones first."""
    found: list[tuple[int, int]] = []
    for row in reversed(rows):
        if found and found[-1][0] == row + 1:
            found[-1] = row, found[-1][1]
        else:
            found.append((row, row + 1))
    return found


class Selection:
    """Some rows of a queue, read like one; row i stands at `rows[i]` in the queue."""

    __slots__ = ("_jobs", "_queue", "rows")

    def __init__(self, queue: JobQueue, rows: Ints) -> None:
        self._queue = queue
        self._jobs = [queue.jobs[row] for row in rows]
        self.rows = rows

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def jobs(self) -> list[LiveJob]:
        """The jobs, row by row; not to be changed by the reader."""
        return self._jobs

    @property
    def faulty(self) -> bool:
        """Whether a batch failed or was lost under one of the jobs."""
        return self._queue.faulty and any(live.faults for live in self._jobs)

    def ints(self, name: str) -> Ints:
        """Return an integer column, a read-only copy."""
        column = self._queue.ints(name)[self.rows]
        column.flags.writeable = False
        return column

    def floats(self, name: str) -> Floats:
        """Return a float column, a read-only copy."""
        column = self._queue.floats(name)[self.rows]
        column.flags.writeable = False
        return column
