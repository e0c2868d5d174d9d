"""A child process on the event loop: its lines are passed on, its end is noticed, it is killed without a race.

Why not asyncio's own: there `kill` may reap the child before the loop's watcher does, and its exit status is
lost; and waiting for it may take until a grandchild lets go of its output. A `pidfd` (Linux 5.3) has neither.
"""

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Sequence

log = logging.getLogger(__name__)

LINE_LIMIT_BYTES = 8192
"""Of a line that is longer than this the end is not waited for."""

LAST_LINES_LIMIT_S = 1.0
"""How long the last words of a dead child are waited for, should a child of its own keep the pipe open."""


class Child(asyncio.Protocol):
    """One process, started with `start`. As a protocol it is the reader of its standard output and error.

    Args:
        name: stands before each of its lines in the log.
    """

    def __init__(self, name: str) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Will say in one line how the process ended. Await it with `asyncio.wait`, lest you cancel it."""
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._output: asyncio.BaseTransport | None = None
        self._closed = asyncio.Event()
        self._pending = b""
        self._last_line = ""
        self._why_killed = ""

    @property
    def pid(self) -> int | None:
        """Its process id, while it lives."""
        return self._process.pid if self._process is not None and self._pidfd >= 0 else None

    async def start(self, command: Sequence[str], handles: Sequence[int]) -> None:
        """Start it; it inherits these file descriptors.

        Raises:
            OSError: it cannot be started.
        """
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        try:
            await loop.connect_read_pipe(lambda: self, os.fdopen(reading, "rb", 0))
            self._process = subprocess.Popen(  # noqa: ASYNC220  (a few milliseconds)
                command,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent
            )
        finally:
            os.close(writing)
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._exited)

    def kill(self, why: str = "") -> None:
        """Kill it if it lives; `why` is then what `ended` will say."""
        if self._pidfd >= 0:
            self._why_killed = self._why_killed or why
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def end(self, limit_s: float) -> None:
        """Wait until it has ended by itself, kill it if it has not within the limit, and free what it used."""
        if self._process is not None:
            await asyncio.wait([self.ended], timeout=limit_s)
            self.kill()
            await asyncio.wait([self.ended])
        if self._output is not None:
            self._output.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._output = transport

    def data_received(self, data: bytes) -> None:
        """Pass every complete line on."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > LINE_LIMIT_BYTES:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            self._pass_on(line)

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on what came last without an end of line."""
        del error  # whatever closed the pipe, what matters is how the process ends
        self._pass_on(self._pending)
        self._closed.set()

    def _pass_on(self, line: bytes) -> None:
        if text := line.decode(errors="replace").rstrip():
            self._last_line = text[:LINE_LIMIT_BYTES]
            log.warning("%s: %s", self._name, text)

    def _exited(self) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        code = self._process.wait()
        last_words = loop.create_task(self._closed.wait())
        timer = loop.call_later(LAST_LINES_LIMIT_S, last_words.cancel)
        last_words.add_done_callback(lambda _: timer.cancel())
        last_words.add_done_callback(lambda _: self.ended.set_result(self._epitaph(code)))

    def _epitaph(self, code: int) -> str:
        if self._why_killed:
            return self._why_killed
        if code < 0:
            return f"worker process killed by signal {-code} ({signal.strsignal(-code)})"
        last_line = f": {self._last_line}" if self._last_line else ""
        return f"worker process exited with status {code}{last_line}"
