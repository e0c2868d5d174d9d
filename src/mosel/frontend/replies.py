"""What is sent over HTTP in answer to a call: status, headers and body."""

from typing import NamedTuple

import orjson

from mosel.frontend import codes
from mosel.frontend.codes import Refusal
from mosel.frontend.heads import HEADER_LENGTH
from mosel.frontend.inference import Body

_JSON, _OCTETS = b"application/json", b"application/octet-stream"


class Reply(NamedTuple):
    """What is sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes


def found(body: Body) -> Reply:
    """Return an inference response."""
    headers = [
        (b"content-type", _JSON if body.header_length is None else _OCTETS),
        (b"content-length", b"%d" % len(body.content)),
    ]
    if body.header_length is not None:
        headers.append((HEADER_LENGTH, b"%d" % body.header_length))
    return Reply(codes.OK, headers, body.content)


def told(what: dict[str, object]) -> Reply:
    """Return a JSON object."""
    content = orjson.dumps(what)
    return Reply(codes.OK, [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))], content)


def refused(refusal: Refusal) -> Reply:
    """Return a refusal."""
    told: dict[str, object] = {"error": refusal.message}
    if refusal.parameters:
        told["parameters"] = refusal.parameters
    content = orjson.dumps(told)
    headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    if refusal.status == codes.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == codes.NOT_ALLOWED:
        headers.append((b"allow", b"POST"))
    return Reply(refusal.status, headers, content)
