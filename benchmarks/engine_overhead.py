"""What the engine and a worker process add to a batch: a model that does nothing, one job after the other.

`python benchmarks/engine_overhead.py [--jobs N] [--uvloop]` prints, for each size of input, how long a job
takes from `submit` to its answer when nothing else is there, and how long each takes when they queue.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import uvloop

from mosel.core.states import Reason, State
from mosel.core.tables import Device, Mode, Profile
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.models.base import Modality, Model, Tensor
from mosel.online.engine import Engine
from mosel.online.events import Action, Arrived, Complete, Dispatch, Event, Finished
from mosel.online.serving import EngineConfig, ServedModel, server_cores
from mosel.runtime.device import pin

BATCH_SIZES = (1, 2, 4, 8)


def model_of(floats: int) -> Model:
    """Return a model whose input has this many floats and which returns their first one."""
    return Model(
        name="nothing",
        modalities=(Modality("data", (Tensor("x", "FP32", (floats,)),)),),
        outputs=(Tensor("y", "FP32", (1,)),),
        load=lambda _device, _precision: lambda x: x[:, :1],
        framework="numpy",
    )


small, large = model_of(64), model_of(1 << 20)


def profile() -> Profile:
    """Return a profile that expects next to nothing."""
    latency_s = [2e-5] * len(BATCH_SIZES)
    mode = Mode(("data",), 0.9, 0.9, 1, latency_s, latency_s, [0] * len(BATCH_SIZES))
    return Profile(
        format="mosel.profile/1",
        model="nothing",
        modalities=("data",),
        metric="accuracy",
        batch_sizes=BATCH_SIZES,
        modes=(mode,),
        device=Device("none", "host"),
        precision="float32",
        software={},
        measured_at="",
    )


class Fifo:
    """Runs every job alone, in the order in which they came: decisions that cost nothing."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._count = 0

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Send the next job when the last one is done."""
        actions: list[Action] = []
        for event in events:
            if isinstance(event, Arrived):
                self._waiting.append(event.job)
            elif isinstance(event, Finished) and self._running is not None:
                receipt = Receipt(self._running, State.SERVED, Reason.ON_TIME, "", now_ns, now_ns, 0.9)
                actions.append(Complete(receipt))
                self._running = None
        if self._waiting and self._running is None:
            self._running = self._waiting.popleft()
            parts = (Part(self._running.id, (0,)),)
            actions.append(Dispatch(Batch(self._count, 0, "nothing", "data", 0, parts, 20_000)))
            self._count += 1
        return actions


async def measure(name: str, jobs: int) -> None:
    """Print one line for the model called `name` in this file."""
    model: Model = globals()[name]
    floats = model.modalities[0].inputs[0].shape[0]
    pin(server_cores(EngineConfig()))  # as `mosel serve` does
    engine = Engine([ServedModel(f"benchmarks.engine_overhead:{name}", model, profile())], scheduler=Fifo())
    inputs = {"x": np.zeros((1, floats), np.float32)}
    await engine.start()
    try:
        alone_us = [await one(engine, inputs, i) for i in range(jobs)][jobs // 10 :]
        began = time.perf_counter()
        await asyncio.gather(*(one(engine, inputs, i) for i in range(jobs)))
        each_us = (time.perf_counter() - began) / jobs * 1e6
        p50, p99 = statistics.median(alone_us), statistics.quantiles(alone_us, n=100)[98]
        size = f"{4 * floats / 1024:,.0f} KiB"
        print(f"{size:>10}{p50:>12.0f}{p99:>12.0f}{each_us:>12.0f}", flush=True)
    finally:
        await engine.stop()


async def one(engine: Engine, inputs: dict[str, Any], number: int) -> float:
    """Serve one job and return how long it took, in microseconds."""
    now_ns = engine.now_ns()
    job = Job(f"j{number}", "nothing", 1, 0.5, now_ns, now_ns + 60_000_000_000)
    began = time.perf_counter()
    answer = await engine.submit(job, inputs)
    took_s = time.perf_counter() - began
    assert answer.outputs is not None, answer.receipt
    return took_s * 1e6


def run(main: Coroutine[Any, Any, None], *, fast: bool) -> None:
    """Run on the usual event loop, or on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if fast else None) as runner:
        runner.run(main)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    print(f"{'input':>10}{'p50 µs':>12}{'p99 µs':>12}{'queued µs':>12}")
    with contextlib.suppress(KeyboardInterrupt):
        for name, share in (("small", 1), ("large", 10)):
            run(measure(name, given.jobs // share), fast=given.uvloop)
    sys.exit(0)
