"""How many inference calls a second the HTTP front end takes, with an engine that answers at once.

    python benchmarks/http_noop.py [connections] [seconds]

Server and load generator share this machine, so read the figures as ratios. Two calls are timed: four floats as
JSON, and 12,000 floats raw. `bare` is uvicorn with an application that only reads the body and answers.
"""

import asyncio
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import uvicorn
import uvloop

from mosel.core.tables import Device, Mode, Profile
from mosel.frontend.config import Address
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.server import listen
from mosel.frontend.service import Service
from mosel.models.base import Modality, Model, Tensor
from mosel.online.serving import ServedModel

MODEL = Model(
    "noop",
    (Modality("x", (Tensor("x", "FP32", (-1,), limits=(20_000,)),)),),
    (Tensor("y", "FP32", (4,)),),
    load=lambda _device, _precision: lambda **_: {},
    framework="numpy",
)
PROFILE = Profile(
    "mosel.profile/1",
    "noop",
    ("x",),
    "accuracy",
    (1,),
    (Mode(("x",), 0.9, 0.9, 1, [0.001], [0.001], [0]),),
    Device("none", "host"),
    "float32",
    {},
    "2026-11-22T00:00:00Z",
)


def main(connections: int, seconds: float) -> None:
    """Time each call against each application and print a table."""
    print(f"{connections} connections, {seconds:g} s each")
    for name, body, header_length in (("JSON, 4 floats", *_json(4)), ("raw, 12,000 floats", *_raw(12_000))):
        for application in (_bare, _front_end):
            rate, p99_ms = _timed(application, _request(body, header_length), connections, seconds)
            print(f"{name:20} {application.__name__[1:]:10} {rate:9,.0f} calls/s   p99 {p99_ms:6.2f} ms")


def _bare() -> Any:
    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    return answer


def _front_end() -> Any:
    return HttpApp(Service(InstantEngine(zeros(MODEL)), [ServedModel("noop", MODEL, PROFILE)]))


def _json(floats: int) -> tuple[bytes, None]:
    entry = {"name": "x", "shape": [1, floats], "datatype": "FP32", "data": [0.5] * floats}
    return json.dumps({"inputs": [entry], "parameters": {"accuracy_slo": 0.5}}).encode(), None


def _raw(floats: int) -> tuple[bytes, int]:
    size = {"binary_data_size": floats * 4}
    entry = {"name": "x", "shape": [1, floats], "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(floats * 4), len(head)


def _request(body: bytes, header_length: int | None) -> bytes:
    extra = "" if header_length is None else f"Inference-Header-Content-Length: {header_length}\r\n"
    head = f"POST /v2/models/noop/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def _timed(
    application: Callable[[], Any], request: bytes, connections: int, seconds: float
) -> tuple[float, float]:
    listening = listen(Address("127.0.0.1", 0))
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(application, listening))
    process.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            address = listening.getsockname()
            runner.run(_load(address, request, connections, 0.5))
            took_ns = runner.run(_load(address, request, connections, seconds))
    finally:
        process.terminate()
        process.join()
        listening.close()
    return len(took_ns) / seconds, float(np.percentile(took_ns, 99)) / 1e6


def _serve(application: Callable[[], Any], listening: socket.socket) -> None:
    config = uvicorn.Config(
        application(), http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False
    )
    uvicorn.Server(config).run([listening])


async def _load(address: tuple[str, int], request: bytes, connections: int, seconds: float) -> list[int]:
    end_ns = time.perf_counter_ns() + round(seconds * 1e9)
    found = await asyncio.gather(*(_connection(address, request, end_ns) for _ in range(connections)))
    return [took_ns for one in found for took_ns in one]


async def _connection(address: tuple[str, int], request: bytes, end_ns: int) -> list[int]:
    reader, writer = await asyncio.open_connection(*address)
    took_ns = []
    while (began_ns := time.perf_counter_ns()) < end_ns:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        took_ns.append(time.perf_counter_ns() - began_ns)
    writer.close()
    return took_ns


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32, float(sys.argv[2]) if len(sys.argv) > 2 else 3)
