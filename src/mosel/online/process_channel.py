"""A worker that is a process of its own, watched over: started, restarted when it dies, killed when it hangs.

`worker.py` is the other side, `wire.py` what is said between them. Starting anew follows these rules:
1. A worker that was ready and died is started anew at once.
2. One that could not start is tried again after a pause that doubles; after `attempts` failures in a row it is
   given up. It is given up at once if it said that trying again cannot help.
3. A batch that is not answered within its limit means that the worker hangs: it is killed, and rule 1 applies.
"""

import asyncio
import logging
import socket
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

from mosel.core.clock import to_s
from mosel.core.errors import ExecutionError
from mosel.core.types import Batch
from mosel.online import wire
from mosel.online.channel import GivenUp, Report, Work, WorkerState, finished
from mosel.online.child import Child
from mosel.online.events import BatchFailed, WorkerLost, WorkerReady
from mosel.online.slab import Slab

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker is waited for.

    Attributes:
        start_limit_s: from its start until it is warm.
        attempts: how often in a row it may fail to start.
        pause_s: before the second attempt; doubles with each further one.
        hang_factor: a batch that takes this many times what the scheduler expected …
        hang_least_s: … and at least this long, has hung its worker.
        close_limit_s: from the closing of its socket until it is killed.
    """

    start_limit_s: float = 120.0
    attempts: int = 3
    pause_s: float = 0.2
    hang_factor: float = 20.0
    hang_least_s: float = 10.0
    close_limit_s: float = 2.0


class ProcessChannel:
    """One worker process after the other, with the same number and the same models.

    Args:
        report: where to report.
        start: what each of them is told first.
        patience: how long to wait for it.
    """

    def __init__(self, report: Report, start: wire.Start, patience: Patience) -> None:
        self.state = WorkerState.STARTING
        self.restarts = 0
        self._report = report
        self._start = start
        self._patience = patience
        self._life: _Life | None = None
        self._settled: asyncio.Future[str] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the worker that lives now, if one does."""
        return self._life.child.pid if self._life else None

    async def start(self) -> None:
        """Return when the worker is warm.

        Raises:
            ExecutionError: it was given up; the message carries its last error.
        """
        loop = asyncio.get_running_loop()
        self._settled = loop.create_future()
        self._watch = loop.create_task(self._keep_alive())
        if problem := await self._settled:
            raise ExecutionError(f"worker {self._start.worker} cannot be started: {problem}")

    def send(self, work: Work) -> None:
        """Copy the batch's tensors into a free slot and tell the worker."""
        if self.state is not WorkerState.READY or self._life is None:
            return  # lost meanwhile: `WorkerLost` speaks for this batch too
        self._life.send(work)

    async def close(self) -> None:
        """Close the worker's socket, wait until it is gone, kill it if it stays."""
        if self._watch is None:
            return
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        self.state = WorkerState.LOST

    async def _keep_alive(self) -> None:
        try:
            self._give_up(await self._lives())
        except Exception as error:  # a bug in here must not leave the engine waiting
            log.exception("worker %d is watched no more", self._start.worker)
            self._give_up(f"{type(error).__name__}: {error}")

    async def _lives(self) -> str:
        """Let one process follow the other; return why there will be no further one."""
        failures = 0
        while True:
            self.state = WorkerState.STARTING
            end = await self._one_life()
            failures = 0 if self.state is WorkerState.LOST else failures + 1
            if end.final or failures >= self._patience.attempts:
                return end.detail
            self.restarts += 1
            log.warning("worker %d: %s; starting it anew", self._start.worker, end.detail)
            if failures:
                await asyncio.sleep(self._patience.pause_s * 2 ** (failures - 1))

    async def _one_life(self) -> wire.StartFailed:
        """Follow one process from start to death and say how it ended; `state` is LOST if it had been ready."""
        life = _Life(self._start, self._report, self._patience)
        try:
            async with asyncio.timeout(self._patience.start_limit_s):
                problem = await life.begin()
            if problem:
                return problem
            self._life = life
            self.state = WorkerState.READY
            self._report(WorkerReady(self._start.worker))
            self._settle("")
            await asyncio.wait([life.child.ended])
            detail = life.child.ended.result()
            self.state = WorkerState.LOST
            self._report(WorkerLost(self._start.worker, detail))
            return wire.StartFailed(detail, final=False)
        except TimeoutError:
            limit_s = self._patience.start_limit_s
            return wire.StartFailed(f"was not ready after {limit_s:g} s", final=False)
        except OSError as error:
            return wire.StartFailed(f"no process can be started: {error}", final=False)
        finally:
            self._life = None
            await life.end(self._patience.close_limit_s)

    def _give_up(self, detail: str) -> None:
        self.state = WorkerState.GIVEN_UP
        log.error("worker %d is given up: %s", self._start.worker, detail)
        self._settle(detail)
        self._report(GivenUp(self._start.worker, detail))

    def _settle(self, problem: str) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(problem)


class _Life(asyncio.Protocol):
    """One worker process from its start to its end: the engine's end of the socket, and the slabs."""

    def __init__(self, start: wire.Start, report: Report, patience: Patience) -> None:
        self.child = Child(f"worker {start.worker}")
        self._ready: asyncio.Future[wire.StartFailed | None] = asyncio.get_running_loop().create_future()
        self._start = start
        self._report = report
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._unframer = wire.Unframer()
        self._slabs: list[Slab] = []
        self._free = deque(range(wire.SLOTS))
        self._held: deque[Batch] = deque()
        self._hang: asyncio.TimerHandle | None = None

    async def begin(self) -> wire.StartFailed | None:
        """Start the process and wait until it is ready; return why it will not be, if so.

        Raises:
            OSError: no process can be started.
        """
        for name in ("in", "out"):
            for slot in range(wire.SLOTS):
                self._slabs.append(Slab.create(f"mosel-{name}-{slot}"))
        ours, theirs = socket.socketpair()
        with theirs:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
            handles = [theirs.fileno(), *(slab.handle for slab in self._slabs)]
            command = [sys.executable, "-m", "mosel.online.worker", *map(str, handles)]
            await self.child.start(command, handles)
        self._write(self._start)
        either: list[asyncio.Future[Any]] = [self._ready, self.child.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        return wire.StartFailed(self.child.ended.result(), final=False)

    async def end(self, limit_s: float) -> None:
        """Close the socket, wait for the process to go, kill it if it stays, and free what it used."""
        self._stop_watching()
        if self._transport is not None:
            self._transport.abort()
        await self.child.end(limit_s)
        for slab in self._slabs:
            slab.close()

    def send(self, work: Work) -> None:
        """Write a batch into a free slot and tell the worker."""
        slot = self._free.popleft()
        slab = self._slabs[slot]
        try:
            layouts = slab.write(work.tensors)
        except OSError as error:
            self._free.append(slot)
            self._report(BatchFailed(work.batch.id, f"no shared memory for the batch: {error}"))
            return
        batch = work.batch
        run = wire.Run(batch.id, slot, slab.mapped_bytes, batch.model, work.modalities, work.precision, layouts)
        self._write(run)
        self._held.append(batch)
        if len(self._held) == 1:
            self._watch(batch)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Handle every message that is complete."""
        for raw in self._unframer.feed(data):
            message = wire.from_worker.decode(raw)
            match message:
                case wire.Done():
                    self._done(message)
                case wire.Failed():
                    self._answered(message.batch, message.slot)
                    self._report(BatchFailed(message.batch, message.detail))
                case wire.Ready():
                    self._ready.set_result(None)
                case wire.StartFailed():
                    self._ready.set_result(message)

    def connection_lost(self, error: Exception | None) -> None:
        """Make sure that a worker that cannot be heard any more is dead; its exit says the rest."""
        if error is not None:
            log.warning("worker %d: connection lost: %s", self._start.worker, error)
        self.child.kill()

    def _done(self, done: wire.Done) -> None:
        slab = self._slabs[wire.SLOTS + done.slot]
        slab.attach(done.slab_bytes)
        batch = self._answered(done.batch, done.slot)
        outputs = {layout.name: slab.parts(layout)[0] for layout in done.outputs}
        self._report(finished(batch, done.took_ns, done.undone), outputs)

    def _answered(self, number: int, slot: int) -> Batch:
        batch = self._held.popleft()
        assert batch.id == number, "a worker answers in the order in which it was sent batches"
        self._free.append(slot)
        self._stop_watching()
        if self._held:
            self._watch(self._held[0])
        return batch

    def _watch(self, batch: Batch) -> None:
        limit_s = max(self._patience.hang_least_s, self._patience.hang_factor * to_s(batch.expected_ns))
        self._hang = asyncio.get_running_loop().call_later(limit_s, self._kill_hung, batch, limit_s)

    def _stop_watching(self) -> None:
        if self._hang is not None:
            self._hang.cancel()
            self._hang = None

    def _kill_hung(self, batch: Batch, limit_s: float) -> None:
        self.child.kill(f"batch {batch.id} ({batch.mode}) was not answered within {limit_s:g} s")

    def _write(self, message: wire.ToWorker) -> None:
        assert self._transport is not None, "the socket is there before the process"
        self._transport.write(wire.frame(message))
