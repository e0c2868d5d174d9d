"""The queue of jobs with waiting requests, in deadline order, as columns of arrays with one owner.

One row per job that has requests waiting; a job whose requests all run is not in it, and comes back if some of
them return. Ties in the order break by arrival, then job id. Policies read the columns through
`policies/base.py: View`; only the scheduler writes here.
"""

import numpy as np
from numpy.typing import NDArray

from mosel.online.jobs import LiveJob
from mosel.online.tables import Strategy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FIRST_CAPACITY = 64


class JobQueue:
    """Jobs with waiting requests in deadline order.

    The columns, of shape (jobs,), as views that hold until the next change:
        deadline_ns, arrival_ns, waiting (requests), weight.
        worth: what serving the job on time is worth, requests × weight.
        least_ns: the latency of the fastest strategy that the policy would still run.
        planned_ns, planned_accuracy: of the strategy in force.
        low, high: its options where batches are shared (`amortised.py`).
    """

    __slots__ = ("_columns", "_jobs", "_size")

    NAMES = ("deadline_ns", "arrival_ns", "waiting", "least_ns", "planned_ns", "low", "high")
    FLOAT_NAMES = ("weight", "worth", "planned_accuracy")

    def __init__(self) -> None:
        self._size = 0
        self._jobs: list[LiveJob] = []
        self._columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {
            **{name: np.zeros(FIRST_CAPACITY, np.int64) for name in self.NAMES},
            **{name: np.zeros(FIRST_CAPACITY, np.float64) for name in self.FLOAT_NAMES},
        }

    def __len__(self) -> int:
        return self._size

    @property
    def jobs(self) -> list[LiveJob]:
        """The jobs, row by row; not to be changed by the reader."""
        return self._jobs

    def ints(self, name: str) -> Ints:
        """Return an integer column as a read-only view."""
        return self._view(name).view(np.int64)

    def floats(self, name: str) -> Floats:
        """Return a float column as a read-only view."""
        return self._view(name).view(np.float64)

    def row(self, live: LiveJob) -> int | None:
        """Return the row of `live`, or None if it has no request waiting."""
        row = self._position(live)
        return row if row < self._size and self._jobs[row] is live else None

    def insert(self, live: LiveJob, least: Strategy) -> int:
        """Put `live` in its place and return its row."""
        row = self._position(live)
        self._make_room()
        for column in self._columns.values():
            column[row + 1 : self._size + 1] = column[row : self._size]
        self._jobs.insert(row, live)
        self._size += 1
        self._columns["deadline_ns"][row] = live.job.deadline_ns
        self._columns["arrival_ns"][row] = live.job.arrival_ns
        self._columns["weight"][row] = live.job.weight
        self._columns["worth"][row] = live.job.requests * live.job.weight
        self.refresh(row, least)
        return row

    def remove(self, row: int) -> None:
        """Take a job out."""
        for column in self._columns.values():
            column[row : self._size - 1] = column[row + 1 : self._size]
        del self._jobs[row]
        self._size -= 1

    def refresh(self, row: int, least: Strategy) -> None:
        """Take over what changed about a job: its waiting requests, its strategy, its fastest strategy."""
        live = self._jobs[row]
        live.least_batches_ns = live.batches_ns(least)
        strategy = live.strategy or least
        self._columns["waiting"][row] = len(live.waiting)
        self._columns["least_ns"][row] = least.latency_ns
        self._columns["planned_ns"][row] = strategy.latency_ns
        self._columns["planned_accuracy"][row] = strategy.accuracy
        self._columns["low"][row], self._columns["high"][row] = live.shared

    def plan(self, row: int, strategy: Strategy) -> None:
        """Put another strategy in force for a job; what waits is the same."""
        live = self._jobs[row]
        if live.strategy is not strategy:
            live.strategy = strategy
            self._columns["planned_ns"][row] = strategy.latency_ns
            self._columns["planned_accuracy"][row] = strategy.accuracy

    def _view(self, name: str) -> NDArray[np.int64] | NDArray[np.float64]:
        view = self._columns[name][: self._size]
        view.flags.writeable = False
        return view

    def _position(self, live: LiveJob) -> int:
        deadlines = self._columns["deadline_ns"][: self._size]
        low = int(np.searchsorted(deadlines, live.job.deadline_ns, side="left"))
        while low < self._size and self._jobs[low].order < live.order:
            low += 1
        return low

    def _make_room(self) -> None:
        if self._size + 1 < len(self._columns["waiting"]):
            return
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate([column, np.zeros_like(column)])
