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
import select
import signal
import socket
import sys
from collections.abc import Sequence

from mosel.core.errors import ExecutionError
from mosel.online import wire
from mosel.online.batch_worker import Worker, messages_of, start_thread
from mosel.online.slab import Slab
from mosel.runtime.device import pin


def main(arguments: Sequence[str]) -> None:
    """Serve until the engine closes the socket.

    Raises:
        ExecutionError: the engine said something else than this protocol.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a supervisor that ends the whole group must let it drain
    connection = socket.socket(fileno=int(arguments[0]))
    messages = messages_of(connection)
    start = next(messages, None)
    if not isinstance(start, wire.Start):
        raise ExecutionError("a worker is started by the engine, which speaks first; run `mosel serve` instead")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    pin(start.beside)
    worker = Worker(connection, [Slab(int(handle)) for handle in arguments[1:]])
    start_thread("device", lambda: worker.serve(start, messages))
    _wait_for_hangup(connection)
    os._exit(0)  # the engine is gone: nobody waits for what is still on the device


def _wait_for_hangup(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, 0)  # no events are asked for; a hang-up is always told
    poll.poll()


if __name__ == "__main__":
    main(sys.argv[1:])
