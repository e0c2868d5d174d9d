"""What a client may do to a connection, over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from mosel.core.tables import Device, Mode, Profile
from mosel.frontend import connection
from mosel.frontend.connection import HEAD_BYTES, Connection
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.online.serving import ServedModel
from tests.process.test_server import MODEL

pytestmark = pytest.mark.process

PROFILE = Profile(
    format="mosel.profile/1",
    model="m",
    modalities=("x",),
    metric="accuracy",
    batch_sizes=(1,),
    modes=(Mode(("x",), 0.9, 0.9, 1, [0.01], [0.01], [1]),),
    device=Device("none", "host"),
    precision="float32",
    software={},
    measured_at="2026-11-22T00:00:00Z",
)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
INFER = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of a server in this process, on which a request has half a second to arrive."""
    monkeypatch.setattr(connection, "ARRIVAL_LIMIT_S", 0.5)
    app = HttpApp(Service(InstantEngine(zeros(MODEL)), [ServedModel("m", MODEL, PROFILE)]))
    config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None)
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
        for one in list(state.connections):
            one.transport.close()


async def told(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send these parts and return all that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((b"GET /v2 HT",), 408),
        ((LIVE[:-2], b"A: b\r\n"), 408),
        ((INFER + b"Content-Length: 9\r\n\r\n", b"12"), 408),
        ((INFER + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",), 408),
    ],
)
async def test_a_request_that_does_not_come_to_its_end(
    port: int, parts: tuple[bytes, ...], status: int
) -> None:
    """Whether head or body stops short: the client is told, and its connection is closed."""
    answer = await told(port, *parts)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"not here after 0.5 s" in json.loads(answer.split(b"\r\n\r\n")[1])["error"].encode()


async def test_a_silent_connection_is_closed(port: int) -> None:
    """A client that connects and says nothing holds its connection no longer than a slow one."""
    assert await told(port) == b""


@pytest.mark.parametrize("line", [b"A: " + b"x" * 1000, b"x" * 5000])
async def test_a_head_without_end(port: int, line: bytes) -> None:
    """However it is made up, a head over the limit is refused while it comes."""
    start = LIVE[:-2] if line.startswith(b"A") else b"GET /"
    end = b"\r\n" if line.startswith(b"A") else b""
    rest = (line + end) * (HEAD_BYTES // len(line) + 1)
    answer = await told(port, start, rest, pause_s=0.1)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert b"send fewer headers" in answer


async def test_a_head_that_comes_at_once_is_held_to_the_same_limit(port: int) -> None:
    """Though its end is there."""
    line = b"A: " + b"x" * 1000 + b"\r\n"
    answer = await told(port, LIVE[:-2] + line * (HEAD_BYTES // len(line) + 1) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
    ],
)
async def test_what_is_no_http(port: int, raw: bytes) -> None:
    """It is answered with 400 and the connection is closed; others are served on."""
    assert (await told(port, raw)).startswith(b"HTTP/1.1 400 ")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(LIVE)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_slow_second_request_after_a_first_answer(port: int) -> None:
    """The limit counts from its own first byte, and the answer to the first one stays whole."""
    answer = await told(port, LIVE, LIVE[:10], pause_s=0.2)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in answer


async def test_an_early_refusal_is_the_only_answer(port: int) -> None:
    """A body that is refused by its length and trickles in all the same is cut off, without a second answer."""
    answer = await told(port, INFER + b"Content-Length: 99999999999\r\n\r\n", b"12")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1
