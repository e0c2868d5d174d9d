"""What a worker keeps of requests between the stages of a cascade: features of modalities already encoded.

Bounded in bytes and in time: what does not fit is not kept, which the scheduler is told, and what was not asked
for in time is let go. A request whose features are gone runs its last stage whole, for the same answer. Of
requests no more is known here than the job they are of.
"""

import threading
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mosel.core.clock import NS_PER_S, monotonic_ns

Features = Mapping[str, NDArray[Any]]
"""By tensor name, each of shape (1, *shape)."""

LIMIT_BYTES = 256 << 20
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Entry:
    features: Features
    since_ns: int

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.features.values())


class KeptFeatures:
    """Features by job and request. Two threads of a worker use it: one takes, the other keeps.

    Args:
        limit_bytes: how much is kept at most.
        limit_s: how long.
        now_ns: the clock.
    """

    def __init__(
        self,
        limit_bytes: int = LIMIT_BYTES,
        limit_s: float = LIMIT_S,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._limit_ns = int(limit_s * NS_PER_S)
        self._now_ns = now_ns
        self._jobs: dict[str, dict[int, _Entry]] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def keep(self, job: str, request: int, features: Features) -> bool:
        """Keep a request's features; whether there was room. They are not to be changed any more."""
        entry = _Entry(features, self._now_ns())
        with self._lock:
            self._let_go()
            if self._bytes + entry.nbytes > self._limit_bytes:
                return False
            self._jobs.setdefault(job, {})[request] = entry
            self._bytes += entry.nbytes
        return True

    def take(self, job: str, request: int) -> Features | None:
        """Hand out the features of a request, which are not kept any more; None if there are none."""
        with self._lock:
            self._let_go()
            entry = self._pop(job, request)
        return None if entry is None else entry.features

    def forget(self, job: str) -> None:
        """Let go of what is kept of a job."""
        with self._lock:
            for request in list(self._jobs.get(job, ())):
                self._pop(job, request)

    def _pop(self, job: str, request: int) -> _Entry | None:
        own = self._jobs.get(job, {})
        entry = own.pop(request, None)
        if entry is not None:
            self._bytes -= entry.nbytes
            if not own:
                del self._jobs[job]
        return entry

    def _let_go(self) -> None:
        """Jobs stand in the order in which something of them was first kept."""
        before_ns = self._now_ns() - self._limit_ns
        while self._jobs:
            job, own = next(iter(self._jobs.items()))
            if min(entry.since_ns for entry in own.values()) >= before_ns:
                return
            for request in list(own):
                self._pop(job, request)


class Holders:
    """Which workers keep something of which jobs, as the engine knows it; it tells them when a job is over.

    Args:
        forget: tells a worker to let go of a job.
    """

    def __init__(self, forget: Callable[[int, str], None]) -> None:
        self._forget = forget
        self._jobs: dict[str, set[int]] = {}

    def note(self, kept: Collection[tuple[str, int]], worker: int, live: Container[str]) -> None:
        """Note that a worker keeps features of these requests; of a job that is not `live` it lets go."""
        for job in {job for job, _ in kept}:
            if job in live:
                self._jobs.setdefault(job, set()).add(worker)
            else:
                self._forget(worker, job)

    def over(self, job: str) -> None:
        """Note that a job has its outcome."""
        for worker in self._jobs.pop(job, ()):
            self._forget(worker, job)
