"""Workers on Ray beside workers of this machine: `python benchmarks/ray_engine.py [PROFILE] [--pairs N]`.

Throughput of AV-digits with all modalities when the queue is never empty: jobs of one request, without a server
in front. The two engines run in turn, so that a machine whose speed changes changes it for both; the ratio is
taken pair by pair. Then the same with two workers, where there are two CPU cores. A whole run also writes
docs/results/ray_engine.json and, from it, the table of docs/ray.md.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from _page import machine, where, with_block
from numpy.typing import NDArray

from mosel.core.files import write_atomic
from mosel.core.states import State
from mosel.core.tables import read_profile
from mosel.core.types import Job
from mosel.evaluation.payloads import labelled_samples
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.online.channel import ChannelFactory
from mosel.online.engine import Engine
from mosel.online.ray_channel import cluster, ray_channels
from mosel.online.serving import EngineConfig, ServedModel, process_channels, server_cores
from mosel.runtime.device import pinned

MODEL = "av-digits"
PROFILE = Path(__file__).parents[1] / "profiles" / "av-digits-cpu.json"
DOCS = Path(__file__).parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "ray_engine.json", DOCS / "ray.md"
FORMAT = "mosel.benchmark.ray_engine/1"
JOBS, UNTIL_NS = 800, 600_000_000_000

Arrays = dict[str, NDArray[Any]]


async def throughput(
    served: ServedModel, config: EngineConfig, channels: ChannelFactory, jobs: list[Arrays]
) -> float:
    """Return the requests a second that an engine of its own serves."""
    engine = Engine([served], config, channels=channels)
    await engine.start()
    try:
        began = time.perf_counter()
        answers = []
        for number, inputs in enumerate(jobs):
            now_ns = engine.now_ns()
            job = Job(f"j{number}", served.model.name, 1, 0.0, now_ns, now_ns + UNTIL_NS)
            answers.append(engine.post(job, inputs))
        states = {(await answer).receipt.outcome for answer in answers}
        assert states == {State.SERVED}, states
        return len(jobs) / (time.perf_counter() - began)
    finally:
        await engine.stop()


def compare(served: ServedModel, workers: int, pairs: int, jobs: list[Arrays]) -> dict[str, Any]:
    """Return the rates of both engines with so many workers, pair by pair."""
    config = EngineConfig(workers=workers, policy="none+batching")
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    with cluster("", config):
        for _ in range(pairs):
            for name, found in rates.items():
                channels = (
                    process_channels([served], config)
                    if name == "local"
                    else ray_channels([served], config, embedded=True)
                )
                with pinned(server_cores(config)), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    found.append(runner.run(throughput(served, config, channels, jobs)))
    return {"workers": workers, **rates}


def block(results: dict[str, Any]) -> str:
    """Return what the page shows of the results."""
    lines = [
        "| workers | local, requests/s | Ray, requests/s | Ray / local, pair by pair |",
        "| ---: | ---: | ---: | --- |",
    ]
    for row in results["runs"]:
        ratios = [ray / local for local, ray in zip(row["local"], row["ray"], strict=True)]
        local, ray = statistics.median(row["local"]), statistics.median(row["ray"])
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {row['workers']} | {local:.0f} | {ray:.0f} | {spread} |")
    pairs = len(results["runs"][0]["local"])
    text = f"{MODEL}, all modalities, {results['jobs']} jobs of one request a run, medians of {pairs} pairs"
    return "\n".join([*lines, "", f"{text}. {where(results)}."])


def requests_of(model: Model, count: int) -> list[Arrays]:
    """Return so many of the model's labelled samples as jobs of one request."""
    inputs = labelled_samples(model).inputs
    return [
        {
            tensor.name: np.asarray(inputs[modality.name][tensor.name][index], tensor.dtype)[None]
            for modality in model.modalities
            for tensor in modality.inputs
        }
        for index in range(count)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", nargs="?", type=Path, default=PROFILE)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair of few jobs")
    given = parser.parse_args()
    model = find(MODEL)
    jobs = requests_of(model, JOBS // 8 if given.quick else JOBS)
    served = ServedModel(MODEL, model, read_profile(given.profile).profile)
    runs = [compare(served, workers, 1 if given.quick else given.pairs, jobs) for workers in (1, 2)]
    results = {"format": FORMAT, **machine("ray", "torch"), "jobs": len(jobs), "runs": runs}
    print(block(results))
    if not given.quick:
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
        write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "throughput", block(results)))
