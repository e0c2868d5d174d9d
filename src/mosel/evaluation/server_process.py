"""A `mosel serve` process of one's own, on a port that it keeps over its starts."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence

from mosel.core.errors import NotReadyError

START_LIMIT_S, END_LIMIT_S = 120.0, 10.0
LINES = 200
MAIN = "from mosel.cli import main; main()"


class ServerProcess:
    """One `mosel serve` after the other, at the same address.

    Args:
        words: what follows `mosel serve`, but for the address.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._words = tuple(words)
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._reader: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None, "it was started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def last_words(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._lines)

    async def start(self) -> None:
        """Return when it serves.

        Raises:
            NotReadyError: it does not; the message carries what it said.
        """
        self._serving.clear()
        self._lines.clear()
        address = self.url.removeprefix("http://")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN, "serve", *self._words, "--http", address),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for its parent
        )
        self._reader = asyncio.create_task(self._read(self._process))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._serving.wait(), START_LIMIT_S)
        if self._process.returncode is not None or not self._serving.is_set():
            said = self.last_words or "it said nothing"
            raise NotReadyError(f"the server on {address} does not start: {said}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it and return its exit status; one that stays is killed, which is -9."""
        assert self._process is not None, "it was started"
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            status = await asyncio.wait_for(self._process.wait(), END_LIMIT_S)
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        if self._reader is not None:
            await self._reader
        return status

    async def close(self) -> None:
        """End it, whatever state it is in."""
        if self.runs:
            await self.end(signal.SIGKILL)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._lines.append(line.decode(errors="replace").rstrip())
            if line.startswith(b"serving "):
                self._serving.set()
        self._serving.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
