"""How long a decision takes, against the length of the queue, beside GEKKO, HiGHS and CP-SAT in the same run.

    .venv/bin/python benchmarks/decision_time.py [--quick] [--redraw]

Every solver gets the same queues: one strategy a job, the most accuracy, every job on time (§5.2 with every
deadline). Times are wall times on this machine: read them as ratios. A solver that took more than 20 s is not
asked again. A whole run also writes docs/results/decision_time.json and, from it, the plot and the table of
docs/decision-time.md; `--redraw` writes these from the results that are there, `--quick` nothing.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _loglog import Line, Plot, svg
from _page import machine, where, with_block
from _rivals import MODULES, Ints, Rival
from msgspec import structs
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mosel.core.files import read_bytes, write_atomic
from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.core.types import Job
from mosel.online.events import Arrived, WorkerReady
from mosel.online.policies import POLICIES
from mosel.online.policies.base import Decision, View
from mosel.online.scheduler import Scheduler
from mosel.online.tables import ModelTable
from mosel.solve.assign import Options, Search, greedy
from mosel.solve.reaching import cheapest_reaching
from mosel.solve.warm_up import warm_up

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE, PICTURE = (
    DOCS / "results" / "decision_time.json",
    DOCS / "decision-time.md",
    DOCS / "assets" / "decision_time.svg",
)
FORMAT = "mosel.decision_time/1"
LENGTHS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
QUICK = (1, 10, 100, 1000)
QUEUES = 5
MOST_REPEATS, REPEATS_S = 15, 0.5
"""Ours are timed up to so often a queue, for so long, and the least time counts; others once."""

NO_CAP = 1 << 50
MS = 1_000_000
OURS = ("greedy", "exact", "late", "optimized", "joint")
COLOURS = {
    "greedy": ("#8250df", "#bc8cff"),
    "exact": ("#1a7f37", "#56d364"),
    "optimized": ("#1b7c83", "#56d4dd"),
    "joint": ("#0969da", "#58a6ff"),
    "HiGHS": ("#bf8700", "#e3b341"),
    "CP-SAT": ("#6e7781", "#8b949e"),
    "GEKKO": ("#cf222e", "#ff7b72"),
}
"""By line of the plot, on light and on dark ground."""

Queue = tuple[Options, Ints]


def main() -> None:
    """Run or read the results, print them and write what the docs show."""
    words = _words()
    if not words.redraw:
        results = run(words.quick)
        for table in tables(results):
            Console().print(table)
        if words.quick:
            return
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    results = json.loads(read_bytes(RESULTS))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "queues", block(results)))
    write_atomic(PICTURE, svg(plot(results)))


def run(quick: bool) -> dict[str, Any]:
    """Time every solver and policy on queues of every length."""
    warm_up()
    lengths = QUICK if quick else LENGTHS
    rivals = [Rival(name) for name in MODULES]
    first = programme(1, 0)
    for rival in rivals:
        rival.solve("queue", *first)  # what is loaded at the first call counts for nobody
    rows, decisions = [], []
    for length in track(lengths, "queues", console=Console(stderr=True)):
        rows.append(measured(length, rivals, 1 if quick else 3))
        for workers in (1, 4) if length <= 1000 else ():
            times_ms = {policy: handled_ms(policy, workers, length) for policy in POLICIES}
            decisions.append({"jobs": length, "workers": workers, "ms": times_ms})
    for rival in rivals:
        rival.close()
    ran = machine("numpy", "numba", "highspy", "ortools", "gekko")
    return {"format": FORMAT, **ran, "queues": rows, "decisions": decisions}


def measured(length: int, rivals: list[Rival], asked: int) -> dict[str, Any]:
    """Return the median time over queues of one length by each solver, and by how much each falls short."""
    count = QUEUES if length <= 1000 else 2
    queues = [programme(length, seed) for seed in range(count)]
    times_ms: dict[str, float | None] = {}
    short: dict[str, float | None] = {}
    totals, exact_ms = zip(*(exactly(queue) for queue in queues), strict=True)
    found = [greedy(*queue) for queue in queues]
    pairs = [(near.gain, near.gap, total) for near, total in zip(found, totals, strict=True) if near]
    times_ms["greedy"] = median(least_ms(partial(greedy, *queue)) for queue in queues)
    times_ms["exact"] = median(exact_ms)
    times_ms["late"] = median(late_ms(queue) for queue in queues) if 1 < length <= 3000 else None
    for policy in ("optimized", "joint"):
        times_ms[policy] = median(decided_ms(policy, length, seed) for seed in range(count))
    short["greedy"] = float(np.mean([1 - gain / total for gain, _, total in pairs]))
    short["bound"] = float(np.mean([gap for _, gap, _ in pairs]))
    for rival in rivals:
        answers = list(_asked(rival, queues[:asked], totals))
        times_ms[rival.name] = median(took_ms for took_ms, _ in answers) if answers else None
        known = [one for _, one in answers if one is not None]
        short[rival.name] = float(np.mean(known)) if known else None
    strategies = round(median(len(options.gain) for options, _ in queues))
    return {"jobs": length, "strategies": strategies, "ms": times_ms, "short": short}


def _asked(
    rival: Rival, queues: list[Queue], totals: tuple[float, ...]
) -> Iterator[tuple[float, float | None]]:
    """Yield (time, relative shortfall, None if nothing was found) until the rival is too slow."""
    for queue, total in zip(queues, totals, strict=False):
        if rival.asked:
            took_s, found = rival.solve("queue", *queue)
            yield took_s * 1e3, None if found is None else 1 - found / total


def exactly(queue: Queue) -> tuple[float, float]:
    """Return the best total and the time that it takes without a cap."""
    found = []
    took_ms = least_ms(lambda: found.append(Search().best(*queue, NO_CAP)))
    assert found[0] is not None, "queues hold what fits"
    assert found[0].gap == 0
    return found[0].gain, took_ms


def late_ms(queue: Queue) -> float:
    """Return the time of the exact answer when one more job arrives behind all, whose states are kept."""
    (options, budget_ns), took = queue, []
    for _ in range(5 if options.jobs <= 1000 else 1):
        search = Search()
        search.best(options.first(options.jobs - 1), budget_ns[:-1], NO_CAP)
        took.append(timed_ms(lambda search=search: search.best(options, budget_ns, NO_CAP)))
    return min(took)


def decided_ms(policy: str, length: int, seed: int) -> float:
    """Return the time of a policy's whole answer for one worker and such a queue."""
    took = []

    def decide(view: View) -> Decision:
        took.append(least_ms(lambda: POLICIES[policy].decide(structs.replace(view, search=Search()))))
        return POLICIES[policy].decide(view)

    POLICIES["timed"] = replace(POLICIES[policy], decide=decide)
    found = Scheduler({"m": profile()}, policy="timed", seed=seed)
    found.handle([Arrived(job) for job in queue(length, seed)], 0)
    found.handle([WorkerReady(0)], 0)
    del POLICIES["timed"]
    return took[0]


def handled_ms(policy: str, workers: int, length: int) -> float:
    """Return the median time of the decisions that fill idle workers, all of the scheduler's work included."""
    took = []
    for seed in range(QUEUES):
        found = Scheduler({"m": profile()}, workers=workers, policy=policy, seed=seed)
        found.handle([Arrived(job) for job in queue(length, seed)], 0)
        ready = [WorkerReady(worker) for worker in range(workers)]
        took.append(timed_ms(lambda ready=ready, found=found: found.handle(ready, 0)))
    return median(took)


def programme(length: int, seed: int) -> Queue:
    """The options and budgets of the first jobs of a queue, so many that the drop rule keeps."""
    table, jobs, budget, spent = ModelTable(profile()), [], [], 0
    for job in sorted(queue(length, seed), key=lambda one: (one.deadline_ns, one.id)):
        found = table.frontier(0, table.every_mask, job.requests)
        first = cheapest_reaching(found, job.accuracy_slo * job.requests)
        if spent + found.latency_ns[first] <= job.deadline_ns:
            spent += int(found.latency_ns[first])
            jobs.append((found.latency_ns[first:], found.accuracy[first:]))
            budget.append(job.deadline_ns)
    return Options.of(jobs), np.array(budget, np.int64)


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


def least_ms(call: Callable[[], object]) -> float:
    """The least of several wall times of a call, in milliseconds."""
    took = [timed_ms(call)]
    while len(took) < MOST_REPEATS and sum(took) < REPEATS_S * 1e3:
        took.append(timed_ms(call))
    return min(took)


def timed_ms(call: Callable[[], object]) -> float:
    """Wall time of one call in milliseconds."""
    begin_s = time.perf_counter()
    call()
    return (time.perf_counter() - begin_s) * 1e3


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables for the terminal."""
    for title, heads, rows in (
        ("a decision, ms", HEADS, _rows(results)),
        ("answers", SHORT_HEADS, _short_rows(results)),
    ):
        table = Table(*heads, title=title, title_justify="left")
        for cells in rows:
            table.add_row(*cells)
        yield table
    title = "all that the scheduler does to fill idle workers, ms"
    table = Table("jobs waiting", "workers", *POLICIES, title=title, title_justify="left")
    for row in results["decisions"]:
        cells = [f"{row['ms'][policy]:.2f}" for policy in POLICIES]
        table.add_row(str(row["jobs"]), str(row["workers"]), *cells)
    yield table


HEADS = ("jobs", "strategies", *OURS, *MODULES)
SHORT_HEADS = ("jobs", "greedy, short of exact", "greedy's own bound", "GEKKO, short of exact")


def _rows(results: dict[str, Any]) -> Iterator[list[str]]:
    for row in results["queues"]:
        ours = [_ms(row["ms"][name]) for name in OURS]
        others = [_ms(row["ms"][name], found=row["short"][name] is not None) for name in MODULES]
        yield [f"{row['jobs']:,}", f"{row['strategies']:,}", *ours, *others]


def _short_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    for row in results["queues"]:
        yield [f"{row['jobs']:,}", *(_share(row["short"][name]) for name in ("greedy", "bound", "GEKKO"))]


def _ms(took_ms: float | None, *, found: bool = True) -> str:
    if took_ms is None:
        return "–"
    if not found:
        return "none"
    return f"{took_ms:,.0f}" if took_ms >= 100 else f"{took_ms:.3g}"


def _share(part: float | None) -> str:
    return "–" if part is None else f"{max(part, 0):.3%}"


def block(results: dict[str, Any]) -> str:
    """The tables as the page shows them."""
    lines = []
    for heads, rows in ((HEADS, _rows(results)), (SHORT_HEADS, _short_rows(results))):
        lines += [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
        lines += [*(f"| {' | '.join(cells)} |" for cells in rows), ""]
    return "\n".join([*lines, f"The first table in milliseconds. On {where(results)}."])


def plot(results: dict[str, Any]) -> Plot:
    """Time against jobs waiting, a line a solver."""
    lines = []
    for name, colours in COLOURS.items():
        rows = [row for row in results["queues"] if row["short"].get(name, 0.0) is not None]
        found = [(row["jobs"], row["ms"][name]) for row in rows if row["ms"][name] is not None]
        if found:
            lines.append(Line(name, colours, tuple(found), dashed=name in MODULES))
    names = {0.01: "10 µs", 0.1: "100 µs", 1.0: "1 ms", 10.0: "10 ms", 100.0: "100 ms", 1e3: "1 s", 1e4: "10 s"}
    title = "Time of one decision over the whole queue"
    return Plot(title, "jobs waiting", "time", names, tuple(lines))


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter queues; writes nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="only write the docs from the results that are there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
