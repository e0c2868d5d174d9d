"""The worker process, one a device: `python -m mosel.online.worker SOCKET SLAB…`, from `process_channel.py`.

One thread has the device: it loads the models, runs batches in the order in which they come, and answers. Where
a model preprocesses, or inputs are copied to a GPU, another thread reads ahead and sets the preparation of the
next batch going while this one is on the device; where neither is, the device thread reads for itself, which
saves waking a thread for each batch. The arguments are file descriptors that the process inherits: its end of
the socket pair, the input slabs, then the output slabs. It ends when the socket closes, however the engine
went, and when a thread fails.
"""

import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from mosel.core.errors import ExecutionError, UsageError
from mosel.online import wire
from mosel.online.execution import Execution, Prepared, Result, Task, one_line
from mosel.online.garbage import keep_pauses_short
from mosel.online.slab import Slab
from mosel.runtime.device import pin

RECEIVE_BYTES = 1 << 16

T = TypeVar("T")

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Serve until the engine closes the socket.

    Raises:
        ExecutionError: the engine said something else than this protocol.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a supervisor that ends the whole group must let it drain
    connection = socket.socket(fileno=int(arguments[0]))
    messages = _messages(connection)
    start = next(messages, None)
    if not isinstance(start, wire.Start):
        raise ExecutionError("a worker is started by the engine, which speaks first; run `mosel serve` instead")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    pin(start.beside)
    worker = Worker(connection, [Slab(int(handle)) for handle in arguments[1:]])
    _start_thread("device", lambda: worker.serve(start, messages))
    _wait_for_hangup(connection)
    os._exit(0)  # the engine is gone: nobody waits for what is still on the device


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

    _start_thread("reader", read)
    while True:
        yield waiting.get()


def _messages(connection: socket.socket) -> Iterator[wire.ToWorker]:
    unframer = wire.Unframer()
    while data := _received(connection):
        yield from map(wire.to_worker.decode, unframer.feed(data))


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(RECEIVE_BYTES)
    except ConnectionError:
        return b""  # the engine was killed with answers of ours unread


def _start_thread(name: str, work: Callable[[], None]) -> None:
    """Start a thread whose failure ends the process: the engine sees that at once and starts another."""

    def run() -> None:
        try:
            work()
        except BaseException:  # `sys.exit` in a model included
            log.critical("thread %s failed", name, exc_info=True)
            os._exit(1)

    threading.Thread(target=run, name=name, daemon=True).start()


def _wait_for_hangup(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, 0)  # no events are asked for; a hang-up is always told
    poll.poll()


if __name__ == "__main__":
    main(sys.argv[1:])
