"""How a group tells front doors how it stands: a small message every few milliseconds, as long as it changes.

A message is the time on the machine's clock, the work before the group's workers together in nanoseconds, and
how many of them are up. Front doors do not ask; a group that is gone is noticed by its connection's end, and
one that is silent for `SILENT_S` is taken to be gone.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import cast

from mosel.core.clock import monotonic_ns
from mosel.online.group import Load
from mosel.online.layout import REPORT_NS

EVERY_S = REPORT_NS / 1e9
REPEAT_S = 0.25
"""Nothing new is said so often."""

SILENT_S = 2.0
AGAIN_S = 0.05
"""How soon a group is tried again that cannot be reached."""

UNREAD_BYTES = 64 << 10

_MESSAGE = struct.Struct("<qdi")
DOWN = Load(0.0, 0)


class LoadReports:
    """The group's side: a server beside the one that answers calls.

    Args:
        path: of the socket to listen on.
        load: says how the group stands now.
    """

    def __init__(self, path: str, load: Callable[[], Load]) -> None:
        self._path = path
        self._load = load
        self._server: asyncio.Server | None = None
        self._doors: set[asyncio.StreamWriter] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._said = DOWN
        self._said_s = 0.0

    async def start(self) -> str:
        """Listen, and return where."""
        self._server = await asyncio.start_unix_server(self._door, self._path)
        return self._path

    async def stop(self, limit_s: float) -> None:
        """End."""
        del limit_s
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for door in tuple(self._doors):
            door.transport.abort()
        await asyncio.sleep(0)

    async def _door(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell one front door until it has gone."""
        self._doors.add(writer)
        self._said_s = 0.0
        if self._timer is None:
            self._tell()
        try:
            with contextlib.suppress(OSError):
                await reader.read(1)
        finally:
            self._doors.discard(writer)
            writer.transport.abort()

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._doors:
            self._timer = None
            return
        self._timer = loop.call_later(EVERY_S, self._tell)
        load = self._load()
        if load == self._said and loop.time() - self._said_s < REPEAT_S:
            return
        self._said, self._said_s = load, loop.time()
        message = _MESSAGE.pack(monotonic_ns(), load.work_ns, load.up)
        for door in self._doors:
            if door.transport.get_write_buffer_size() > UNREAD_BYTES:
                door.transport.abort()  # it hangs, and may come again
            else:
                door.write(message)


class Listener:
    """A front door's ear for one group.

    Args:
        path: of the group's socket.
        heard: is told how the group stands, and when that was.
    """

    def __init__(self, path: str, heard: Callable[[Load, int], None]) -> None:
        self._path = path
        self._heard = heard

    async def listen(self) -> None:
        """Listen until cancelled; a group that is not there is tried again."""
        while True:
            try:
                _, ear = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _Ear(self._heard), self._path
                )
            except OSError:
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                await ear.until_silent()
            finally:
                ear.close()
            self._heard(DOWN, monotonic_ns())
            await asyncio.sleep(AGAIN_S)


class _Ear(asyncio.Protocol):
    """One connection to a group."""

    def __init__(self, heard: Callable[[Load, int], None]) -> None:
        self._heard = heard
        self._pending = b""
        self._at_s = asyncio.get_running_loop().time()
        self._ended = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def until_silent(self) -> None:
        """Return when the group is gone or has been silent for too long."""
        loop = asyncio.get_running_loop()
        while not self._ended.is_set() and loop.time() - self._at_s < SILENT_S:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SILENT_S):
                    await self._ended.wait()

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Take the last message that is complete."""
        self._pending += data
        whole = len(self._pending) // _MESSAGE.size * _MESSAGE.size
        if not whole:
            return
        at_ns, work_ns, up = _MESSAGE.unpack(self._pending[whole - _MESSAGE.size : whole])
        self._pending = self._pending[whole:]
        self._at_s = asyncio.get_running_loop().time()
        self._heard(Load(work_ns, up), at_ns)

    def connection_lost(self, error: Exception | None) -> None:
        """The group is gone."""
        del error
        self._ended.set()
