"""What a long queue does to those who ask: the event loop's lateness, and how soon a hopeless job is refused.

    python benchmarks/long_queue.py [--seconds S] [--policy NAME]

The live engine holds so many jobs with distant deadlines while others come and a worker (which runs nothing)
asks for batches. `on the loop` makes every decision on the event loop; `as served` lets those that take long
run beside it. What health checks see is the lateness; a refusal counts from when its job should have come. Read
the figures as ratios.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence

import numpy as np
import uvloop

from mosel.core.tables import Device, Mode, Profile
from mosel.core.types import Batch, Job
from mosel.models.base import Modality, Model, Tensor
from mosel.online.channel import ProfiledChannel, Report
from mosel.online.engine import Engine
from mosel.online.events import Finished
from mosel.online.policies import DEFAULT, Options
from mosel.online.serving import LEAD_NS, EngineConfig, ServedModel
from mosel.online.turns import LONG_NS

LENGTHS = (10, 100, 1000, 10_000)
NEVER_LONG = 1 << 62
SIZES = tuple(range(1, 17))
MODES = {"audio": (0.7, 1.0, 0.5), "video": (0.8, 4.0, 2.0), "audio+video": (0.9, 6.0, 3.0)}
"""Accuracy, milliseconds a batch, milliseconds a request."""

DISTANT_NS = 600_000_000_000
PAUSE_S, PROBE_S, REFUSED_EACH_S = 0.004, 0.002, 0.007
MODEL = Model(
    "m",
    tuple(Modality(name, (Tensor(name, "FP32", ()),)) for name in ("audio", "video")),
    (Tensor("y", "FP32", ()),),
    load=lambda _device, _precision: lambda **_: {},
    framework="numpy",
)


def profile() -> Profile:
    """Return a profile of three modes."""
    modes = tuple(
        Mode(tuple(name.split("+")), accuracy, accuracy, 1, row, row, [1] * len(SIZES))
        for name, (accuracy, fixed_ms, each_ms) in MODES.items()
        for row in [[(fixed_ms + each_ms * size) / 1000 for size in SIZES]]
    )
    device = Device("none", "host")
    return Profile(
        "mosel.profile/1",
        "m",
        ("audio", "video"),
        "accuracy",
        SIZES,
        modes,
        device,
        "float32",
        {},
        "2026-01-01",
    )


async def measure(length: int, policy: str, seconds: float, long_ns: int) -> tuple[list[float], list[float]]:
    """Return by how much the loop was late, and how long refusals took, in milliseconds."""
    made = profile()
    engine = Engine(
        [ServedModel("no:where", MODEL, made)],
        EngineConfig(policy=policy, options=Options(lead_ns=LEAD_NS)),
        channels=lambda worker, report: _worker(worker, report),
        long_ns=long_ns,
    )
    await engine.start()
    for number in range(length):
        _post(engine, f"held-{number}", DISTANT_NS + number)
    await asyncio.sleep(1)
    coming = asyncio.create_task(_arrivals(engine, seconds))
    late_ms, refused_ms = await asyncio.gather(_lateness(seconds), _refusals(engine, seconds))
    await coming
    await engine.stop()
    return late_ms, refused_ms


def _worker(worker: int, report: Report) -> ProfiledChannel:
    def behave(batch: Batch) -> tuple[int, Finished]:
        return batch.expected_ns, Finished(batch.id, batch.expected_ns)

    return ProfiledChannel(worker, report, behave)


def _post(engine: Engine, name: str, left_ns: int) -> "asyncio.Future[object]":
    now_ns = engine.now_ns()
    job = Job(name, "m", 3, 0.75, now_ns, now_ns + left_ns)
    inputs = {name: np.zeros(3, np.float32) for name in ("audio", "video")}
    return engine.post(job, inputs)  # type: ignore[return-value]


async def _arrivals(engine: Engine, seconds: float) -> None:
    rng = np.random.default_rng(0)
    until_s, number = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        await asyncio.sleep(float(rng.exponential(PAUSE_S)))
        _post(engine, f"new-{number}", DISTANT_NS)
        number += 1


async def _lateness(seconds: float) -> list[float]:
    late_ms, until_s = [], time.monotonic() + seconds
    while (began_s := time.monotonic()) < until_s:
        await asyncio.sleep(PROBE_S)
        late_ms.append((time.monotonic() - began_s - PROBE_S) * 1e3)
    return late_ms


async def _refusals(engine: Engine, seconds: float) -> list[float]:
    took_ms, due_s = [], time.monotonic()
    for number in range(round(seconds / REFUSED_EACH_S)):
        due_s += REFUSED_EACH_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await _post(engine, f"hopeless-{number}", 1)
        took_ms.append((time.monotonic() - due_s) * 1e3)
    return took_ms


def _quantiles(values: Sequence[float]) -> str:
    return "".join(f"{value:9.2f}" for value in np.percentile(values, (50, 99, 100)))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--policy", default=DEFAULT)
    given = parser.parse_args()
    print(f"{'':>8}{'':14}{'lateness, ms: p50, p99, max':>27}  {'refusal, ms: p50, p99, max':>27}")
    for length in LENGTHS:
        for name, long_ns in (("on the loop", NEVER_LONG), ("as served", LONG_NS)):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                late_ms, refused_ms = runner.run(measure(length, given.policy, given.seconds, long_ns))
            print(f"{length:>8,}  {name:12}{_quantiles(late_ms)}  {_quantiles(refused_ms)}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
