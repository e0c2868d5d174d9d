"""mosel beside LitServe, BentoML, MLServer and Triton: a model that does nothing, through the whole path.

    python benchmarks/serving.py [--peers DIR] [--seconds 5] [--only mosel,…] [--quick] [--write] [--redraw]

DIR holds a virtual environment for each peer; `_peers.py` says how each is made and started. Without it mosel
is measured alone. Each server is started alone, on this machine, and loaded by the same `wrk` (Debian: apt
install wrk). The table goes to stdout. With --write, a run with every peer also writes its figures to
docs/results/serving.json and, from them, the table of docs/serving.md; --redraw writes the table alone anew.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from _page import machine, where, with_block
from _peers import FLOATS, JSON_BYTES, PEERS, Peer, running

from mosel.core.files import read_bytes, write_atomic

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "serving.json", DOCS / "serving.md"
FORMAT = "mosel.serving/1"

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
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--redraw", action="store_true")
    given = parser.parse_args()
    if given.redraw:
        redraw()
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; install it (Debian: apt install wrk)")
    seconds = 2 if given.quick else given.seconds
    load, servers = os.getloadavg()[0], {}
    for name in given.only.split(",") if given.peers else ["mosel"]:
        found = measure(PEERS[name], given.peers or Path(), seconds)
        servers[name] = {kind: figure._asdict() for kind, figure in found.items()}
    results = {
        "format": FORMAT, **machine("uvicorn", "uvloop", "msgspec", "orjson", "numpy"), "seconds": seconds,
        "load_before": round(load, 2), "servers": servers,
    }  # fmt: skip
    print(block(results))
    if given.write:
        if given.quick or servers.keys() != PEERS.keys():
            raise SystemExit("--write is for a whole run with every peer; leave out --quick and --only")
        write_atomic(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
        redraw()


def redraw() -> None:
    """Write the table of the page from the results."""
    results = json.loads(read_bytes(RESULTS, 1 << 20))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "serving", block(results)).encode())


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


def block(results: dict[str, Any]) -> str:
    """Return the table, and where it was measured."""
    figures = {
        name: {load: Figure(**one) for load, one in by.items()} for name, by in results["servers"].items()
    }
    said = (
        f"{where(results)}; wrk, {results['seconds']} s each; load average before: {results['load_before']:g}."
    )
    return "\n".join([*rows(figures), "", said])


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
