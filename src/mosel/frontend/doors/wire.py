"""What front doors and groups say to each other beside a call: headers of their own, which no client can send.

| header | from | meaning |
| --- | --- | --- |
| `mosel-arrival-ns` | door | when the call's headers were in, on the machine's clock |
| `mosel-start-ns` | door | when the job has to begin at the latest; the group may pass it on |
| `mosel-late-ns` | group | status 421: it was passed on, being late by so much here |
| `mosel-grpc` | door | the call came over gRPC: its method; the body is its message, and so is the answer's |
| `mosel-limit-ns` | door | how long after its arrival the client of a call over gRPC gives up |
| `mosel-outcome` | group | what became of the job that the call was |
"""

from collections.abc import Iterable

from mosel.core.states import State
from mosel.frontend import codes
from mosel.frontend.heads import Headers
from mosel.frontend.keys import KEY_HEADERS
from mosel.frontend.replies import Reply

OWN = b"mosel-"
ARRIVAL, START, LATE = b"mosel-arrival-ns", b"mosel-start-ns", b"mosel-late-ns"

METHOD, LIMIT, OUTCOME = b"mosel-grpc", b"mosel-limit-ns", b"mosel-outcome"

OF_THE_CONNECTION = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that say nothing of the call, and are made anew."""


def head_of(method: str, target: bytes, headers: Headers, length: int) -> bytes:
    """Return the head of a call as it goes to a group, without its end; headers of our own are left out."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"host: group", b"content-length: %d" % length]
    lines += [
        name + b": " + value
        for name, value in headers
        if name not in OF_THE_CONNECTION and not name.startswith(OWN)
    ]
    return b"\r\n".join(lines)


def with_times(head: bytes, arrival_ns: int, start_ns: int | None) -> bytes:
    """Return a whole head."""
    lines = [head, b"%s: %d" % (ARRIVAL, arrival_ns)]
    if start_ns is not None:
        lines.append(b"%s: %d" % (START, start_ns))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def times_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, int | None]:
    """Return arrival and latest start, as far as a door told them."""
    told = dict(headers)
    arrival, start = told.get(ARRIVAL), told.get(START)
    return None if arrival is None else int(arrival), None if start is None else int(start)


def grpc_head(method: str, headers: Headers, length: int, limit_ns: int | None) -> bytes:
    """Return the head of a call that came over gRPC; of its metadata only what says who calls goes along."""
    own = [(name, value) for name, value in headers if name in KEY_HEADERS]
    lines = [head_of("POST", b"/", own, length), METHOD + b": " + method.encode()]
    if limit_ns is not None:
        lines.append(b"%s: %d" % (LIMIT, limit_ns))
    return b"\r\n".join(lines)


def grpc_of(headers: Headers) -> tuple[str, int | None] | None:
    """Return the method of a call that came over gRPC to a door, and its limit; None if it did not."""
    told = dict(headers)
    method, limit = told.get(METHOD), told.get(LIMIT)
    return None if method is None else (method.decode(), None if limit is None else int(limit))


def with_outcome(reply: Reply, outcome: State) -> Reply:
    """Return a group's reply to a job."""
    return reply._replace(headers=[*reply.headers, (OUTCOME, outcome.encode())])


def outcome_of(reply: Reply) -> tuple[str, Reply]:
    """Return what became of the job, empty where the call became none, and the reply as a client gets it."""
    outcome = dict(reply.headers).get(OUTCOME, b"").decode()
    return outcome, reply._replace(headers=[pair for pair in reply.headers if pair[0] != OUTCOME])


def on_its_way(late_ns: int) -> Reply:
    """Return what a group says of a job that it passes on."""
    headers = [(b"content-length", b"0"), (LATE, b"%d" % late_ns)]
    return Reply(codes.MISDIRECTED, headers, b"")


def passed_on(reply: Reply) -> bool:
    """Whether a group passed a job on."""
    return reply.status == codes.MISDIRECTED


def late_ns_of(reply: Reply) -> int:
    """Return by how much a job that was passed on would have been late."""
    return int(dict(reply.headers)[LATE])
