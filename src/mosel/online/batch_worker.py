"""What a worker process does with the messages of the engine: load, run one batch after the other, answer.

Which threads do so stands in `worker.py`.
"""

import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mosel.core.errors import UsageError
from mosel.online import wire
from mosel.online.execution import Execution, one_line
from mosel.online.frames import Unframer
from mosel.online.garbage import keep_pauses_short
from mosel.online.slab import Slab
from mosel.online.tasks import Prepared, Result, Task
from mosel.runtime.device import pin

RECEIVE_BYTES = 1 << 16

T = TypeVar("T")

log = logging.getLogger(__name__)


class Worker:
    """Loads models, says when it is ready, then runs batches and answers them, one after the other.

    Args:
        connection: the socket to answer on.
        slabs: `wire.SLOTS` input slabs, then as many output slabs.
    """

    def __init__(self, connection: socket.socket, slabs: Sequence[Slab]) -> None:
        self._connection = connection
        self._inputs, self._outputs = slabs[: wire.SLOTS], slabs[wire.SLOTS :]

    def serve(self, start: wire.Start, messages: Iterator[wire.ToWorker]) -> None:
        """Do everything that is done on the device's thread."""
        execution = self._loaded(start)
        if execution is None:
            return
        self._answer(wire.Ready())
        batches = self._batches(messages, execution)
        for run, prepared in _ahead(batches, start.beside) if execution.works_ahead() else batches:
            self._answer(self._outcome(run, execution.run(prepared)))

    def _loaded(self, start: wire.Start) -> Execution | None:
        try:
            pin(start.cores)
            execution = Execution(start)
            execution.warm_up()
            keep_pauses_short()
        except Exception as error:  # the edge to models that are not ours: the engine is told why
            log.exception("worker %d cannot start", start.worker)
            self._answer(wire.StartFailed(one_line(error), final=isinstance(error, UsageError)))
            return None
        return execution

    def _batches(
        self, messages: Iterator[wire.ToWorker], execution: Execution
    ) -> Iterator[tuple[wire.Run, Prepared]]:
        for message in messages:
            if isinstance(message, wire.Forget):
                execution.forget(message.job)
            else:
                yield self._taken(message, execution)

    def _taken(self, message: wire.ToWorker, execution: Execution) -> tuple[wire.Run, Prepared]:
        """Map a batch's tensors and begin to prepare them."""
        assert isinstance(message, wire.Run), "after Start nothing else is said"
        slab = self._inputs[message.slot]
        slab.attach(message.slab_bytes)
        by_part = execution.preprocesses(message.model, message.modalities)
        tensors = slab.read(message.tensors, joined=not by_part)
        what = message.model, message.modalities, message.precision, tensors, message.judged
        task = Task(*what, message.keep_below, message.first, message.resumes, message.parts)
        return message, execution.prepare(task)

    def _outcome(self, run: wire.Run, result: Result) -> wire.Done | wire.Failed:
        if result.failure is not None or result.outputs is None:
            return wire.Failed(run.batch, run.slot, result.failure or "no outputs")
        slab = self._outputs[run.slot]
        try:
            outputs = slab.write({name: [array] for name, array in result.outputs.items()})
        except (OSError, TypeError) as error:
            return wire.Failed(run.batch, run.slot, one_line(error))
        told = run.batch, run.slot, slab.mapped_bytes, result.took_ns, result.undone, outputs
        return wire.Done(*told, result.confidence, result.fits, result.kept, result.whole)

    def _answer(self, message: wire.FromWorker) -> None:
        try:
            self._connection.sendall(wire.frame(message))
        except ConnectionError:
            log.info("the engine is gone; the main thread is about to end the process")


def _ahead(items: Iterator[T], cores: Sequence[int]) -> Iterator[T]:
    """Yield the items of an iterator that a thread of its own reads ahead, on these CPU cores."""
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()

    def read() -> None:
        pin(cores)
        for item in items:
            waiting.put(item)

    start_thread("reader", read)
    while True:
        yield waiting.get()


def messages_of(connection: socket.socket) -> Iterator[wire.ToWorker]:
    """Yield what the engine says until its end of the socket is closed."""
    unframer = Unframer()
    while data := _received(connection):
        yield from map(wire.to_worker.decode, unframer.feed(data))


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(RECEIVE_BYTES)
    except ConnectionError:
        return b""  # the engine was killed with answers of ours unread


def start_thread(name: str, work: Callable[[], None]) -> None:
    """Start a thread whose failure ends the process: the engine sees that at once and starts another."""

    def run() -> None:
        try:
            work()
        except BaseException:  # `sys.exit` in a model included
            log.critical("thread %s failed", name, exc_info=True)
            os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()
