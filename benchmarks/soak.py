"""Memory, descriptors and processes of a server at full load: flat after the first minute, or a leak.

    python benchmarks/soak.py [--minutes 10] [--quick] [--write]

It starts `mosel serve` on the faulty model of `mosel chaos` (asked for no faults), loads it from as many
connections as keep it busy, and reads `/proc` of the server and its workers all the while. It fails if the
resident memory of one of them, between the first minute's end and the run's, moves by more than 5%, or if
descriptors, shared memory mappings or threads grow. `--quick` takes 20 seconds, the first quarter not counted,
and judges nothing. `--write` keeps the figures in docs/results/soak.json, for scripts/operations_page.py.
"""

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from _page import machine

from mosel.core.files import write_atomic
from mosel.evaluation.chaos.jobs import Sender
from mosel.evaluation.chaos.server import Server

CONNECTIONS = 16
EVERY_S = 1.0
ALLOWED = 0.05
HANG_S = 30.0
"""No worker is to be replaced on a machine that stands still for a moment."""

FORMAT = "mosel.soak/1"
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "soak.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """A process at one moment."""

    at_s: float
    resident_mib: float
    descriptors: int
    threads: int
    shared: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A process over the run, once it had settled: resident memory then and at the end, and what grew."""

    name: str
    before_mib: float
    after_mib: float
    first: Seen
    last: Seen
    problems: tuple[str, ...]


def main() -> None:
    """Run, print one line a process, and fail if one grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    words = parser.parse_args()
    seconds = 20.0 if words.quick else words.minutes * 60
    settle_s = seconds / 4 if words.quick else 60.0
    seen, jobs = asyncio.run(soak(seconds))
    judged = [judge(name, series, settle_s) for name, series in seen.items()]
    for one in judged:
        print(said(one))
    print(f"{jobs:,} jobs in {seconds:.0f} s, {jobs / seconds:,.0f} a second")
    if words.write:
        told = {"format": FORMAT, **machine(), "seconds": seconds, "jobs": jobs, "connections": CONNECTIONS}
        processes = [dataclasses.asdict(one) for one in judged]
        write_atomic(RESULTS, json.dumps({**told, "processes": processes}, indent=1) + "\n")
    problems = [problem for one in judged for problem in one.problems]
    if problems and not words.quick:
        sys.exit("; ".join(problems))


async def soak(seconds: float) -> tuple[dict[str, list[Seen]], int]:
    """Load a server for so long; returns what was seen of each process, and how many jobs were answered."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), hang_s=HANG_S)
        await server.start()
        try:
            async with aiohttp.ClientSession() as session:
                sender = Sender(session, server.url)
                until_s = time.monotonic() + seconds
                clients = [asyncio.create_task(_client(sender, until_s)) for _ in range(CONNECTIONS)]
                seen = await _watch(server, until_s)
                await asyncio.gather(*clients)
        finally:
            await server.close()
    assert not sender.tally.problems(None), sender.tally.problems(None)
    return seen, sender.tally.sent


def judge(name: str, series: list[Seen], settle_s: float) -> Judged:
    """Return what was seen of a process after it had settled, and what grew."""
    began_s = series[0].at_s
    settled = [one for one in series if one.at_s - began_s >= settle_s]
    part = max(1, len(settled) // 10)
    first, last = settled[:part], settled[-part:]
    before, after = (statistics.median(one.resident_mib for one in some) for some in (first, last))
    moved = after / before - 1
    found = [f"{name}: memory moved by {moved:+.1%}"] * (abs(moved) > ALLOWED)
    for what in ("descriptors", "threads", "shared"):
        most = max(getattr(one, what) for one in first)
        if statistics.median(getattr(one, what) for one in last) > most:
            found.append(f"{name}: {what} grew")
    return Judged(name, before, after, first[0], last[-1], tuple(found))


def said(one: Judged) -> str:
    """Return in one line what was seen of a process."""
    moved = one.after_mib / one.before_mib - 1
    memory = f"{one.before_mib:.1f} to {one.after_mib:.1f} MiB ({moved:+.1%})"
    return f"{one.name}: {memory}, {_counts(one.first)} to {_counts(one.last)}"


async def _client(sender: Sender, until_s: float) -> None:
    while time.monotonic() < until_s:
        await sender.send(2, slo_ms=500.0)


async def _watch(server: Server, until_s: float) -> dict[str, list[Seen]]:
    pids = {"server": server.pid, **{f"worker {i}": pid for i, pid in enumerate(server.workers())}}
    seen: dict[str, list[Seen]] = {name: [] for name in pids}
    while time.monotonic() < until_s:
        for name, pid in pids.items():
            seen[name].append(_look_at(pid))
        await asyncio.sleep(EVERY_S)
    return seen


def _look_at(pid: int) -> Seen:
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    shared = (folder / "maps").read_text().count("/memfd:mosel")
    return Seen(
        time.monotonic(),
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((folder / "fd").iterdir())),
        int(status["Threads"]),
        shared,
    )


def _counts(one: Seen) -> str:
    return f"{one.descriptors} descriptors, {one.threads} threads, {one.shared} segments"


if __name__ == "__main__":
    main()
