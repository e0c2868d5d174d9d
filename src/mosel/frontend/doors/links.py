"""A front door's connections to one group: HTTP over a socket of this machine, kept open between calls.

Both ends are ours: every reply says how long it is, and calls on a connection come one after the other. A
connection that ends before the reply is here means that the group is gone, or that it gave the call up.
"""

import asyncio
from collections import deque
from typing import cast

from mosel.frontend.replies import Reply

IDLE_S = 30.0
"""For so long a connection is used again: the other end closes it only after `KEEP_ALIVE_S`."""

HEAD_LIMIT_BYTES = 64 << 10

HOP_HEADERS = frozenset({b"connection", b"date"})
"""Of a group's reply alone: the door says both for itself."""


class LostError(Exception):
    """The group cannot be reached, or was lost before it had answered."""


class Links:
    """The connections to one group.

    Args:
        path: of the group's socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[_Link] = deque()

    async def ask(self, head: bytes, body: bytes) -> Reply:
        """Send a call and return its reply; cancelling lets the group know that nobody waits.

        Raises:
            LostError: there is none.
        """
        link = self._reusable() or await self._connected()
        try:
            reply = await link.ask(head, body)
        except asyncio.CancelledError:
            link.close()
            raise
        self._idle.append(link)
        return reply

    def close(self) -> None:
        """Close what is open; calls under way are lost."""
        while self._idle:
            self._idle.pop().close()

    def _reusable(self) -> "_Link | None":
        now_s = asyncio.get_running_loop().time()
        while self._idle and (self._idle[0].closed or now_s - self._idle[0].idle_since_s > IDLE_S):
            self._idle.popleft().close()
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
        return None

    async def _connected(self) -> "_Link":
        try:
            _, made = await asyncio.get_running_loop().create_unix_connection(_Link, self._path)
        except OSError as error:
            raise LostError(f"the group cannot be reached: {error}") from error
        return made


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.closed = False
        self.idle_since_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._parts: list[bytes] = []
        self._missing = -1
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None

    async def ask(self, head: bytes, body: bytes) -> Reply:
        """Send a call and return its reply."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._reply = loop.create_future()
        if self.closed:
            raise LostError("the connection to the group is closed")
        self._transport.writelines((head, body))
        try:
            return await self._reply
        finally:
            self._reply = None
            self.idle_since_s = loop.time()

    def close(self) -> None:
        """Close it."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Take a piece of a reply."""
        if self._reply is None:
            self.close()  # nothing was asked for
            return
        if self._head is None:
            data = b"".join((*self._parts, data))
            self._parts = []
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._parts.append(data)
                if len(data) > HEAD_LIMIT_BYTES:
                    self.close()
                return
            status, headers, self._missing = _read_head(data[:end])
            self._head = status, headers
            data = data[end + 4 :]
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            self._complete()

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits for a reply gets none."""
        self.closed = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(LostError(f"the group was lost: {error or 'it closed the connection'}"))

    def _complete(self) -> None:
        assert self._head is not None
        status, headers = self._head
        content = b"".join(self._parts)
        self._head, self._parts, self._missing = None, [], -1
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(Reply(status, headers, content))


def _read_head(raw: bytes) -> tuple[int, list[tuple[bytes, bytes]], int]:
    """Return status, headers and the length of what follows them."""
    first, *lines = raw.split(b"\r\n")
    headers = []
    length = 0
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            length = int(value)
        if name not in HOP_HEADERS:
            headers.append((name, value))
    return int(first.split(b" ", 2)[1]), headers, length
