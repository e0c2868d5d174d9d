"""A real server as the protocol's reference client sees it; one process for all tests of this file."""

import json
import math
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from mosel.core.build import is_compiled
from tests.process.serving import RAISES, SLEEPS, Server, tensor, tokens

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is ready."""
    running = Server(tmp_path_factory.mktemp("serve"), ("--policy", "optimized"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """A client of that server."""
    made = server.client()
    yield made
    made.close()


WAVE = np.array([[1, 2, 3], [4, 5, 6]], "float32")


def test_notes(server: Server) -> None:
    """The server says in one line what it serves, where, and how; it binds to loopback."""
    built = ", compiled" if is_compiled() else ""
    assert [note for note in server.notes if note.startswith("serving ")] == [
        f"serving small on {server.url} (policy optimized, 1 worker{built})"
    ]
    assert server.url.startswith("http://127.0.0.1:")


def test_metadata(client: Any) -> None:
    """The reference client sees a live, ready server and its model."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("small", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "mosel"
    assert client.get_model_metadata("small")["inputs"][1]["shape"] == [-1, -1]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("raw_outputs", [True, False, None])
def test_infer(client: Any, binary: bool, raw_outputs: bool | None) -> None:
    """Tensors travel as JSON and raw, both ways; the receipt comes as parameters."""
    inputs = [tensor("tokens", tokens(5, 1, 2), binary=binary), tensor("wave", WAVE, binary=binary)]
    outputs = None if raw_outputs is None else [triton.InferRequestedOutput("total", binary_data=raw_outputs)]
    slos = {"accuracy_slo": 0.9, "latency_slo_ms": "30000"}
    result = client.infer("small", inputs, "1", outputs, request_id="mine", timeout=20_000_000, parameters=slos)
    assert result.as_numpy("total").tolist() == [12.0, 21.0]
    assert (result.as_numpy("modalities") is None) == (raw_outputs is not None)
    told = result.get_response()
    assert told["id"] == "mine"
    receipt = told["parameters"]
    assert receipt["outcome"] == "served"
    assert receipt["modes"] == "text+sound:2"
    assert receipt["expected_accuracy"] == pytest.approx(0.9)
    assert 0 < receipt["slack_ms"] < 20_000
    assert sum(batch["requests"] for batch in json.loads(receipt["batches"])) == 2


def test_modality_left_out(client: Any) -> None:
    """A job that lacks a modality runs in a mode without it."""
    result = client.infer("small", [tensor("wave", WAVE)])
    assert result.get_response()["parameters"]["modes"] == "sound:2"
    assert result.as_numpy("modalities").tolist() == [1, 1]


WAVE_INPUT = {"name": "wave", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


@pytest.mark.parametrize(
    ("change", "parameters", "status", "said"),
    [
        ({"shape": [2, 1, 1]}, {}, 400, "shape is [2, 1, 1]; expected [requests, 1 to 8]"),
        ({"datatype": "FP64"}, {}, 400, "datatype is FP64; expected FP32"),
        ({"data": ["a", "b"]}, {}, 400, "data is no list of numbers"),
        ({"name": "waves"}, {}, 400, "no input 'waves'; expected some of tokens, wave"),
        ({}, {"accuracy_slo": "nan"}, 400, "accuracy_slo is 'nan'; expected a number from 0 to 1"),
        ({}, {"accuracy_slo": 0.85}, 400, "the best is 0.8"),
        ({}, {"latency_slo_ms": -1}, 400, "latency_slo_ms is -1; expected a number"),
        ({}, {"latency_slo_ms": 0.001}, 503, "latency_unreachable"),
    ],
)
def test_bad_input(
    server: Server, change: dict[str, object], parameters: dict[str, object], status: int, said: str
) -> None:
    """Bad input and SLOs that cannot be met get their status and a line that says what to do."""
    body = {"inputs": [{**WAVE_INPUT, **change}], "parameters": parameters}
    got, told, headers = post(server, json.dumps(body).encode())
    assert got == status
    assert said in told["error"]
    assert ("Retry-After" in headers) == (status == 503)


def test_nan_in_json(server: Server) -> None:
    """A NaN, which JSON does not know, is refused as bad JSON."""
    body = {"inputs": [WAVE_INPUT], "parameters": {"accuracy_slo": math.nan}}
    got, told, _ = post(server, json.dumps(body).encode())
    assert got == 400
    assert "not valid JSON" in told["error"]


def test_unknown_model(client: Any) -> None:
    """An unknown model is told with those that are served."""
    with pytest.raises(InferenceServerException, match="'other' is not served here; expected small") as caught:
        client.infer("other", [tensor("wave", WAVE)])
    assert caught.value.status() == "404"


def test_model_that_raises(client: Any) -> None:
    """A model that raises fails its own job alone: the server goes on."""
    with pytest.raises(InferenceServerException, match="ValueError: no such number") as caught:
        client.infer("small", [tensor("tokens", tokens(RAISES))])
    assert caught.value.status() == "500"
    assert client.infer("small", [tensor("tokens", tokens(1))]).as_numpy("total").tolist() == [1.0]


def test_client_goes_away(server: Server) -> None:
    """A job whose client goes away while it waits is dropped and does not run."""
    busy = {"name": "tokens", "datatype": "FP32", "shape": [1, 4], "data": [SLEEPS, 3, 0, 0]}
    before = metric(server, 'mosel_jobs_total{model="small",outcome="dropped"}')
    body = json.dumps({"inputs": [WAVE_INPUT]}).encode()
    head = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = server.url.removeprefix("http://").split(":")
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(post, server, json.dumps({"inputs": [busy]}).encode())
        until(lambda: metric(server, "mosel_queued_jobs") == 1)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
            until(lambda: metric(server, "mosel_queued_jobs") == 2)
        until(lambda: metric(server, 'mosel_jobs_total{model="small",outcome="dropped"}') == before + 1)
        status, told, _ = running.result()
    assert status == 200
    assert [output["data"] for output in told["outputs"] if output["name"] == "modalities"] == [[1]]


def test_large_body(server: Server) -> None:
    """A body over the limit is refused by its length alone."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"
        )
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_unknown_path(server: Server) -> None:
    """An unknown path is a 404 in JSON."""
    got, told, _ = post(server, b"", "/v2/models/small/explain")
    assert got == 404
    assert "there is no /v2/models/small/explain" in told["error"]


def post(server: Server, body: bytes, path: str = "/v2/models/small/infer") -> tuple[int, Any, Any]:
    """Post `body` and return status, JSON and headers."""
    request = urllib.request.Request(server.url + path, body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


def metric(server: Server, name: str) -> float:
    """Return a metric's value."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + " ")))


def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.01)
