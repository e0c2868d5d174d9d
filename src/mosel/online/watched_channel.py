"""A worker that is watched over: started, started anew when it dies, killed when it hangs.

A worker is a process (`process_channel.py`) or an actor of a cluster (`ray_channel.py`); its `Life` is one of
them from its start to its end. Starting anew follows these rules:
1. A worker that was ready and died is started anew at once.
2. One that could not start is tried again after a pause that doubles; after `attempts` failures in a row it is
   given up. It is given up at once if it said that trying again cannot help.
3. A batch that is not answered within its limit means that the worker hangs: it is killed, and rule 1 applies.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mosel.core.clock import to_s
from mosel.core.errors import ExecutionError
from mosel.core.types import Batch
from mosel.online import wire
from mosel.online.channel import GivenUp, Report, Work, WorkerState
from mosel.online.events import WorkerLost, WorkerReady

log = logging.getLogger(__name__)

COARSE_S = 0.001
"""By so much timers may be early."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker is waited for.

    Attributes:
        start_limit_s: from its start until it is warm.
        attempts: how often in a row it may fail to start.
        pause_s: before the second attempt; doubles with each further one.
        hang_factor: a batch that takes this many times what the scheduler expected, and what 1 in 100 of its
            like takes by the profile …
        hang_least_s: … and at least this long, has hung its worker.
        close_limit_s: from the closing of its socket until it is killed.
        p99_ns: what 1 in 100 of a batch's like takes by the profile, in nanoseconds.
    """

    start_limit_s: float = 120.0
    attempts: int = 3
    pause_s: float = 0.2
    hang_factor: float = 20.0
    hang_least_s: float = 10.0
    close_limit_s: float = 2.0
    p99_ns: Callable[[Batch], int] = lambda _: 0


class Life(Protocol):
    """One worker from its start to its end."""

    @property
    def ended(self) -> "asyncio.Future[str]":
        """Will say in one line how it ended. Await it with `asyncio.wait`, lest you cancel it."""

    async def begin(self) -> wire.StartFailed | None:
        """Start it and wait until it is ready; return why it will not be, if so.

        Raises:
            OSError: there is nothing to start it with.
        """

    def send(self, work: Work) -> None:
        """Hand over a batch, to be answered unless the worker ends before."""

    def forget(self, job: str) -> None:
        """Let it let go of what it keeps of a job."""

    async def end(self, limit_s: float) -> None:
        """Ask it to end, end it by force if it has not within the limit, and free what it used."""


class WatchedChannel:
    """One worker after the other, with the same number and the same models.

    Args:
        worker: its number.
        report: where to report.
        patience: how long to wait for it.
        live: makes the life of the next one.
    """

    def __init__(self, worker: int, report: Report, patience: Patience, live: Callable[[], Life]) -> None:
        self.state = WorkerState.STARTING
        self.restarts = 0
        self._worker = worker
        self._report = report
        self._patience = patience
        self._live = live
        self._life: Life | None = None
        self._settled: asyncio.Future[str] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the worker is warm.

        Raises:
            ExecutionError: it was given up; the message carries its last error.
        """
        loop = asyncio.get_running_loop()
        self._settled = loop.create_future()
        self._watch = loop.create_task(self._keep_alive())
        if problem := await self._settled:
            raise ExecutionError(f"worker {self._worker} cannot be started: {problem}")

    def send(self, work: Work) -> None:
        """Hand the batch to the worker that lives now."""
        if self.state is not WorkerState.READY or self._life is None:
            return  # lost meanwhile: `WorkerLost` speaks for this batch too
        self._life.send(work)

    def forget(self, job: str) -> None:
        """Tell the worker that lives now."""
        if self._life is not None:
            self._life.forget(job)

    async def close(self) -> None:
        """End the worker and start no other."""
        if self._watch is None:
            return
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        if self._ending is not None:  # under way when the watch was cancelled
            await asyncio.wait([self._ending])
        self.state = WorkerState.LOST

    async def _keep_alive(self) -> None:
        try:
            self._give_up(await self._lives())
        except Exception as error:  # a bug in here must not leave the engine waiting
            log.exception("worker %d is watched no more", self._worker)
            self._give_up(f"{type(error).__name__}: {error}")

    async def _lives(self) -> str:
        """Let one worker follow the other; return why there will be no further one."""
        failures = 0
        while True:
            self.state = WorkerState.STARTING
            end = await self._one_life()
            failures = 0 if self.state is WorkerState.LOST else failures + 1
            if end.final or failures >= self._patience.attempts:
                return end.detail
            self.restarts += 1
            log.warning("worker %d: %s; starting it anew", self._worker, end.detail)
            if failures:
                await asyncio.sleep(self._patience.pause_s * 2 ** (failures - 1))

    async def _one_life(self) -> wire.StartFailed:
        """Follow one worker from start to death and say how it ended; `state` is LOST if it had been ready."""
        life = self._live()
        try:
            async with asyncio.timeout(self._patience.start_limit_s):
                problem = await life.begin()
            if problem:
                return problem
            self._life = life
            self.state = WorkerState.READY
            self._report(WorkerReady(self._worker))
            self._settle("")
            await asyncio.wait([life.ended])
            detail = life.ended.result()
            self.state = WorkerState.LOST
            self._report(WorkerLost(self._worker, detail))
            return wire.StartFailed(detail, final=False)
        except TimeoutError:
            limit_s = self._patience.start_limit_s
            return wire.StartFailed(f"was not ready after {limit_s:g} s", final=False)
        except OSError as error:
            return wire.StartFailed(f"it cannot be started: {error}", final=False)
        finally:
            self._life = None
            # A worker that is about to be ended must be, whatever is cancelled meanwhile.
            self._ending = asyncio.create_task(life.end(self._patience.close_limit_s))
            await asyncio.shield(self._ending)

    def _give_up(self, detail: str) -> None:
        self.state = WorkerState.GIVEN_UP
        log.error("worker %d is given up: %s", self._worker, detail)
        self._settle(detail)
        self._report(GivenUp(self._worker, detail))

    def _settle(self, problem: str) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(problem)


class HangWatch:
    """Rule 3: kills a worker that does not answer the batch at the head of what it holds.

    One timer serves many batches: it is set anew only where it would come too late, or came too early.

    Args:
        patience: how long a batch may take.
        kill: ends the worker; takes why.
    """

    def __init__(self, patience: Patience, kill: Callable[[str], None]) -> None:
        self._patience = patience
        self._kill = kill
        self._batch: Batch | None = None
        self._limit_s = self._due_s = self._looks_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, batch: Batch | None) -> None:
        """Watch this batch from now on, and no other; None watches none."""
        self._batch = batch
        if batch is not None:
            patience = self._patience
            slow_ns = max(batch.expected_ns, patience.p99_ns(batch))
            self._limit_s = max(patience.hang_least_s, patience.hang_factor * to_s(slow_ns))
            self._due_s = asyncio.get_running_loop().time() + self._limit_s
            if self._timer is None or self._due_s < self._looks_s:
                self._look_at(self._due_s)

    def end(self) -> None:
        """Watch nothing any more."""
        self._batch = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_s = at_s
        self._timer = asyncio.get_running_loop().call_at(at_s, self._look)

    def _look(self) -> None:
        self._timer = None
        batch = self._batch
        if batch is None:
            return
        if asyncio.get_running_loop().time() + COARSE_S < self._due_s:
            self._look_at(self._due_s)
        else:
            self._kill(f"batch {batch.id} ({batch.mode}) was not answered within {self._limit_s:g} s")
