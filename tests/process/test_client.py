"""The client library against a real server."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from urllib.request import urlopen

import numpy as np
import pytest

from mosel.client import AsyncClient, Client
from mosel.core.errors import (
    BadAnswerError,
    ExecutionError,
    GoneError,
    InputError,
    NotReadyError,
    RefusedError,
    UnknownModelError,
    UsageError,
)
from tests.process.serving import RAISES, Server, tokens

pytestmark = pytest.mark.process

WAVE = np.array([[1, 2, 3], [4, 5, 6]], "float32")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready."""
    running = Server(tmp_path_factory.mktemp("client"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def dear() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Fail: this tensor is not to be made."""
    raise AssertionError("it was not wanted")


def test_whole_and_lazy(server: Server) -> None:
    """Both ways give the same outputs; lazily only what is wanted is made and sent."""
    inputs = {"tokens": tokens(5, 1, 2), "wave": WAVE}
    with Client(server.url, "small") as client:
        for lazy in (False, True):
            answer = client.infer(inputs, lazy=lazy, accuracy_slo=0.9)
            assert answer.outputs["total"].tolist() == [12.0, 21.0]
            assert answer.receipt["modes"] == "text+sound:2"
        offer = client.offer(["wave"], 2, latency_slo_ms=30_000)
        assert offer.inputs == ("wave",)
        assert 0 < offer.hold_s <= 10
        answer = client.upload(offer, {"tokens": dear, "wave": lambda: WAVE})
        assert answer.receipt["modes"] == "sound:2"
        with pytest.raises(GoneError, match="not held"):
            client.upload(offer, {"wave": WAVE})


async def test_async_does_the_same(server: Server) -> None:
    """The asynchronous client gives the same answers."""
    async with AsyncClient(server.url, "small") as client:
        for lazy in (False, True):
            answer = await client.infer({"wave": lambda: WAVE}, lazy=lazy, requests=2)
            assert answer.outputs["total"].tolist() == [6.0, 15.0]
        with pytest.raises(RefusedError, match="latency_unreachable"):
            await client.infer({"wave": WAVE}, latency_slo_ms=0.001)


def test_feedback(server: Server) -> None:
    """Jobs sent with an id, whole or lazily, may be given feedback on once, which counts by mode."""
    inputs = {"tokens": tokens(5, 1, 2), "wave": WAVE}
    with Client(server.url, "small") as client:
        for lazy in (False, True):
            client.infer(inputs, lazy=lazy, request_id=f"lazy {lazy}", accuracy_slo=0.9)
            assert client.feedback(f"lazy {lazy}", [True, 0.5]) == {"text+sound": 2}
        with pytest.raises(GoneError, match="has its feedback already"):
            client.feedback("lazy True", [1, 1])
    with urlopen(f"{server.url}/v2/models/small/accuracy") as reply:
        modes = {mode["mode"]: (mode["live"], mode["scores"]) for mode in json.load(reply)["modes"]}
    assert modes["text+sound"] == (0.75, 4)
    assert modes["sound"] == (None, 0)


async def test_async_feedback(server: Server) -> None:
    """The asynchronous client does the same."""
    async with AsyncClient(server.url, "small") as client:
        await client.infer({"tokens": tokens(5, 1, 2)}, request_id="third")
        with pytest.raises(InputError, match="expected one for each of its 2 requests"):
            await client.feedback("third", [1])
        assert await client.feedback("third", [1, 0]) == {"text": 2}


def test_errors(server: Server) -> None:
    """Each answer of the server is an error of its kind, and the connection goes on."""
    with Client(server.url, "small") as client:
        with pytest.raises(InputError, match=r"the best is 0\.8"):
            client.infer({"wave": WAVE}, accuracy_slo=0.85)
        with pytest.raises(InputError, match="complex64; expected one of"):
            client.infer({"wave": WAVE.astype("complex64")})
        with pytest.raises(RefusedError) as caught:
            client.infer({"wave": WAVE}, lazy=True, latency_slo_ms=0.001)
        assert caught.value.retry_after_s == 1
        with pytest.raises(ExecutionError, match="no such number"):
            client.infer({"tokens": tokens(RAISES)})
        assert client.infer({"wave": WAVE}).receipt["outcome"] == "served"
    with Client(server.url, "other") as client, pytest.raises(UnknownModelError, match="expected small"):
        client.infer({"wave": WAVE}, lazy=True)
    with (
        Client("http://127.0.0.1:9", "small") as client,
        pytest.raises(NotReadyError, match="cannot be reached"),
    ):
        client.infer({"wave": WAVE})


def test_a_connection_that_was_closed_while_idle_is_opened_anew(server: Server) -> None:
    """A call after the server, or a proxy, has closed the idle connection is answered, and runs once."""
    with Client(server.url, "small") as client:
        assert client.infer({"wave": WAVE}).outputs["total"].tolist()
        waiting = client._connection.sock
        assert waiting is not None
        waiting.shutdown(socket.SHUT_RDWR)
        assert client.infer({"wave": WAVE}).receipt["outcome"] == "served"


def test_names_to_offer_may_come_one_by_one(server: Server) -> None:
    """A generator offers what it yields, not everything that the model takes."""
    with Client(server.url, "small") as client:
        offer = client.offer((name for name in ["wave"]), 1)
        assert offer.inputs == ("wave",)


@contextlib.contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """Answer one connection with these bytes, whatever it asks; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        (b"", b"{}" + b" " * 100, "over 64 bytes"),
        (b"", b"[]", "no JSON object"),
        (b"", b"\xff", "no JSON"),
        (b"Inference-Header-Content-Length: x\r\n", b"{}", "is 'x'; expected at most the 2 bytes"),
        (b"Inference-Header-Content-Length: -1\r\n", b"{}", "expected at most the 2 bytes"),
        (b"Inference-Header-Content-Length: 3\r\n", b"{}", "expected at most the 2 bytes"),
    ],
)
async def test_answers_that_are_none(
    head: bytes, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer over the limit, or that is not the protocol's, is an error that says so, of both clients."""
    monkeypatch.setattr("mosel.client.ANSWER_LIMIT_BYTES", 64)
    monkeypatch.setattr("mosel.client_wire.ANSWER_LIMIT_BYTES", 64)
    raw = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
    with answering(raw) as url, Client(url, "small") as client, pytest.raises(BadAnswerError, match=said):
        client.infer({"wave": WAVE})
    with answering(raw) as url:
        async with AsyncClient(url, "small") as other:
            with pytest.raises(BadAnswerError, match=said):
                await other.infer({"wave": WAVE})


async def test_addresses_that_are_none() -> None:
    """A port that is no port is the caller's mistake."""
    for make in (Client, AsyncClient):
        with pytest.raises(UsageError, match="expected an address"):
            make("http://127.0.0.1:eighty", "small")
