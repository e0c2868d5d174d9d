"""What one front door carries: real calls through a real door to a group whose model does nothing.

    python benchmarks/front_door.py [--seconds 5] [--quick] [--redraw]

A door only reads of a call what it takes to choose a group, and hands it on. All processes share this machine's
cores, so that the rate of calls says little; what counts is how long each call keeps the door's process on the
CPU, which says how many calls a door with a core of its own would carry; beside it the same of the group, which
has a scheduler. HTTP is loaded by `wrk`, gRPC by a client in this process. A whole run writes
docs/results/front_door.json and the table of docs/scaling.md.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
from _page import machine, where, with_block
from _peers import FLOATS, JSON_BYTES, PEERS, Words, free_port, running
from serving import CONNECTIONS, wrk

from mosel.core.files import read_bytes, write_atomic
from mosel.evaluation.chaos.server import DOOR, GROUP, descendants
from mosel.frontend.oip import SERVICE, message

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "front_door.json", DOCS / "scaling.md"
FORMAT = "mosel.front_door/1"
NAMES = {
    "json": f"HTTP, JSON of {JSON_BYTES} bytes",
    "raw": f"HTTP, tensors of {FLOATS * 4 // 1000} kB",
    "grpc": "gRPC, 4 floats",
}


def main() -> None:
    """Measure and write the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a second each; writes nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="only write the table, from the results there are"
    )
    given = parser.parse_args()
    if given.redraw:
        redraw()
        return
    calls = measured(1 if given.quick else given.seconds)
    results = {"format": FORMAT, **machine("uvicorn", "uvloop", "grpcio"), "calls": calls}
    print(block(results))
    if not given.quick:
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
        redraw()


def redraw() -> None:
    """Write the table of the page from the results."""
    results = json.loads(read_bytes(RESULTS, 1 << 20))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "door-calls", block(results)))


def measured(seconds: int) -> dict[str, Mapping[str, float]]:
    """Return for each kind of call its rate, and the CPU time that it takes of the door and of the group."""
    peer, port = PEERS["plain"], free_port()

    def prepare(folder: Path, venvs: Path, http: int) -> tuple[Words, Mapping[str, str]]:
        words, environ = peer.prepare(folder, venvs, http)
        more = ["--groups", "1", "--front-doors", "1", "--grpc", f"127.0.0.1:{port}"]
        return [*words, *more], environ

    with (
        tempfile.TemporaryDirectory() as name,
        running(replace(peer, prepare=prepare), Path(), Path(name)) as url,
    ):
        body, headers = peer.raw_body()

        async def json_calls(for_s: int) -> float:
            found = await asyncio.to_thread(
                wrk, Path(name), url + peer.path, peer.json_body(), {}, CONNECTIONS, seconds=for_s
            )
            return found.rate * for_s

        async def raw_calls(for_s: int) -> float:
            found = await asyncio.to_thread(
                wrk, Path(name), url + peer.raw_path, body, headers, CONNECTIONS, seconds=for_s
            )
            return found.rate * for_s

        async def grpc_calls(for_s: int) -> float:
            return await over_grpc(f"127.0.0.1:{port}", for_s)

        kinds = {"json": json_calls, "raw": raw_calls, "grpc": grpc_calls}
        return {kind: asyncio.run(cost(load, seconds)) for kind, load in kinds.items()}


async def cost(load: Callable[[int], Awaitable[float]], seconds: int) -> dict[str, float]:
    """Return the rate of a load, and what each of its calls takes of the CPU time of either process, in µs."""
    await load(1)
    before, began_s = [cpu_s(module) for module in (DOOR, GROUP)], time.monotonic()
    calls = await load(seconds)
    took_s = time.monotonic() - began_s
    door_s, group_s = (cpu_s(module) - was for module, was in zip((DOOR, GROUP), before, strict=True))
    return {"rate": calls / took_s, "door_us": door_s / calls * 1e6, "group_us": group_s / calls * 1e6}


def cpu_s(module: str) -> float:
    """Return the CPU time so far of the server's process that runs a module."""
    for pid in descendants(os.getpid()):
        if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise SystemExit(f"no process runs {module}")


async def over_grpc(address: str, seconds: int) -> float:
    """Call for so long, as many at once as there are connections over HTTP; return how many calls it were."""
    made = message("ModelInferRequest")(model_name="noop", raw_input_contents=[bytes(16)])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    raw, until_s = made.SerializeToString(), time.monotonic() + seconds

    async def stream(call: Any) -> int:
        count = 0
        while time.monotonic() < until_s:
            await call(raw)
            count += 1
        return count

    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return sum(await asyncio.gather(*(stream(call) for _ in range(CONNECTIONS))))


def block(results: dict[str, Any]) -> str:
    """Return the table, and where it was measured."""
    return "\n".join([*_lines(results["calls"]), "", f"{where(results)}; {CONNECTIONS} calls under way."])


def _lines(calls: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "| call | CPU time of the door, µs | so many a core carries a second | CPU time of the group, µs |"
    yield "| --- | ---: | ---: | ---: |"
    for kind, found in calls.items():
        door_us, group_us = found["door_us"], found["group_us"]
        yield f"| {NAMES[kind]} | {door_us:.0f} | {1e6 / door_us:,.0f} | {group_us:.0f} |"


if __name__ == "__main__":
    main()
