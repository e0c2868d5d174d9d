"""How fast an overloaded server refuses, however long its queue: the bar is 10 ms.

    python benchmarks/overload.py [--quick] [--write] [--redraw]

The queue is filled with jobs that may wait for minutes, until the server refuses more work (`queue_s`); then
jobs go on coming, and the time from sending each to its 503 is measured, once for every length of the queue.
The load comes from this machine too, and answering shares its cores with everything else. A whole run with
--write also writes docs/results/overload.json and, from it, a table of docs/serving.md.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from _page import machine, where, with_block

from mosel.core.files import allow_open_files, read_bytes, write_atomic
from mosel.evaluation.chaos.jobs import Sender
from mosel.evaluation.chaos.server import Server, read_metrics

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "overload.json", DOCS / "serving.md"
FORMAT = "mosel.overload/1"
QUEUES_S = (1.0, 4.0, 16.0)
REFUSALS = 400
REQUESTS, JOB_S = 16, 0.01
"""Requests in a job, and the work that it is: jobs come three times as fast as they can be served."""

PAUSE_S = JOB_S / 3


def main() -> None:
    """Print one line a length of the queue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--redraw", action="store_true")
    given = parser.parse_args()
    if given.redraw:
        redraw()
        return
    allow_open_files()
    load, found = os.getloadavg()[0], []
    for queue_s in QUEUES_S[:1] if given.quick else QUEUES_S:
        queued, took_ms = asyncio.run(refusals(queue_s, REFUSALS // 4 if given.quick else REFUSALS))
        p50_ms, p99_ms = np.quantile(took_ms, [0.5, 0.99]).tolist()
        row = {"queue_s": queue_s, "queued": queued, "refusals": len(took_ms), "p50_ms": p50_ms}
        found.append({**row, "p99_ms": p99_ms})
    results = {"format": FORMAT, **machine("uvicorn", "uvloop"), "load_before": round(load, 2), "rows": found}
    print(block(results))
    if given.write and not given.quick:
        write_atomic(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
        redraw()


def redraw() -> None:
    """Write the table of the page from the results."""
    results = json.loads(read_bytes(RESULTS, 1 << 20))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "overload", block(results)).encode())


def block(results: dict[str, Any]) -> str:
    """Return the table, and where it was measured."""
    lines = ["| work queued, s | jobs queued | refusals | p50, ms | p99, ms |", "| ---: " * 5 + "|"]
    for row in results["rows"]:
        counts = f"{row['queue_s']:g} | {row['queued']:,.0f} | {row['refusals']}"
        lines.append(f"| {counts} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} |")
    return "\n".join([*lines, "", f"{where(results)}; load average before: {results['load_before']:g}."])


async def refusals(queue_s: float, count: int) -> tuple[int, list[float]]:
    """Fill a queue and measure so many refusals, in ms; also how many jobs were queued at the end."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), settings=f"queue_s = {queue_s}\n")
        await server.start()
        connector, limit = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout()
        async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
            sender = Sender(session, server.url)
            jobs = [asyncio.create_task(_timed(sender)) for _ in range(int(1.2 * queue_s / JOB_S))]
            await asyncio.sleep(1 + queue_s / 4)
            first = len(jobs)
            while len([job for job in jobs[first:] if job.done()]) < count:
                jobs.append(asyncio.create_task(_timed(sender)))
                await asyncio.sleep(PAUSE_S)
            queued = (await read_metrics(session, server)).total("mosel_queued_jobs")
            took_ms = [took for job in jobs[first:] if job.done() and (took := job.result()) is not None]
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        await server.close()
    return queued, took_ms[-count:]


async def _timed(sender: Sender) -> float | None:
    """Send a job; how long its refusal took, in ms, or None if it was not refused."""
    began_s = time.perf_counter()
    reply = await sender.send(REQUESTS, slo_ms=600_000.0)
    refused = reply is not None and reply.status == 503
    return 1000 * (time.perf_counter() - began_s) if refused else None


if __name__ == "__main__":
    main()
