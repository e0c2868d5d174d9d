"""What the head of a call says: its target, how long its body is, whose it is; and which heads can be known.

A client repeats its head word for word with every call. One that the parser has read, and that says nothing out
of the ordinary, is known from then on by its bytes: `connection.py` then needs no parser for it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.routing import compile_path

from mosel.core.errors import InputError
from mosel.frontend.rest import CALLS

Headers = Iterable[tuple[bytes, bytes]]

HEADER_LENGTH = b"inference-header-content-length"

HEAD_MOST_BYTES = 4096
"""Longer heads are read anew each time."""

KNOWN_MOST = 1024
"""So many heads are known; then all are forgotten, and those that are in use are known again at once."""

UNUSUAL = (b"connection", b"expect", b"transfer-encoding", b"upgrade")
"""Headers that ask something of the connection itself."""


class Target(NamedTuple):
    """What a path infers on, offers to or gives feedback on."""

    action: str
    model: str
    version: str = ""


class Told(NamedTuple):
    """Lengths in bytes: of the body, 0 if nothing is said, and of the JSON object it starts with, if any."""

    content_length: int
    json_length: int | None


class Head(NamedTuple):
    """The head of an inference call.

    Attributes:
        model, version: what it infers on; the version is the one that is served.
        tenant: whose key it carries; None where none is needed.
        told: lengths.
    """

    model: str
    version: str
    tenant: str | None
    told: Told


_TARGETS = [(compile_path(path)[0], path.rpartition("/")[2]) for path in CALLS]


def target_of(path: str) -> Target | None:
    """Return what `path` infers on, offers to or gives feedback on; None if it is another path."""
    for pattern, action in _TARGETS:
        if found := pattern.match(path):
            return Target(action, *found.groups())
    return None


def read_headers(headers: Headers) -> Told:
    """Return what the headers say of the body.

    Raises:
        InputError: a length is no number, or the body is compressed.
    """
    content_length, json_length = 0, None
    for name, value in headers:
        if name == b"content-length":
            content_length = _length("Content-Length", value)
        elif name == HEADER_LENGTH:
            json_length = _length("Inference-Header-Content-Length", value)
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise InputError(
                f"Content-Encoding {value.decode('latin-1')!r} is not supported; send the body uncompressed"
            )
    return Told(content_length, json_length)


def plain_head(raw: bytes, scope: Mapping[str, Any]) -> bool:
    """Whether these bytes are, line by line, the head that was parsed, and ask nothing of the connection."""
    first, *lines = raw[:-4].split(b"\r\n")
    headers = scope["headers"]
    if scope["http_version"] != "1.1" or first != b"POST %s HTTP/1.1" % scope["raw_path"]:
        return False
    if len(lines) != len(headers) or sum(name == b"content-length" for name, _ in headers) != 1:
        return False
    for line, (name, value) in zip(lines, headers, strict=True):
        given, colon, rest = line.partition(b":")
        if not colon or given.lower() != name or rest.strip(b" \t") != value or name in UNUSUAL:
            return False
    return True


def _length(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise InputError(f"{name} is {value.decode('latin-1')!r}; expected a number of bytes")
    return int(value)
