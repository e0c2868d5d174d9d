"""AV-digits behind mosel and behind five other servers, live, on the same arrivals, one after the other.

    python benchmarks/peers.py --peers DIR [--profile FILE] [--only "Triton,mosel, joint"] [--limit SECONDS]
    python benchmarks/peers.py --redraw

DIR holds a virtual environment for each peer; `_peers.py` and `_av_peers.py` say how each is made and started,
and with which settings. Each cell is one server on one load: started anew, sent the jobs open loop by the
client of `mosel replay`, and ended. Peers run all modalities, as they know nothing else. What counts is what
the client saw: a request is on time if its job's answer was there by its deadline, and right if the label says
so.

Cells are kept in docs/results/peers.json as they are done, and a further call goes on with those that are
missing; `--limit` begins none after so many seconds, `--fresh` begins anew. From them docs/results/peers.csv,
docs/assets/peers.svg and the table of docs/peers.md are written, with `--redraw` these alone. Nothing else
should run on the machine. `--quick` is one short cell a server that is not kept.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import uvloop
from _av_peers import WORD, Bodies, System, systems
from _page import machine
from _peer_page import LOADS, MEASURES, PEERS, write_page
from _peers import running

from mosel.client_wire import read_outputs
from mosel.core.files import write_atomic
from mosel.core.tables import read_profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.client import Reply
from mosel.evaluation.experiments.trials import paper_capacity_rps
from mosel.evaluation.payloads import HEADER_LENGTH, Payload, labelled_samples
from mosel.evaluation.receipts import Sent
from mosel.evaluation.replay import send_all
from mosel.models.registry import find
from mosel.online.serving import EngineConfig, server_cores
from mosel.runtime.device import pinned

PROFILE = Path(__file__).parents[1] / "profiles" / "av-digits-cpu.json"
FORMAT = "mosel.benchmark.peers/1"
SLO_S, DURATION_S, SEED = 0.5, 15.0, 1
GIVE_UP_S = 2.0


class Client:
    """Sends bodies to one address and keeps what comes back, unread."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def infer(self, payload: Payload) -> Reply:
        """Return the status, with the raw answer in place of a receipt."""
        headers = {"Content-Type": "application/json"}
        if payload.header_length:
            binary = "application/octet-stream"
            headers = {"Content-Type": binary, HEADER_LENGTH: str(payload.header_length)}
        async with self._session.post(self._url, data=payload.body, headers=headers) as response:
            raw = await response.read()
            return Reply(response.status, "", {"raw": raw, "header": response.headers.get(HEADER_LENGTH)})


async def replayed(system: System, url: str, jobs: Sequence[Job]) -> list[Sent]:
    """Send the jobs to a server that runs."""
    bodies = deque(system.make(job) for job in jobs)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        clients = {WORD: Client(session, url + system.url)}
        return await send_all(clients, {}, bodies, jobs, GIVE_UP_S, lambda _: None)


def cell_of(jobs: Sequence[Job], sent: Sequence[Sent]) -> dict[str, Any]:
    """Return what the client saw, in shares of requests."""
    labels = labelled_samples(find(WORD)).labels
    on_time = right = answered = 0
    took_s, lags_ms, statuses = [], [], Counter[str]()
    for job, one in zip(jobs, sent, strict=True):
        lags_ms.append((one.sent_ns - job.arrival_ns) / 1e6)
        statuses[str(one.reply.status) if one.reply else one.trouble or "given up"] += job.requests
        if one.reply is None or one.reply.status != 200 or one.received_ns is None:
            continue
        answered += job.requests
        took_s.append((one.received_ns - job.arrival_ns) / 1e9)
        if one.received_ns <= job.deadline_ns:
            on_time += job.requests
            right += int((scores(one.reply).argmax(axis=1) == labels[one.payload.indices]).sum())
    total = sum(job.requests for job in jobs)
    values = (
        on_time / total,
        right / total,
        answered / total,
        statistics.fmean(took_s) if took_s else None,
        float(np.percentile(took_s, 99)) if took_s else None,
        float(np.percentile(lags_ms, 99)),
    )
    return {"requests": total, **dict(zip(MEASURES, values, strict=True)), "statuses": dict(statuses)}


def scores(reply: Reply) -> Any:
    """Return the scores of an answer, (requests, 10), whatever form the server gave them."""
    raw, told = reply.receipt["raw"], reply.receipt["header"]
    found = orjson.loads(raw[: len(raw) if told is None else int(told)])
    if isinstance(found, dict) and "outputs" in found:
        (output,) = found["outputs"]
        if "data" in output:
            return np.array(output["data"]).reshape(output["shape"])
        return read_outputs(found["outputs"], memoryview(raw)[int(told) :])["scores"]
    return np.array(found["scores"] if isinstance(found, dict) else found)


def measure(name: str, given: argparse.Namespace, jobs: Sequence[Job]) -> dict[str, Any]:
    """Start a server, send it the jobs and return its cell."""
    system = systems(Bodies(), given.profile, SLO_S)[name]
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(system.peer, given.peers or Path(), Path(scratch)) as url,
        pinned(server_cores(EngineConfig())),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return cell_of(jobs, runner.run(replayed(system, url, jobs)))


def main() -> None:
    """Measure the cells that are missing, and write the page once none is."""
    given = arguments()
    if given.redraw:
        write_page()
        return
    names = list(systems(Bodies(), given.profile, SLO_S))
    wanted = [name for name in names if given.peers or name.startswith("mosel")]
    if given.only:
        wanted = [name for name in names if name in given.only]
    file = read_profile(given.profile)
    capacity = paper_capacity_rps(file.profile)
    settings = {
        "profile_sha256": file.sha256,
        "slo_s": SLO_S,
        "duration_s": DURATION_S,
        "capacity_rps": capacity,
    }

    def jobs_at(load: float, duration_s: float) -> Sequence[Job]:
        recipe = Recipe("bursty", duration_s, SEED, rate_rps=load * capacity, latency_slo_s=SLO_S)
        return generate(recipe, file.profile).jobs

    if given.quick:
        for name in wanted:
            print(name, measure(name, given, jobs_at(1.0, 4.0)), flush=True)
        return
    results = kept(settings, fresh=given.fresh)
    began = time.monotonic()
    for name, load in [(name, load) for load in LOADS for name in wanted]:
        if (name, load) not in done(results) and time.monotonic() - began < given.limit:
            found = measure(name, given, jobs_at(load, DURATION_S))
            results["cells"].append({"system": name, "load": load, **found})
            write_atomic(PEERS, json.dumps({**results, **machine("torch")}, indent=1) + "\n")
            print(name, load, found, flush=True)
    missing = len(names) * len(LOADS) - len(done(results))
    if missing:
        print(f"{missing} cells are missing; call this again")
    else:
        write_page()


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--profile", type=Path, default=PROFILE)
    parser.add_argument("--only", action="append", help="a system; may be repeated")
    parser.add_argument("--limit", type=float, default=float("inf"))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--redraw", action="store_true")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def kept(settings: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
    """Return the results so far, if they were measured with these settings; else none."""
    if PEERS.exists() and not fresh:
        found: dict[str, Any] = json.loads(PEERS.read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return found
        raise SystemExit(f"{PEERS} has other settings ({found['settings']}); go on with --fresh")
    return {"format": FORMAT, "settings": settings, "cells": []}


def done(results: dict[str, Any]) -> set[tuple[str, float]]:
    """Return which cells there are."""
    return {(cell["system"], cell["load"]) for cell in results["cells"]}


if __name__ == "__main__":
    main()
