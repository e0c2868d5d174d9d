"""The short way of a call whose head is known by its bytes: no parser, no task, no copy of its body.

A client sends the same head with every call. Where it was parsed before (`heads.py`) and the connection has
nothing else under way, the bytes behind it are the body: they are read to where they are decoded, the call is
begun, and its reply is written when the engine tells of it. All else goes through uvicorn's parser to the same
application; the replies are the same, byte for byte.
"""

import asyncio
from abc import abstractmethod
from typing import Any

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

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.under_way = False
        self._app: HttpApp | None = self.app if isinstance(self.app, HttpApp) else None
        self._head: Head | None = None
        self._filling: _Filling | None = None
        self._arrival_ns = 0
        self._answering = False
        self._running: Cancellable | None = None
        self._early = b""
        self._last = False
        self._quiet_since_s = 0.0
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
        return self._filling is not None

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        if self._answering or self._early:
            self._early += data
            self.flow.pause_reading()
        elif not self._taken(data):
            self.parse(data)

    def filled(self, body: bytearray) -> None:
        """Take a body that came in pieces."""
        self._filling = None
        self.transport.set_protocol(self)
        self._begin(body, held=True)

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
        if self._app is not None and self._filling is not None:
            self._app.release(len(self._filling.body))
            self._filling = None
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
        if self._app is None or self.under_way or self.flow.write_paused:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        end = data.find(b"\r\n\r\n", 0, HEAD_MOST_BYTES) + 4
        head = self._app.known.get(data[:end])
        if head is None:
            return False
        missing = head.told.content_length - len(data) + end
        if missing < 0 or (missing and not self._fills(head, memoryview(data)[end:])):
            return False
        self._unset_keepalive_if_required()
        self._head, self._arrival_ns = head, self._app.now_ns()
        if not missing:
            self._begin(data[end:])
        return True

    def _fills(self, head: Head, begun: memoryview) -> bool:
        """Read on to the end of a body; False if it is too much to hold."""
        assert self._app is not None
        size = head.told.content_length
        try:
            self._app.hold(size)
        except MoselError:
            return False  # it is refused by whoever parses it
        self._filling = _Filling(self, size, begun)
        self.transport.set_protocol(self._filling)
        self.wait()
        return True

    def _begin(self, body: bytes | bytearray, *, held: bool = False) -> None:
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
        lines = [STATUS_LINE[reply.status]]
        for name, value in (*self.server_state.default_headers, *reply.headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"connection: close\r\n\r\n" if self._last else b"\r\n")
        if len(reply.content) <= APART_BYTES:
            lines.append(reply.content)
            self.transport.write(b"".join(lines))
        else:
            self.transport.write(b"".join(lines))
            self.transport.write(reply.content)

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


class _Filling(asyncio.BufferedProtocol):
    """Takes the place of a connection while a body comes: it is read to where it is decoded.

    Args:
        connection: whose body it is.
        size: of the body, in bytes.
        begun: what is here already.
    """

    def __init__(self, connection: KnownCalls, size: int, begun: memoryview) -> None:
        self.body = bytearray(size)
        self._connection = connection
        self._filled = len(begun)
        self.body[: self._filled] = begun

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        del sizehint
        return memoryview(self.body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that so much was read."""
        self._filled += nbytes
        if self._filled == len(self.body):
            self._connection.filled(self.body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection know."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the connection know."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Let the connection know."""
        self._connection.resume_writing()
