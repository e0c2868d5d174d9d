"""How long decisions take: each policy against the length of the queue, and the offline frontiers.

Figures are wall times on this machine; read the last column as a ratio. HiGHS solves the programme of §5.2 for
the same queue (one strategy a job, every prefix within its budget), once, without a gap.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.core.types import Job
from mosel.online.events import Arrived, WorkerReady
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from mosel.online.tables import ModelTable
from mosel.solve.assign import Options, exact
from mosel.solve.cover import frontiers
from mosel.solve.warm_up import warm_up

LENGTHS = (1, 10, 50, 100, 300, 1000)
WORKERS = (1, 4)
REPEATS = 5
HIGHS_MOST = 300
MS = 1_000_000

Strategies = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


def main() -> None:
    """Print all tables."""
    warm_up()
    console = Console()
    for workers in WORKERS:
        console.print(decisions(workers))
    console.print(against_highs())
    console.print(offline())


def decisions(workers: int) -> Table:
    """Median time of the decisions that fill the workers, per policy and queue length."""
    title = f"a decision, ms (median of {REPEATS}), {workers} worker{'s' * (workers > 1)}"
    table = Table("jobs waiting", title=title, title_justify="left")
    for policy in POLICIES:
        table.add_column(policy, justify="right")
    for length in LENGTHS:
        cells = [f"{decision_ms(policy, workers, length):.2f}" for policy in POLICIES]
        table.add_row(str(length), *cells)
    return table


def against_highs() -> Table:
    """The exact programme of §5.2 on one queue, by ours and by HiGHS; their totals have to agree."""
    table = Table("jobs waiting", title="the exact assignment, ms", title_justify="left")
    for name in ("strategies", "ours", "HiGHS", "HiGHS / ours"):
        table.add_column(name, justify="right")
    for length in LENGTHS:
        if length <= HIGHS_MOST:
            jobs, budget = programme(length)
            ours_ms = min(timed_ms(partial(exact, Options.of(jobs), budget)) for _ in range(REPEATS))
            highs_ms = by_highs(jobs, budget)
            strategies = sum(len(latency) for latency, _ in jobs)
            cells = f"{ours_ms:.2f}", f"{highs_ms:.1f}", f"{highs_ms / ours_ms:.0f}"
            table.add_row(str(length), str(strategies), *cells)
    return table


def decision_ms(policy: str, workers: int, length: int) -> float:
    """The median over a few queues; the worst is the next decision's, so none is left out."""
    took = []
    for seed in range(REPEATS):
        found = Scheduler({"m": profile()}, workers=workers, policy=policy, seed=seed)
        found.handle([Arrived(job) for job in queue(length, seed)], 0)
        ready = [WorkerReady(worker) for worker in range(workers)]
        took.append(timed_ms(lambda ready=ready, found=found: found.handle(ready, 0)))
    return float(np.median(took))


def by_highs(jobs: Strategies, budget: NDArray[np.int64]) -> float:
    """Time of HiGHS in ms."""
    counts = [len(latency) for latency, _ in jobs]
    starts = np.cumsum([0, *counts])
    owner = np.repeat(np.arange(len(jobs)), counts)
    latency = np.concatenate([one for one, _ in jobs])
    columns = np.arange(starts[-1])
    one = coo_array((np.ones(len(owner)), (owner, columns)), shape=(len(jobs), len(columns)))
    rows = np.concatenate([np.full(len(jobs) - i, k) for k, i in enumerate(owner)])
    below = np.concatenate([np.arange(i, len(jobs)) for i in owner])
    work = coo_array((latency[rows].astype(float), (below, rows)), shape=(len(jobs), len(columns)))
    rules = [LinearConstraint(one.tocsc(), 1, 1), LinearConstraint(work.tocsc(), -np.inf, budget)]
    cost = -np.concatenate([gain for _, gain in jobs])
    call = partial(milp, cost, integrality=np.ones(len(cost)), bounds=Bounds(0, 1), constraints=rules)
    begin_s = time.perf_counter()
    found = call(options={"mip_rel_gap": 0.0})
    took_ms = (time.perf_counter() - begin_s) * 1e3
    best = exact(Options.of(jobs), budget)
    assert best is not None
    assert abs(best.gain + found.fun) < 1e-6 * best.gain, "HiGHS and ours agree"
    return took_ms


def programme(length: int) -> tuple[Strategies, NDArray[np.int64]]:
    """The options and budgets of the jobs of the first queue that the drop rule keeps."""
    table, jobs, budget, spent = ModelTable(profile()), [], [], 0
    for job in sorted(queue(length, 0), key=lambda one: (one.deadline_ns, one.id)):
        found = table.frontier(0, table.every_mask, job.requests)
        first = int(np.searchsorted(found.accuracy, job.accuracy_slo * job.requests - 5e-10))
        if spent + found.latency_ns[first] <= job.deadline_ns:
            spent += int(found.latency_ns[first])
            jobs.append((found.latency_ns[first:], found.accuracy[first:]))
            budget.append(job.deadline_ns)
    return jobs, np.array(budget, np.int64)


def offline() -> Table:
    """Time of all exact frontiers of a model with 7 modes, batches and jobs of up to 64."""
    table = Table(title="offline: every frontier, all accuracy SLOs", title_justify="left")
    for name in ("modes × batches × job sizes", "points", "ms", "ms a job size"):
        table.add_column(name, justify="right")
    rng = np.random.default_rng(0)
    for modes, sizes in ((3, 16), (7, 16), (7, 64)):
        shape = rng.uniform(1, 8, (modes, 1)) + rng.uniform(0.5, 4, (modes, 1)) * np.arange(sizes + 1)
        latency = np.rint(MS * shape * rng.uniform(0.97, 1.03, shape.shape)).astype(np.int64)
        accuracy = np.sort(rng.uniform(0.6, 0.99, modes))
        found = frontiers(latency, accuracy, sizes)
        took_ms = min(timed_ms(partial(frontiers, latency, accuracy, sizes)) for _ in range(3))
        points = sum(len(frontier) for frontier in found)
        table.add_row(f"{modes} × {sizes} × {sizes}", str(points), f"{took_ms:.1f}", f"{took_ms / sizes:.2f}")
    return table


def queue(length: int, seed: int) -> list[Job]:
    """Jobs as the paper draws them (§7.1), due over about two thirds of the time that they would take."""
    rng = np.random.default_rng(seed)
    jobs = []
    for index in range(length):
        requests = max(1, int(rng.normal(1, 6)))
        due_ns = round((100 + 1000 * rng.uniform() * length * 0.02) * MS)
        jobs.append(Job(f"j{index}", "m", requests, float(rng.uniform(0.74, 0.995)), 0, due_ns))
    return jobs


def profile() -> Profile:
    """Seven modes with the costs and accuracies of a small audio-video-text model."""
    modes = {
        "text": (0.6, 0.74),
        "audio": (1.2, 0.93),
        "video": (12.0, 0.86),
        "text+audio": (1.7, 0.97),
        "text+video": (12.5, 0.94),
        "audio+video": (13.0, 0.99),
        "text+audio+video": (13.5, 0.995),
    }
    sizes = tuple(range(1, 17))

    def mode(name: str, first_ms: float, accuracy: float) -> Mode:
        latency_s = [first_ms * (0.6 + 0.4 * size) / 1000 for size in sizes]
        return Mode(tuple(name.split("+")), accuracy, accuracy, 0, latency_s, latency_s, [0] * len(sizes))

    found = tuple(mode(name, *what) for name, what in modes.items())
    names = ("text", "audio", "video")
    device = Device("none", "host")
    return Profile(PROFILE_FORMAT, "m", names, "accuracy", sizes, found, device, "float32", {}, "")


def timed_ms(call: Callable[[], object]) -> float:
    """Wall time of one call in milliseconds."""
    begin_s = time.perf_counter()
    call()
    return (time.perf_counter() - begin_s) * 1e3


if __name__ == "__main__":
    main()
