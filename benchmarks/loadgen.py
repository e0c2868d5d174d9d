"""MLPerf's load generator against mosel, and the client of `mosel replay` on the very same arrivals.

    python benchmarks/loadgen.py [PROFILE] [--quick]

LoadGen's Server scenario sends single requests of AV-digits, all modalities, at Poisson times, and measures how
long each takes. The times at which it sent them then are a workload, which is replayed at a server started
likewise; completion times are set side by side. A whole run also writes docs/results/loadgen.json and, from it,
a table of docs/peers.md. Nothing else should run on the machine.
"""

import argparse
import asyncio
import json
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import mlperf_loadgen as lg
import numpy as np
from _av_peers import WORD, Bodies, systems
from _page import machine
from _peer_page import LOADGEN, PERCENTILES, loadgen_block, write_page
from _peers import running

from mosel.core.clock import monotonic_ns
from mosel.core.files import write_atomic
from mosel.core.tables import read_profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import capacity_rps, full_mode
from mosel.evaluation.client import Client
from mosel.evaluation.replay import prebuilt, send_all
from mosel.online.serving import EngineConfig, server_cores
from mosel.runtime.device import pinned

PROFILE = Path(__file__).parents[1] / "profiles" / "av-digits-cpu.json"
FORMAT = "mosel.benchmark.loadgen/1"
POLICY, LOAD, SLO_S, DURATION_S = "none+batching", 0.5, 0.5, 30.0
PERFORMANCE_SAMPLES = 500

_SAID = re.compile(r"^(\d+\.\d+) percentile latency \(ns\)\s*: (\d+)", re.MULTILINE)


class Sut:
    """What LoadGen calls a system under test: sends each query to the server, and keeps when."""

    def __init__(self, url: str, accuracy_slo: float) -> None:
        self.sent_ns: list[int] = []
        self._url, self._accuracy_slo = url, accuracy_slo
        self._bodies = Bodies()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(self._opened(), self._loop).result()
        self._client = Client(self._session, url, WORD)
        self._ready = [self._bodies.v2(job_of(0, 0, accuracy_slo)) for _ in range(PERFORMANCE_SAMPLES)]

    def issue(self, queries: Sequence[Any]) -> None:
        """Send queries; LoadGen calls this in a thread of its own."""
        for query in queries:
            self.sent_ns.append(monotonic_ns())
            asyncio.run_coroutine_threadsafe(self._send(query.id, query.index), self._loop)

    def close(self) -> None:
        """End the loop."""
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _opened(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)

    async def _send(self, query: int, index: int) -> None:
        reply = await self._client.infer(self._ready[index % len(self._ready)])
        assert reply.status == 200, reply.error
        lg.QuerySamplesComplete([lg.QuerySampleResponse(query, 0, 0)])


def job_of(number: int, arrival_ns: int, accuracy_slo: float) -> Job:
    """Return a job of one request."""
    return Job(f"j{number}", WORD, 1, accuracy_slo, arrival_ns, arrival_ns + round(1e9 * SLO_S))


def generated(
    url: str, rate_rps: float, duration_s: float, accuracy_slo: float
) -> tuple[list[int], list[float]]:
    """Return when LoadGen sent its queries, from 0, and its percentiles of their latency in seconds."""
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    settings.server_target_qps = rate_rps
    settings.server_target_latency_ns = round(1e9 * SLO_S)
    settings.min_duration_ms = round(1000 * duration_s)
    settings.min_query_count = round(rate_rps * duration_s)
    sut = Sut(url, accuracy_slo)
    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir = folder
        logs = lg.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        library = lg.ConstructQSL(PERFORMANCE_SAMPLES, PERFORMANCE_SAMPLES, lambda _: None, lambda _: None)
        system = lg.ConstructSUT(sut.issue, lambda: None)
        lg.StartTestWithLogSettings(system, library, settings, logs)
        lg.DestroySUT(system)
        lg.DestroyQSL(library)
        sut.close()
        said = (Path(folder) / "mlperf_log_summary.txt").read_text()
    found = {float(share): int(value) / 1e9 for share, value in _SAID.findall(said)}
    return [at - sut.sent_ns[0] for at in sut.sent_ns], [found[share] for share in PERCENTILES]


def replayed(url: str, arrivals_ns: Sequence[int], accuracy_slo: float) -> list[float]:
    """Return the same percentiles as our client measures them, on the same arrivals."""
    bodies = Bodies()
    jobs = [job_of(number, at, accuracy_slo) for number, at in enumerate(arrivals_ns)]

    async def send() -> list[float]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as session:
            makers = {WORD: bodies.maker}
            sent = await send_all(
                {WORD: Client(session, url, WORD)}, makers, prebuilt(makers, jobs), jobs, None, _heard
            )
        assert all(one.reply and one.reply.status == 200 for one in sent)
        return [((one.received_ns or 0) - one.sent_ns) / 1e9 for one in sent]

    values: list[float] = np.percentile(asyncio.run(send()), PERCENTILES).tolist()
    return values


def _heard(_: int) -> None:
    """Take no notice of progress."""


def main() -> None:
    """Measure both and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", nargs="?", type=Path, default=PROFILE)
    parser.add_argument("--quick", action="store_true", help="a few seconds; nothing is written")
    given = parser.parse_args()
    profile = read_profile(given.profile).profile
    rate, slo = LOAD * capacity_rps(profile), full_mode(profile).accuracy
    peer = systems(Bodies(), given.profile, SLO_S)[f"mosel, {POLICY}"].peer
    both = []
    arrivals: list[int] = []
    for turn in range(2):
        with tempfile.TemporaryDirectory() as scratch, running(peer, Path(), Path(scratch)) as url:
            with pinned(server_cores(EngineConfig())):
                if turn == 0:
                    arrivals, found = generated(url, rate, 4.0 if given.quick else DURATION_S, slo)
                else:
                    found = replayed(url, arrivals, slo)
            both.append(found)
    results = {
        "format": FORMAT,
        **machine("mlcommons-loadgen"),
        "policy": POLICY,
        "queries": len(arrivals),
        "rate_rps": rate,
    }
    results |= {"loadgen_s": both[0], "replay_s": both[1]}
    print(loadgen_block(results))
    if not given.quick:
        write_atomic(LOADGEN, json.dumps(results, indent=1) + "\n")
        write_page()


if __name__ == "__main__":
    main()
