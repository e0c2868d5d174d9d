"""One connection of the HTTP server: uvicorn's, with limits on time and size, and a short way for known calls.

Without the limits a client could hold memory and connections for ever by sending slowly, or never to the end.
What `known_calls.py` does not take is parsed; of a call that was, the head is known from then on.
"""

import asyncio
import http
from functools import partial
from typing import Any, cast

import orjson

from mosel.frontend import codes
from mosel.frontend.known_calls import KnownCalls

HEAD_BYTES = 64 << 10
"""Of the request line and the headers; what comes with the first piece of them is not counted."""

ARRIVAL_LIMIT_S = 60.0
"""From the connection, or the first byte of a later request, until the request is in with its body."""


class Connection(KnownCalls):
    """Closes the connection on a request that is too slow, or whose head is too large, or one too many.

    Args:
        most: how many connections there may be at once.
        named: as uvicorn says.
    """

    def __init__(self, *, most: int = 1 << 62, **named: Any) -> None:
        super().__init__(**named)
        self._most = most
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._begun_with: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._say(
                codes.UNAVAILABLE, f"the server has {self._most:,} connections, its limit; try again later"
            )
            self.transport.close()
            return
        self.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self.stop_waiting()
        super().connection_lost(exc)

    def parse(self, data: bytes) -> None:
        """Parse the data; see that a head comes to its end."""
        if self._in_head:
            self._head_bytes += len(data)
        self._begun_with = None if self.under_way else data
        long = not self.under_way and len(data) > HEAD_BYTES and data.find(b"\r\n\r\n", 0, HEAD_BYTES) < 0
        super().parse(data[:HEAD_BYTES] if long else data)
        if self._in_head and (long or self._head_bytes > HEAD_BYTES) and not self.transport.is_closing():
            self._refuse(codes.HEAD_TOO_LARGE, f"the head is over {HEAD_BYTES:,} bytes; send fewer headers")

    def on_message_begin(self) -> None:
        """Wait for the rest of the request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self.wait()

    def on_headers_complete(self) -> None:
        """Let the application begin, and know the head from now on if it came in one piece."""
        self._in_head = False
        super().on_headers_complete()
        if self._begun_with is not None:
            self.know(self._begun_with)
            self._begun_with = None

    def on_message_complete(self) -> None:
        """The request is in."""
        self.stop_waiting()
        super().on_message_complete()

    def wait(self) -> None:
        """Give the request that comes its time from now on."""
        self.stop_waiting()
        self._timer = self.loop.call_later(ARRIVAL_LIMIT_S, self._too_slow)

    def stop_waiting(self) -> None:
        """The request is in, or nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.pipeline:  # it is not read on before the request ahead of it is answered
            self.wait()
            return
        self._timer = None
        self._refuse(codes.TOO_SLOW, f"the request was not here after {ARRIVAL_LIMIT_S:g} s; send it faster")

    def _refuse(self, status: int, message: str) -> None:
        """Close, and say why if this request still waits for its answer."""
        begun = self._in_head or self.cycle is not None
        unanswered = self.cycle is None or (
            self.cycle.response_complete if self._in_head else not self.cycle.response_started
        )
        if (begun and unanswered) or self.filling:
            self._say(status, message)
        self.transport.close()

    def _say(self, status: int, message: str) -> None:
        content = orjson.dumps({"error": message})
        later = "retry-after: 1\r\n" if status == codes.UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n{later}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)


def at_most(connections: int) -> type[Connection]:
    """Return what makes the connections of a server that has so many at once; uvicorn only calls it."""
    return cast("type[Connection]", partial(Connection, most=connections))
