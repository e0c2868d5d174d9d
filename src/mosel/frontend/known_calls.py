"""The short way of a call whose head is known by its bytes: no parser, no task, no copy of its body.

A client sends the same head with every call. Where it was parsed before (`heads.py`) and the connection has
nothing else under way, the bytes behind it are the body: they are read to where they are decoded, the call is
begun, and its reply is written when the engine tells of it. All else goes through uvicorn's parser to the same
application; the replies are the same, byte for byte.
"""

import asyncio
from abc import abstractmethod
from typing import Any

import numpy as np
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mosel.core.errors import MoselError
from mosel.frontend.heads import HEAD_MOST_BYTES, Head
from mosel.frontend.http import HttpApp
from mosel.frontend.replies import Reply
from mosel.frontend.running import Cancellable

APART_BYTES = 64 << 10
"""Larger content is written behind its head, not copied to it."""


class KnownCalls(HttpToolsProtocol):
    """A connection that takes known calls itself and lets others be parsed.

    Attributes:
        under_way: whether a request that is parsed has begun and is not in yet.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.under_way = False
        self._app: HttpApp | None = self.app if isinstance(self.app, HttpApp) else None
        self._head: Head | None = None
        self._reading: _Reading | None = None
        self._arrival_ns = 0
        self._answering = False
        self._running: Cancellable | None = None
        self._early = b""
        self._last = False
        self._quiet_since_s = 0.0
        self._headers: list[tuple[bytes, bytes]] = []
        self._status, self._beginning = 0, b""
        self._idle: asyncio.TimerHandle | None = None

    @abstractmethod
    def wait(self) -> None:
        """Give the request that comes its time from now on."""

    @abstractmethod
    def stop_waiting(self) -> None:
        """The request is in."""

    @property
    def filling(self) -> bool:
        """Whether the body of a known call is still coming."""
        return self._reading is not None and self._reading.filling

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        if self._answering or self._early:
            self._early += data
            self.flow.pause_reading()
        elif not self._taken(data):
            self.parse(data)

    def begins(self, room: memoryview, filled: int) -> int:
        """Take a call of which so much was read; return where its body starts, 0 if it is another kind."""
        found = self._known(bytes(room[: min(filled, HEAD_MOST_BYTES)]))
        if found is None or found[1] + found[0].told.content_length != len(room) or not self._held(found[0]):
            return 0
        self._take(found[0])
        self.wait()
        return found[1]

    def filled(self, body: memoryview) -> None:
        """Take a body that was read to where it is."""
        self._begin(body, held=True)

    def read_otherwise(self, data: bytes) -> None:
        """Take what is no call of the size of the last."""
        self._reading = None
        self.transport.set_protocol(self)
        self.data_received(data)

    def parse(self, data: bytes) -> None:
        """Let uvicorn have what was read."""
        super().data_received(data)

    def know(self, data: bytes) -> None:
        """Know the head that these bytes begin with from now on, which was parsed just now."""
        end = data.find(b"\r\n\r\n", 0, HEAD_MOST_BYTES) + 4
        if self._app is not None and end > 3:
            self._app.know(data[:end], dict(self.scope))

    def on_message_begin(self) -> None:
        """A request begins."""
        self.under_way = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The request is in."""
        self.under_way = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client of the call is gone, if there is one."""
        if self._idle is not None:
            self._idle.cancel()
        if self._app is not None and self._head is not None and self.filling:
            self._app.release(self._head.told.content_length)
        self._reading = None
        if self._running is not None:
            self._running.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection once the call under way, if there is one, is answered."""
        self._last = True
        if not self._answering:
            super().shutdown()

    def _taken(self, data: bytes) -> bool:
        """Begin a call if this is one whose head is known, and the connection has nothing else under way."""
        found = self._known(data)
        if found is None:
            return False
        head, start = found
        missing = head.told.content_length - len(data) + start
        if missing < 0 or (missing and not self._held(head)):
            return False
        self._take(head)
        if missing:
            self._reading = _Reading(self, len(data) + missing)
            self._reading.go_on(data, start)
            self.transport.set_protocol(self._reading)
            self.wait()
        else:
            self._begin(data[start:])
        return True

    def _known(self, data: bytes) -> tuple[Head, int] | None:
        """Return the head that the data begins with and its length, if it is known and nothing is under way."""
        if self._app is None or self._answering or self.under_way or self.flow.write_paused:
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        end = data.find(b"\r\n\r\n", 0, HEAD_MOST_BYTES) + 4
        head = self._app.known.get(data[:end])
        return None if head is None else (head, end)

    def _held(self, head: Head) -> bool:
        """Hold a body that comes in pieces; False if it is too much: it is refused by whoever parses it."""
        assert self._app is not None
        try:
            self._app.hold(head.told.content_length)
        except MoselError:
            return False
        return True

    def _take(self, head: Head) -> None:
        assert self._app is not None
        self._unset_keepalive_if_required()
        self._head, self._arrival_ns = head, self._app.now_ns()

    def _begin(self, body: bytes | memoryview, *, held: bool = False) -> None:
        assert self._app is not None
        assert self._head is not None
        self.stop_waiting()
        self._answering = True
        running = self._app.begin(self._head, body, self._arrival_ns, self._send, held=held)
        if self._answering:
            self._running = running

    def _send(self, reply: Reply) -> None:
        """Write the reply; what came before it was due goes on after it."""
        self._answering, self._running = False, None
        if self.transport.is_closing():
            return
        self._write(reply)
        self.server_state.total_requests += 1
        if self._last:
            self.transport.close()
            return
        self._quiet_since_s = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)
        if self._early:
            self.loop.call_soon(self._go_on)

    def _write(self, reply: Reply) -> None:
        lines = [self._begun(reply.status)]
        for name, value in reply.headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"connection: close\r\n\r\n" if self._last else b"\r\n")
        if len(reply.content) <= APART_BYTES:
            lines.append(reply.content)
            self.transport.write(b"".join(lines))
        else:
            self.transport.write(b"".join(lines))
            self.transport.write(reply.content)

    def _begun(self, status: int) -> bytes:
        """Return how a reply begins: the same for all within a second, after which the date is another."""
        headers = self.server_state.default_headers
        if headers is not self._headers or status != self._status:
            self._headers, self._status = headers, status
            lines = [b"%s: %s\r\n" % header for header in headers]
            self._beginning = b"".join([STATUS_LINE[status], *lines])
        return self._beginning

    def _go_on(self) -> None:
        early, self._early = self._early, b""
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(early)

    def _look_whether_idle(self) -> None:
        """Close a connection on which nothing was asked for a while; one timer serves for many calls."""
        busy = self._answering or self.under_way or self.filling
        busy = busy or (self.cycle is not None and not self.cycle.response_complete)
        left_s = self.timeout_keep_alive - (0 if busy else self.loop.time() - self._quiet_since_s)
        if left_s <= 0 and self.timeout_keep_alive_task is None:
            self.transport.close()
        else:
            self._idle = self.loop.call_later(max(left_s, 1.0), self._look_whether_idle)


class _Reading(asyncio.BufferedProtocol):
    """Takes the place of a connection whose bodies come in pieces: they are read to where they are decoded.

    Args:
        connection: whose calls they are.
        size: of a call, its head included, in bytes; one of another size is left to the connection.
    """

    def __init__(self, connection: KnownCalls, size: int) -> None:
        self._connection = connection
        self._size = size
        self._room: memoryview | None = None
        self._filled = self._start = 0

    @property
    def filling(self) -> bool:
        """Whether a call has begun to come."""
        return self._room is not None and self._start > 0

    def go_on(self, data: bytes, start: int) -> None:
        """Take the first piece of a call, whose body starts there."""
        self._room, self._filled, self._start = _room(self._size), len(data), start
        self._room[: len(data)] = data

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        del sizehint
        if self._room is None:
            self._room, self._filled, self._start = _room(self._size), 0, 0
        return self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that so much was read."""
        assert self._room is not None
        self._filled += nbytes
        if not self._start:
            self._start = self._connection.begins(self._room, self._filled)
        room, start = self._room, self._start
        if not start:
            self._connection.read_otherwise(bytes(room[: self._filled]))
        elif self._filled == self._size:
            self._room = None
            self._connection.filled(room[start:])

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection know."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the connection know."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Let the connection know."""
        self._connection.resume_writing()


def _room(size: int) -> memoryview:
    """Return so many bytes of memory; unlike those of a bytearray, they are not set to 0 first."""
    return np.empty(size, np.uint8).data
