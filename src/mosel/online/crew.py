"""The workers as the scheduler sees them: which are up, what each has in hand, when each should be free.

A worker holds at most one batch that runs and one that waits. The second is sent only when the first is
expected to end within the lead, so that what runs next is decided as late as the device allows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.types import Batch
from mosel.online.jobs import LiveJob
from mosel.online.tables import ModelTable


@dataclass(slots=True, eq=False)
class Sent:
    """A batch with a worker; `start_ns` is None while another batch runs before it."""

    batch: Batch
    table: ModelTable
    mode: int
    jobs: tuple[LiveJob, ...]
    start_ns: int | None


@dataclass(slots=True, eq=False)
class Worker:
    """One worker and what it has in hand."""

    up: bool = False
    running: Sent | None = None
    waiting: Sent | None = None

    def free_ns(self, now_ns: int) -> int:
        """When it should be free; a batch that overran its estimate is taken to end now."""
        free_ns = now_ns
        if self.running is not None:
            assert self.running.start_ns is not None
            free_ns = max(now_ns, self.running.start_ns + self.running.batch.expected_ns)
        return free_ns + (self.waiting.batch.expected_ns if self.waiting else 0)

    def ripe_ns(self, now_ns: int, lead_ns: int) -> int | None:
        """From when on it can take a batch: now, a later time, or None if only its next report tells."""
        if not self.up or self.waiting is not None:
            return None
        if self.running is None:
            return now_ns
        return max(now_ns, self.free_ns(now_ns) - lead_ns) if lead_ns else None


class Crew:
    """All workers, and all batches that are with one."""

    def __init__(self, workers: int) -> None:
        self.workers = [Worker() for _ in range(workers)]
        self._sent: dict[int, Sent] = {}

    @property
    def up(self) -> int:
        """How many workers are up."""
        return sum(worker.up for worker in self.workers)

    @property
    def idle(self) -> bool:
        """Whether no worker has a batch in hand."""
        return not self._sent

    def free_ns(self, now_ns: int) -> NDArray[np.int64]:
        """When each worker that is up should be free, ascending."""
        return np.sort(np.array([w.free_ns(now_ns) for w in self.workers if w.up], np.int64))

    def ripe(self, now_ns: int, lead_ns: int) -> int | None:
        """The worker that can take a batch now; None if none can, or if another should be free before it.

        Plans count on the next batch going to the worker that is free first.
        """
        first_ns = min((w.free_ns(now_ns) for w in self.workers if w.up), default=0)
        for index, worker in enumerate(self.workers):
            if worker.ripe_ns(now_ns, lead_ns) == now_ns and worker.free_ns(now_ns) == first_ns:
                return index
        return None

    def next_ripe_ns(self, now_ns: int, lead_ns: int) -> int | None:
        """The first time after now at which a worker can take a batch without having reported."""
        times = [w.ripe_ns(now_ns, lead_ns) for w in self.workers]
        return min((t for t in times if t is not None and t > now_ns), default=None)

    def send(self, sent: Sent, now_ns: int) -> None:
        """Hand a batch to its worker."""
        worker = self.workers[sent.batch.worker]
        assert worker.up, "work goes to workers that are up"
        assert worker.waiting is None, "a worker holds one waiting batch at most"
        self._sent[sent.batch.id] = sent
        if worker.running is None:
            sent.start_ns = now_ns
            worker.running = sent
        else:
            worker.waiting = sent

    def report(self, batch: int, now_ns: int) -> Sent | None:
        """Take a batch off its worker; the next one starts. None if it is not known (any more)."""
        sent = self._sent.get(batch)
        if sent is None or sent.start_ns is None:
            return None
        del self._sent[batch]
        worker = self.workers[sent.batch.worker]
        worker.running, worker.waiting = worker.waiting, None
        if worker.running is not None:
            worker.running.start_ns = now_ns
        return sent

    def lose(self, index: int) -> list[Sent]:
        """Take a worker down and return the batches that it had in hand, the running one first."""
        worker = self.workers[index]
        lost = [sent for sent in (worker.running, worker.waiting) if sent is not None]
        for sent in lost:
            del self._sent[sent.batch.id]
        worker.up, worker.running, worker.waiting = False, None, None
        return lost
