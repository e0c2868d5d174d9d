"""Messages as bytes with their length in front, and a stream of bytes cut into the messages that it carries."""

from mosel.core.errors import ExecutionError

MESSAGE_LIMIT_BYTES = 16 << 20
"""A message names each job part of a batch, a few dozen bytes apiece; more than this is no message of ours."""

PREFIX_BYTES = 4


def framed(body: bytes) -> bytes:
    """Return a message with its length in front."""
    return len(body).to_bytes(PREFIX_BYTES, "little") + body


class Unframer:
    """Cuts a stream of bytes into the messages that it carries, however it was chopped up on the way."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return every message that is now complete.

        Raises:
            ExecutionError: a message claims to be longer than `MESSAGE_LIMIT_BYTES`.
        """
        stream = self._rest + data if self._rest else data
        start, found = 0, list[bytes]()
        while len(stream) - start >= PREFIX_BYTES:
            begin = start + PREFIX_BYTES
            length = int.from_bytes(stream[start:begin], "little")
            if length > MESSAGE_LIMIT_BYTES:
                raise ExecutionError(
                    f"a message of {length:,} bytes between engine and worker; expected at most "
                    f"{MESSAGE_LIMIT_BYTES:,}: the stream is damaged and the worker has to be started anew"
                )
            if len(stream) - begin < length:
                break
            start = begin + length
            found.append(stream[begin:start])
        self._rest = stream[start:]
        return found
