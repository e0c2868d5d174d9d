"""Bodies of requests as they come in, with a limit on each and on what is held of all of them together."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mosel.core.errors import RefusedError, TooLargeError
from mosel.frontend.checks import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


class Bodies:
    """Reads bodies and counts what is held, until it is released.

    Args:
        limits: of one body, and of all.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    async def read(self, receive: Receive, told: int) -> bytes:
        """Return a body, which is held until `release`.

        Args:
            receive: gives the ASGI messages of the request.
            told: what `Content-Length` says; 0 if it says nothing.

        Raises:
            TooLargeError: it is over the limit, by what is told before reading, or while reading.
            RefusedError: too much is held already.
            ClientGoneError: the client went away.
        """
        self._check(told, told)
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part = message.get("body", b"")
                self._check(size + len(part), len(part))
                size += len(part)
                self._held += len(part)
                parts.append(part)
                more = message.get("more_body", False)
        except BaseException:
            self.release(size)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, size: int) -> None:
        """Count so many bytes, which are here already, as held.

        Raises:
            TooLargeError: they are over the limit of one body.
            RefusedError: too much is held already.
        """
        self._check(size, size)
        self._held += size

    def release(self, size: int) -> None:
        """Count so many bytes as held no more."""
        self._held -= size

    def _check(self, size: int, more: int) -> None:
        limit = self._limits.body_bytes
        if size > limit:
            raise TooLargeError(
                f"the body is over this server's limit of {limit:,} bytes; send fewer requests a job"
            )
        if self._held + more > self._limits.held_bytes:
            raise RefusedError(
                f"the server is overloaded: it holds {self._held:,} bytes of requests; try again later"
            )
