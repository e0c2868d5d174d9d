"""How fast the laboratory is: workloads through their file, and the simulator's own share of a simulation.

    .venv/bin/python benchmarks/simulator.py [JOBS] [--quick]    (default 200,000)
    .venv/bin/python benchmarks/simulator.py --fleet [--quick]

The driver is timed under a scheduler that only sends and completes, so that nothing is decided. With `--fleet`
the whole system is: `joint` over a million requests on 1,000 workers at 1.5 times what their full mode can do,
bursty, on the profile of `shapes.py` that is shaped like TVLT. `--quick` takes a tenth of everything.
"""

import argparse
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from shapes import SHAPES

from mosel.core.states import Reason, State
from mosel.core.tables import Device, Mode, Profile
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.recorded import read_run
from mosel.evaluation.results import Run, summarise, write_run
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import read_workload, write_workload
from mosel.online.events import Action, Arrived, Complete, Dispatch, Event, Finished
from mosel.online.scheduler import Scheduler

T = TypeVar("T")

LATENCY_S = tuple(0.0001 * size for size in range(1, 33))
MODE = Mode(("x",), 0.9, 0.9, 100, LATENCY_S, LATENCY_S, (1,) * 32)
PROFILE = Profile(
    "mosel.profile/1",
    "m",
    ("x",),
    "accuracy",
    tuple(range(1, 33)),
    (MODE,),
    Device("none", "host"),
    "float32",
    {},
    "2026-01-01T00:00:00Z",
)


class FirstCome:
    """Runs jobs one by one in order of arrival."""

    def __init__(self) -> None:
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._sent = 0

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Complete what is done and send the next."""
        actions: list[Action] = []
        for event in events:
            if isinstance(event, Arrived):
                self._queue.append(event.job)
            elif isinstance(event, Finished) and self._running:
                job, self._running = self._running, None
                receipt = Receipt(job, State.SERVED, Reason.ON_TIME, "", now_ns, now_ns, 0.9)
                actions.append(Complete(receipt))
        if self._queue and not self._running:
            self._running = job = self._queue.popleft()
            part = Part(job.id, tuple(range(job.requests)))
            actions.append(Dispatch(Batch(self._sent, 0, "m", "x", 0, (part,), 0)))
            self._sent += 1
        return actions


def main() -> None:
    """Time each step and print jobs per second."""
    words = _words()
    if words.fleet:
        fleet(*((100_000, 100) if words.quick else (1_000_000, 1000)))
    else:
        laboratory(20_000 if words.quick else words.jobs)


def fleet(requests: int, workers: int) -> None:
    """Time a whole simulation of so many requests on so many workers."""
    profile = SHAPES["tvlt"]
    rate_rps = 1.5 * workers * capacity_rps(profile)
    made = generate(Recipe("bursty", requests / rate_rps, rate_rps=rate_rps, latency_slo_s=1.0), profile)
    tables = {profile.model: profile}
    scheduler = Scheduler(tables, workers=workers)
    done = _timed(
        "simulate a fleet", len(made.jobs), lambda: simulate(scheduler, tables, made, Conditions(workers))
    )
    on_time = summarise(Run("joint", workers, 0, done.jobs, done.batches)).on_time
    print(
        f"{made.requests:,} requests of {len(made.jobs):,} jobs on {workers:,} workers, {on_time:.3f} on time"
    )


def laboratory(jobs: int) -> None:
    """Time each step around a scheduler that decides nothing."""
    recipe = Recipe("poisson", jobs / 1000, rate_rps=3100.0)
    made = _timed("generate", jobs, lambda: generate(recipe, PROFILE))
    jobs = len(made.jobs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workload.csv"
        _timed("write workload.csv", jobs, lambda: write_workload(made, path))
        read = _timed("read workload.csv", jobs, lambda: read_workload(path, {"m": ("x",)}))
        done = _timed("simulate", jobs, lambda: simulate(FirstCome(), {"m": PROFILE}, read, Conditions()))
        run = Run("first come", 1, 0, done.jobs, done.batches)
        _timed("write run", jobs, lambda: write_run(run, Path(folder) / "run"))
        _timed("read run", jobs, lambda: read_run(Path(folder) / "run"))


def _timed(name: str, jobs: int, step: Callable[[], T]) -> T:
    start_s = perf_counter()
    result = step()
    took_s = perf_counter() - start_s
    print(f"{name:<20} {took_s:7.2f} s  {jobs / took_s:10,.0f} jobs/s")
    return result


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "jobs", type=int, nargs="?", default=200_000, help="how many jobs the laboratory handles"
    )
    parser.add_argument("--fleet", action="store_true", help="time a simulation of many workers instead")
    parser.add_argument("--quick", action="store_true", help="a tenth of either")
    return parser.parse_args()


if __name__ == "__main__":
    main()
