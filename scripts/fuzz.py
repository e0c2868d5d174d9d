"""Send a server what nobody should send, over both protocols: bytes, and calls with a few of them changed.

    python scripts/fuzz.py [--inputs 100000] [--seed 0] [--front-doors]

It starts `mosel serve` with a small model, with --front-doors as two groups behind two front doors, sends the
inputs over several connections at once, and prints the answers by status. It fails if one is a 5xx but 503 (in
gRPC: INTERNAL, UNKNOWN or DATA_LOSS), if one takes longer than `PATIENCE_S`, if the server ends, or if a right
call, sent after every `PROBE` inputs and at the end, is not served.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from mosel.frontend.oip import SERVICE, message, methods

CONNECTIONS, PROBE, PATIENCE_S = 8, 5000, 30.0
FLEET = ("--workers", "2", "--groups", "2", "--front-doors", "2")
WRONG = ("no answer", "INTERNAL", "UNKNOWN", "DATA_LOSS")

MODEL = """
import numpy as np

from mosel import Modality, Model, Samples, Tensor


def run(**given):
    count = len(next(iter(given.values())))
    words = given.get("words", np.full((count, 1), b"", object))
    return {"y": np.zeros(count, "float32"), "said": [b" ".join(row) for row in words.tolist()]}


model = Model(
    name="m",
    modalities=(
        Modality("text", (Tensor("tokens", "INT64", (-1,), limits=(8,)),)),
        Modality("sound", (Tensor("wave", "FP32", (2, -1), limits=(8,)),)),
        Modality(
            "caption",
            (Tensor("words", "BYTES", (-1,), limits=(4,), most_bytes=64), Tensor("warmth", "BF16", (2,))),
        ),
    ),
    outputs=(Tensor("y", "FP32", ()), Tensor("said", "BYTES", ())),
    load=lambda device, precision: run,
    samples=lambda: Samples(
        {
            "text": {"tokens": np.zeros((8, 4), "int64")},
            "sound": {"wave": np.zeros((8, 2, 4), "float32")},
            "caption": {"words": np.full((8, 2), b"a", object), "warmth": np.zeros((8, 2), "float32")},
        },
        np.zeros(8),
    ),
    score=lambda outputs, labels: np.ones(len(labels)),
    framework="numpy",
    max_batch=4,
)
"""

TOKENS = [b"-1", b"0", b"NaN", b"1e999", b"null", b"true", b"{}", b"[]", b'""', b"[" * 2000, b'{"a":' * 500]
TOKENS += [b"\0", b"\xff\xfe", b"9223372036854775808", b"2147483648", b"1" * 400, b"\\ud800", b'"x"', b"0.5"]
TOKENS += [b"\r\n", b"\r\n\r\n", b" "]


def main() -> None:
    """Fuzz and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--front-doors", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, http, over_grpc = start(Path(folder), FLEET if given.front_doors else ())
        try:
            found, wrong = asyncio.run(fuzz(http, over_grpc, given.inputs, given.seed))
            if process.poll() is not None:
                wrong.append(f"the server ended with status {process.returncode}")
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                wrong.append(f"the server ended with status {process.returncode}")
        finally:
            process.kill()
    for (kind, status), count in sorted(found.items()):
        print(f"{kind:6} {status:20} {count:9,}")
    print(f"{sum(found.values()):,} inputs, {len(wrong)} wrong")
    for one in wrong[:20]:
        print(one)
    sys.exit(1 if wrong else 0)


def start(folder: Path, more: Sequence[str] = ()) -> "tuple[subprocess.Popen[bytes], tuple[str, int], str]":
    """Start a server; return it and where it is over HTTP and over gRPC."""
    (folder / "fuzzed.py").write_text(MODEL)
    words = [sys.executable, "-c", "from mosel.cli import main; main()", "serve", "fuzzed:model"]
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*words, *more, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
            cwd=folder,
            env={**os.environ, "MOSEL_CACHE": str(folder / "cache")},
            stderr=said,
        )
    while process.poll() is None:
        told = log.read_text(errors="replace")
        if match := re.search(r"grpc://(\S+)[\s\S]*^serving .* on http://(\S+):(\d+) .*\n", told, re.MULTILINE):
            return process, (match[2], int(match[3])), match[1]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text(errors='replace')}")


async def fuzz(
    http: tuple[str, int], over_grpc: str, inputs: int, seed: int
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Send so many inputs, half of them over each protocol, and return the answers and what is wrong."""
    found: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    left = iter(range(inputs))

    async def work(place: int) -> None:
        draw = random.Random(f"{seed} {place}")
        async with grpc.aio.insecure_channel(over_grpc) as channel:
            for number in left:
                kind: str = draw.choice(list(SENDERS))
                raw, send = SENDERS[kind](draw)
                try:
                    status = await asyncio.wait_for(send(http, channel, raw), PATIENCE_S)
                except TimeoutError:
                    status = "no answer"
                found[kind, status] += 1
                if is_wrong(status):
                    wrong.append(f"{kind}: {status} on {raw[:300]!r}")
                if number % PROBE == 0 and await http_call(http, channel, RIGHT) != "200":
                    wrong.append(f"after {number} inputs a right call was not served")

    await asyncio.gather(*(work(place) for place in range(CONNECTIONS)))
    async with grpc.aio.insecure_channel(over_grpc) as channel:
        if (
            await http_call(http, channel, RIGHT) != "200"
            or await grpc_infer(http, channel, RIGHT_GRPC) != "OK"
        ):
            wrong.append("at the end a right call was not served")
    return found, wrong


def is_wrong(status: str) -> bool:
    """Return whether a server may not answer so."""
    return status in WRONG or (status[0] == "5" and status != "503")


# Inputs

_WAVE = {"name": "wave", "shape": [1, 2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6.5]}
_TOKENS = {"name": "tokens", "shape": [1, 2], "datatype": "INT64", "data": [7, 8]}
_WORDS = {"name": "words", "shape": [1, 2], "datatype": "BYTES", "data": ["aé", ""]}
_WARMTH = {"name": "warmth", "shape": [1, 2], "datatype": "BF16", "data": [1, 2.5]}
_PARAMETERS = {"accuracy_slo": 0.5, "latency_slo_ms": "500", "priority": 1, "timeout": 400000, "tenant": "a"}
_JSON = json.dumps(
    {
        "id": "a",
        "inputs": [_WAVE, _TOKENS, _WORDS, _WARMTH],
        "parameters": _PARAMETERS,
        "outputs": [{"name": "y"}, {"name": "said"}],
    }
).encode()
_OFFER = json.dumps({"requests": 1, "modalities": ["sound", "caption"], "parameters": _PARAMETERS}).encode()
_FEEDBACK = json.dumps({"id": "a", "scores": [True, 0.5], "tenant": "a"}).encode()
_RAW_WORDS = b"\2\0\0\0\xff\0" + b"\0\0\0\0"
_RAW_HEAD = json.dumps(
    {
        "inputs": [
            {"name": "wave", "shape": [1, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}},
            {"name": "warmth", "shape": [1, 2], "datatype": "BF16", "parameters": {"binary_data_size": 4}},
            {"name": "words", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
        ],
        "parameters": {"binary_data_output": True},
    }
).encode()
_PATHS = [
    "/v2/models/m/infer",
    "/v2/models/m/versions/1/infer",
    "/v2/models/m/offer",
    "/v2/models/m/feedback",
    "/v2/repository/index",
    "/v2/repository/models/m/load",
    "/v2/models/m/stats",
    "/v2/models/m/config",
    "/v2",
    "/metrics",
    "/v2/health/ready",
]


def _request(path: str, body: bytes, header: str = "", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{header}\r\n"
    return head.encode() + body


RIGHT = _request("/v2/models/m/infer", _JSON.replace(b'"500"', b'"20000"').replace(b"400000", b"20000000"))


def _grpc_message() -> Any:
    made = message("ModelInferRequest")(model_name="m", raw_input_contents=[bytes(24), bytes(16)])
    made.raw_input_contents.extend([_RAW_WORDS, bytes(4)])
    made.inputs.add(name="wave", datatype="FP32", shape=[1, 2, 3])
    made.inputs.add(name="tokens", datatype="INT64", shape=[1, 2])
    made.inputs.add(name="words", datatype="BYTES", shape=[1, 2])
    made.inputs.add(name="warmth", datatype="BF16", shape=[1, 2])
    made.parameters["accuracy_slo"].double_param = 0.5
    made.parameters["latency_slo_ms"].string_param = "20000"
    made.parameters["priority"].uint64_param = 1
    made.outputs.add(name="y")
    return made


RIGHT_GRPC = bytes(_grpc_message().SerializeToString())
_METHODS = [name for name in methods() if name != "RepositoryModelUnload"]


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Return `raw` with a few bytes changed, left out, doubled or put in."""
    out = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(out) + 1)
        end = min(len(out), at + draw.choice((1, 1, 2, 8, 64)))
        change = draw.randrange(5)
        if change == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            del out[at:end]
        elif change == 2:
            out[at:at] = out[at:end]
        elif change == 3:
            out[at:at] = draw.choice(TOKENS)
        else:
            out[at:end] = draw.choice(TOKENS)
    return bytes(out)


def _numbers_changed(raw: bytes, draw: random.Random) -> bytes:
    """Return JSON in which some values are others, so that it parses and means something else."""
    return re.sub(rb"\d+(\.\d+)?|\"\w+\"", lambda m: draw.choice(TOKENS) if draw.random() < 0.08 else m[0], raw)


Send = Callable[[tuple[str, int], Any, bytes], Any]


def _bytes(draw: random.Random) -> tuple[bytes, Send]:
    return draw.randbytes(draw.choice((1, 16, 200, 4000))), http_bytes


def _wire(draw: random.Random) -> tuple[bytes, Send]:
    return mutated(_request(draw.choice(_PATHS), _JSON), draw), http_bytes


def _body(draw: random.Random) -> tuple[bytes, Send]:
    change = draw.choice((mutated, _numbers_changed))
    path = draw.choice((*_PATHS, _PATHS[0], _PATHS[0]))
    meant = _OFFER if path.endswith("offer") else _FEEDBACK if path.endswith("feedback") else _JSON
    return _request(path, change(meant, draw)), http_call


def _raw(draw: random.Random) -> tuple[bytes, Send]:
    head = mutated(_RAW_HEAD, draw) if draw.random() < 0.7 else _RAW_HEAD
    length = len(head) if draw.random() < 0.8 else draw.choice((-1, 0, 1, 10**9, len(head) + 3))
    words = mutated(_RAW_WORDS, draw) if draw.random() < 0.5 else _RAW_WORDS
    body = head + draw.randbytes(draw.choice((28, 28, 28, 27, 0, 48))) + words
    return _request(_PATHS[0], body, f"Inference-Header-Content-Length: {length}\r\n"), http_call


def _message(draw: random.Random) -> tuple[bytes, Send]:
    return mutated(RIGHT_GRPC, draw), grpc_infer


def _method(draw: random.Random) -> tuple[bytes, Send]:
    name = draw.choice(_METHODS)
    raw = draw.randbytes(draw.choice((0, 3, 40))) if draw.random() < 0.5 else mutated(b"\n\x01m", draw)
    return raw, lambda _, channel, sent: _grpc(channel, name, sent)


def _fields(draw: random.Random) -> tuple[bytes, Send]:
    made = _grpc_message()
    one = draw.choice(list(made.inputs))
    one.shape[draw.randrange(len(one.shape))] = draw.choice((-1, 0, 1, 2, 9, 2**31, 2**62, -(2**63)))
    if draw.random() < 0.3:
        at = draw.randrange(len(made.raw_input_contents))
        made.raw_input_contents[at] = mutated(made.raw_input_contents[at], draw)
    if draw.random() < 0.1:
        made.parameters["offered_requests"].int64_param = draw.choice((-1, 0, 1, 2**40))
        del made.inputs[draw.choice((0, 1)) :], made.raw_input_contents[:]
    if draw.random() < 0.3:
        one.datatype = draw.choice(
            ("BOOL", "FP16", "INT8", "UINT64", "BYTES", "BF16", "", "X" * 3000, "é" * 900)
        )
    if draw.random() < 0.3:
        del made.raw_input_contents[:]
        one.contents.fp32_contents.extend([float("nan")] * draw.randrange(9))
        one.contents.bytes_contents.extend([b"\xff"] * draw.randrange(3))
    if draw.random() < 0.3:
        name = draw.choice(("accuracy_slo", "latency_slo_ms", "timeout", "weight", "length", "tenant"))
        kind, value = draw.choice(
            (
                ("double_param", float("nan")),
                ("double_param", -1e300),
                ("int64_param", -(2**63)),
                ("uint64_param", 2**64 - 1),
                ("string_param", "9" * 500),
                ("bool_param", True),
            )
        )
        setattr(made.parameters[name], kind, value)
    return bytes(made.SerializeToString()), grpc_infer


SENDERS: dict[str, Callable[[random.Random], tuple[bytes, Send]]] = {
    "bytes": _bytes,
    "wire": _wire,
    "body": _body,
    "raw": _raw,
    "message": _message,
    "method": _method,
    "fields": _fields,
}


# Sending


async def http_call(http: tuple[str, int], _: Any, raw: bytes) -> str:
    """Send a request whose frame is right, and return the status of its answer."""
    reader, writer = await asyncio.open_connection(*http)
    try:
        writer.write(raw)
        line = await reader.readline()
        return line.split()[1].decode() if line else "closed"
    except OSError:
        return "closed"
    finally:
        writer.close()


async def http_bytes(http: tuple[str, int], _: Any, raw: bytes) -> str:
    """Send bytes, then nothing more, and return the status of the first answer if there is one."""
    reader, writer = await asyncio.open_connection(*http)
    try:
        writer.write(raw)
        writer.write_eof()
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", await reader.read(1 << 16))
        return max(found).decode() if found else "closed"
    except OSError:
        return "closed"
    finally:
        writer.close()


async def grpc_infer(_: tuple[str, int], channel: Any, raw: bytes) -> str:
    """Send bytes as a call for inference and return its status."""
    return await _grpc(channel, "ModelInfer", raw)


async def _grpc(channel: Any, method: str, raw: bytes) -> str:
    try:
        await channel.unary_unary(f"/{SERVICE}/{method}")(raw)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    main()
