"""mosel beside LitServe, BentoML, MLServer and Triton: a model that does nothing, through the whole path.

    python benchmarks/serving.py [--peers DIR] [--seconds 8] [--only mosel,triton] [--quick] [--json FILE]

DIR holds a virtual environment for each peer; `_peers.py` says how each is made and started. Without it mosel
is measured alone. Each server is started alone, on this machine, and loaded by the same `wrk` (Debian: apt
install wrk). The table goes to stdout, the figures and what they were measured on to FILE.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _page import machine, where
from _peers import FLOATS, JSON_BYTES, PEERS, Peer, running

CONNECTIONS, ALONE = 32, 1


class Figure(NamedTuple):
    """What `wrk` found: calls a second, and percentiles of the time that a call took."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


def main() -> None:
    """Measure each server and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; install it (Debian: apt install wrk)")
    seconds = 2 if given.quick else given.seconds
    found = {}
    for name in given.only.split(",") if given.peers else ["mosel"]:
        found[name] = measure(PEERS[name], given.peers or Path(), seconds)
    here = machine("uvicorn", "orjson", "numpy")
    print("\n".join(rows(found)))
    print(f"\n{where(here)}; wrk, {seconds} s each")
    if given.json:
        figures = {name: {load: one._asdict() for load, one in by.items()} for name, by in found.items()}
        given.json.write_text(json.dumps({**here, "servers": figures}, indent=1))


def measure(peer: Peer, folder: Path, seconds: int) -> dict[str, Figure]:
    """Return the figures of one server by the name of the load."""
    with tempfile.TemporaryDirectory() as scratch, running(peer, folder, Path(scratch)) as url:
        loads = {"json": (url + peer.path, peer.json_body(), {}, CONNECTIONS)}
        loads["alone"] = (*loads["json"][:3], ALONE)
        if peer.raw_path:
            body, headers = peer.raw_body()
            loads["raw"] = (url + peer.raw_path, body, headers, CONNECTIONS)
        for _ in range(2):  # the first seconds warm caches, pools and estimates
            wrk(Path(scratch), *loads["json"], seconds=2)
        return {name: wrk(Path(scratch), *load, seconds=seconds) for name, load in loads.items()}


def wrk(
    scratch: Path, url: str, body: bytes, headers: dict[str, str], connections: int, *, seconds: int
) -> Figure:
    """Load `url` and return what came of it."""
    (scratch / "body").write_bytes(body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = scratch / "load.lua"
    script.write_text(
        "\n".join(
            [
                'wrk.method = "POST"',
                f'wrk.body = io.open("{scratch}/body", "rb"):read("*a")',
                *lines,
                "done = function(summary, latency)",
                "  local e = summary.errors",
                '  print(string.format("FOUND %d %d %f %f %d", summary.requests, summary.duration,',
                "    latency:percentile(50), latency:percentile(99),",
                "    e.connect + e.read + e.write + e.status + e.timeout))",
                "end",
            ]
        )
    )
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    match = re.search(r"FOUND (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", said)
    assert match, said
    count, took_us, p50_us, p99_us, errors = (float(word) for word in match.groups())
    return Figure(count / took_us * 1e6, p50_us / 1000, p99_us / 1000, int(errors))


def rows(found: dict[str, dict[str, Figure]]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield (
        f"| server | JSON, {JSON_BYTES} bytes, {CONNECTIONS} connections: calls/s | p50 / p99 ms | "
        f"1 connection: p50 / p99 ms | raw, {FLOATS * 4 // 1000} kB, {CONNECTIONS} connections: calls/s |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for name, by in found.items():
        load, alone, raw = by["json"], by["alone"], by.get("raw")
        failed = sum(figure.errors for figure in by.values())
        yield (
            f"| {PEERS[name].label}{f' ({failed} errors)' if failed else ''} | {load.rate:,.0f} | "
            f"{load.p50_ms:.2f} / {load.p99_ms:.2f} | {alone.p50_ms:.2f} / {alone.p99_ms:.2f} | "
            f"{f'{raw.rate:,.0f}' if raw else '–'} |"
        )


if __name__ == "__main__":
    main()
