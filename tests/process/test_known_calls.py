"""Calls whose head is known go another way than those that are parsed; nobody should be able to tell."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from mosel.core.types import Job
from mosel.frontend import connection
from mosel.frontend.checks import Limits
from mosel.frontend.connection import Connection
from mosel.frontend.heads import KNOWN_MOST
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import Inputs, InstantEngine, zeros
from mosel.frontend.keys import Keys
from mosel.frontend.service import Service
from mosel.models.base import Modality, Model, Tensor
from mosel.online.answers import Live, Tell
from mosel.online.serving import ServedModel
from mosel.online.tensors import Declared, JobTensors
from tests.process.test_connection import PROFILE

pytestmark = pytest.mark.process

MODEL = Model(
    "m",
    (Modality("x", (Tensor("x", "FP32", (-1,), limits=(100_000,)),)),),
    (Tensor("y", "FP32", (3,)),),
    lambda _d, _p: lambda **_: {},
)
FLOATS = 50_000
BODY_LIMIT, HELD_LIMIT = 300_000, 350_000
PATH = b"/v2/models/m/infer"


class Engine(InstantEngine):
    """Answers at once, or keeps what it is handed while it is told to; its clock stands still."""

    def __init__(self) -> None:
        super().__init__(zeros(MODEL), lambda: 0)
        self.keeps = False
        self.kept: list[tuple[Job, Inputs, Tell]] = []
        self.handed_in, self.withdrawn = asyncio.Event(), asyncio.Event()

    def hand_in(self, job: Job, inputs: Inputs, tell: Tell) -> Live | None:
        """Answer the job, or keep it."""
        if not self.keeps:
            return super().hand_in(job, inputs, tell)
        self.kept.append((job, inputs, tell))
        self.handed_in.set()
        return Live(job, JobTensors(job, Declared(MODEL), inputs), tell)

    def withdraw(self, live: Live) -> None:
        """Note it."""
        assert live.job.model == "m"
        self.withdrawn.set()

    def let_go(self) -> None:
        """Answer what is kept."""
        kept, self.kept = self.kept, []
        for one in kept:
            super().hand_in(*one)


class Here:
    """A server in this process."""

    def __init__(self) -> None:
        self.engine = Engine()
        limits = Limits(body_bytes=BODY_LIMIT, held_bytes=HELD_LIMIT)
        self.service = Service(self.engine, [ServedModel("m", MODEL, PROFILE)], limits)
        self.app = HttpApp(self.service, Keys({"gold": ["g" * 32]}))
        config = uvicorn.Config(
            self.app, http=Connection, ws="none", lifespan="off", log_config=None, proxy_headers=False,
            timeout_keep_alive=1,
        )  # fmt: skip
        self.config, self.state = config, ServerState()
        self.port = 0

    def connection(self) -> Connection:
        """Return a new one."""
        return Connection(config=self.config, server_state=self.state, app_state={})

    def holds_nothing(self) -> bool:
        """Whether all that may be held at once could be."""
        for size in (BODY_LIMIT, HELD_LIMIT - BODY_LIMIT):
            self.app.hold(size)
        return True

    async def told(self, *parts: bytes, pause_s: float = 0.0, until: bytes = b"") -> bytes:
        """Send these parts on one connection; return all that comes back until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause_s)
            return await asyncio.wait_for(reader.readuntil(until) if until else reader.read(), 30)
        finally:
            writer.close()


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    """A server in this process."""
    found = Here()
    server = await asyncio.get_running_loop().create_server(found.connection, "127.0.0.1", 0)
    async with server:
        found.port = server.sockets[0].getsockname()[1]
        yield found
        for one in list(found.state.connections):
            one.transport.close()


def call(body: bytes, *lines: bytes, path: bytes = PATH, method: bytes = b"POST") -> bytes:
    """Return a request."""
    head = (b"Host: a", b"X-API-Key: " + b"g" * 32, b"Content-Length: %d" % len(body), *lines)
    return method + b" " + path + b" HTTP/1.1\r\n" + b"\r\n".join(head) + b"\r\n\r\n" + body


def json_body(**other: object) -> bytes:
    """Return the body of a call in JSON."""
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1]}
    return json.dumps({"inputs": [entry], **other}).encode()


def raw_call(floats: int = FLOATS) -> bytes:
    """Return a call with a raw tensor behind its JSON object, which asks for a raw one."""
    size = {"binary_data_size": floats * 4}
    entry = {"name": "x", "shape": [1, floats], "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return call(head + bytes(floats * 4), b"Inference-Header-Content-Length: %d" % len(head))


GOOD = call(json_body())
LAST = call(json_body(), b"Connection: close")
CALLS = {
    "good": GOOD,
    "with an id": call(json_body(id="mine", parameters={"accuracy_slo": 0.1, "latency_slo_ms": "5"})),
    "raw": raw_call(),
    "raw, small": raw_call(3),
    "no JSON": call(b"{"),
    "no input": call(b"{}"),
    "unknown output": call(json_body(outputs=[{"name": "z"}])),
    "out of reach": call(json_body(parameters={"accuracy_slo": "2"})),
    "another tenant": call(json_body(parameters={"tenant": "tin"})),
    "empty": call(b""),
    "too large": raw_call(BODY_LIMIT // 4 + 1),
    "JSON too long by its header": call(json_body(), b"Inference-Header-Content-Length: 9999"),
    "no such model": call(json_body(), path=b"/v2/models/other/infer"),
    "a version": call(json_body(), path=b"/v2/models/m/versions/1/infer"),
}


def apart(data: bytes) -> list[bytes]:
    """Return each reply among those that came one behind the other."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append(head + rest[:size])
        data = rest[size:]
    return found


@pytest.mark.parametrize("name", CALLS)
async def test_known_calls_are_answered_like_those_that_are_parsed(here: Here, name: str) -> None:
    """Byte for byte: one after the other, in pieces, and in one packet with others."""
    one = CALLS[name]
    parsed, last = apart(await here.told(one[:40], one[40:], LAST, pause_s=0.05))
    assert not here.app.known  # a head that came in pieces is read anew
    middle = one.index(b"\r\n\r\n") + 5
    replies = [
        apart(await here.told(one, one, one, LAST, pause_s=0.05)),
        apart(await here.told(one[:middle], one[middle:], one, LAST, pause_s=0.02)),
        apart(await here.told(one + one + LAST)),
    ]
    assert replies == [[parsed] * 3 + [last], [parsed] * 2 + [last], [parsed] * 2 + [last]]
    assert bool(here.app.known) == (name != "no such model")
    assert here.holds_nothing()


@pytest.mark.parametrize(
    "one",
    [
        LAST,
        call(json_body(), b"Expect: 100-continue"),
        call(json_body(), b"Content-Encoding: gzip"),
        call(json_body(), path=PATH + b"?a=b"),
        call(json_body(), path=b"/v2/models/m/offer"),
        call(json_body(), method=b"PUT"),
        call(json_body()).replace(b"g" * 32, b"h" * 32),
        call(json_body(), b"A: " + b"a" * 5000),
        call(json_body()).replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"POST /v2/models/m/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_heads_that_say_more_are_not_known(here: Here, one: bytes) -> None:
    """What asks something of the connection, is refused, or is no inference call is parsed each time."""
    await here.told(one, until=b"\r\n\r\n")
    assert not here.app.known


async def test_known_heads_are_bounded(here: Here) -> None:
    """A client that sends ever new heads fills no memory."""
    for number in range(KNOWN_MOST + 10):
        here.app.known[b"%d" % number] = next(iter(here.app.known.values()), None)  # type: ignore[assignment]
    await here.told(GOOD, until=b"}")
    assert len(here.app.known) == 1


async def test_what_comes_early_waits_for_the_reply_before_it(here: Here) -> None:
    """Calls behind one that still runs are begun when it has its answer, in their order."""
    await here.told(GOOD, until=b"}")
    here.engine.keeps = True
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(GOOD)
    await here.engine.handed_in.wait()
    writer.write(CALLS["no JSON"] + GOOD)
    await asyncio.sleep(0.05)
    assert len(here.engine.kept) == 1
    here.engine.keeps = False
    here.engine.let_go()
    writer.write(LAST)
    replies = apart(await asyncio.wait_for(reader.read(), 30))
    assert [reply[9:12] for reply in replies] == [b"200", b"400", b"200", b"200"]
    writer.close()


async def test_a_client_that_leaves_cancels_its_known_call(here: Here) -> None:
    """Its job is withdrawn, and what it held is free again."""
    await here.told(GOOD, until=b"}")
    here.engine.keeps = True
    _, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(GOOD)
    await here.engine.handed_in.wait()
    writer.close()
    await here.engine.withdrawn.wait()
    assert here.holds_nothing()
    lines = here.service.metrics.exposition().decode().splitlines()
    assert 'mosel_jobs_total{model="m",outcome="dropped"} 1.0' in lines


async def test_a_body_that_stops_short(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client is told and the connection closed; one that leaves is forgotten; neither holds anything."""
    monkeypatch.setattr(connection, "ARRIVAL_LIMIT_S", 0.3)
    one = raw_call()
    await here.told(one, until=b"\r\n\r\n")
    assert here.app.known
    answer = await here.told(one[:100_000])
    assert answer.startswith(b"HTTP/1.1 408 ")
    await here.told(one[:100_000], b"x", pause_s=0.02, until=b"")
    assert here.holds_nothing()


async def test_a_body_that_there_is_no_room_for(here: Here) -> None:
    """It is refused as it would be if its head were not known."""
    one = raw_call()
    await here.told(one, until=b"\r\n\r\n")
    here.app.hold(BODY_LIMIT)
    assert (await here.told(one[:1000], one[1000:], until=b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    assert (await here.told(one, until=b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")


async def test_an_idle_connection_is_closed(here: Here) -> None:
    """After known calls as after others, when nothing was asked for as long as the server keeps one alive."""
    assert len(apart(await here.told(GOOD, GOOD, GOOD, pause_s=0.05))) == 3


async def test_a_server_that_ends_answers_known_calls_first(here: Here) -> None:
    """The reply says that the connection is closed, and it is."""
    await here.told(GOOD, until=b"}")
    here.engine.keeps = True
    waiting = asyncio.create_task(here.told(GOOD))
    await here.engine.handed_in.wait()
    for one in list(here.state.connections):
        one.shutdown()
    here.engine.let_go()
    answer = await waiting
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
