"""A worker that is a process of its own; `watched_channel.py` says when the next one is started.

`worker.py` is the other side, `wire.py` what is said between them.
"""

import asyncio
import logging
import socket
import sys
from collections import deque
from typing import Any, cast

from mosel.core.types import Batch
from mosel.online import wire
from mosel.online.channel import Report, Work, finished
from mosel.online.child import Child
from mosel.online.events import BatchFailed
from mosel.online.frames import Unframer
from mosel.online.slab import Slab
from mosel.online.watched_channel import HangWatch, Patience, WatchedChannel

log = logging.getLogger(__name__)


class ProcessChannel(WatchedChannel):
    """One worker process after the other.

    Args:
        report: where to report.
        start: what each of them is told first.
        patience: how long to wait for it.
    """

    def __init__(self, report: Report, start: wire.Start, patience: Patience) -> None:
        super().__init__(start.worker, report, patience, lambda: _Life(start, report, patience))

    @property
    def pid(self) -> int | None:
        """The process id of the worker that lives now, if one does."""
        return self._life.child.pid if isinstance(self._life, _Life) else None


class _Life(asyncio.Protocol):
    """One worker process from its start to its end: the engine's end of the socket, and the slabs."""

    def __init__(self, start: wire.Start, report: Report, patience: Patience) -> None:
        self.child = Child(f"worker {start.worker}")
        self._ready: asyncio.Future[wire.StartFailed | None] = asyncio.get_running_loop().create_future()
        self._start = start
        self._report = report
        self._transport: asyncio.Transport | None = None
        self._unframer = Unframer()
        self._slabs: list[Slab] = []
        self._free = deque(range(wire.SLOTS))
        self._held: deque[Batch] = deque()
        self._hang = HangWatch(patience, self.child.kill)

    @property
    def ended(self) -> "asyncio.Future[str]":
        """Will say in one line how the process ended."""
        return self.child.ended

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
        self._hang.end()
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
        what = batch.model, work.modalities, work.precision, layouts, batch.judged
        run = wire.Run(batch.id, slot, slab.mapped_bytes, *what, *work.kept)
        self._write(run)
        self._held.append(batch)
        if len(self._held) == 1:
            self._hang.watch(batch)

    def forget(self, job: str) -> None:
        """Tell the worker that a job is over."""
        self._write(wire.Forget(job))

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
        told = done.undone, done.confidence, done.fits, done.kept, done.whole
        self._report(finished(batch, done.took_ns, *told), outputs)

    def _answered(self, number: int, slot: int) -> Batch:
        batch = self._held.popleft()
        assert batch.id == number, "a worker answers in the order in which it was sent batches"
        self._free.append(slot)
        self._hang.watch(self._held[0] if self._held else None)
        return batch

    def _write(self, message: wire.ToWorker) -> None:
        assert self._transport is not None, "the socket is there before the process"
        if not self._transport.is_closing():  # else the worker is gone, and its end will tell of its batches
            self._transport.write(wire.frame(message))
