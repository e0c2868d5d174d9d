"""From one worker to a thousand, in simulation: `python benchmarks/scaling.py [--quick] [--redraw]`.

1. *Workers.* The same load a worker on 1 to 1,000 workers, in groups behind front doors: what share of the
   clairvoyant bound is served on time. Decisions are charged for: while a group decides it decides nothing
   else, and nor does a front door. Beside it one scheduler for all workers, charged likewise.
2. *Rates.* A thousand workers and up to a million requests a second, on devices that are fast enough for that,
   over a short time; in groups of several sizes: what decisions leave of it, and how busy the deciders are.
3. *A front door.* How many jobs a second it sends on their way, measured.

Decisions are timed in CPU time of their thread, as they would take alone on a core; in the first part of a run
they cost nothing, so that what a scheduler computes once does not count. A whole run also writes
docs/results/scaling.json and, from it, the tables and the plots of docs/scaling.md. It takes half an hour.
"""

import argparse
import json
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _loglog import Line, Plot, svg
from _page import machine, where, with_block
from shapes import SHAPES, shaped

from mosel.core.files import write_atomic
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.charged import Charged
from mosel.evaluation.results import Run, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import Scheduling
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.scheduler import Scheduler

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, ASSETS = ROOT / "docs/results/scaling.json", ROOT / "docs/scaling.md", ROOT / "docs/assets"
FORMAT = "mosel.benchmark.scaling/1"

WORKERS = (1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 1000)
LOADS = (2.0, 4.0)
"""In multiples of what a worker carries one request at a time with all modalities."""
GROUP = 16
MOST_ALONE = 250
CURVE_S, SMALL_RUNS = 4.0, 32
"""Seconds of arrivals; fewer workers than this are run with more seeds, for about as many jobs."""

FASTER = 44.0
"""By this a device is faster, so that it carries 1,000 requests a second one by one with all modalities."""
RATES_RPS = (100_000, 250_000, 500_000, 1_000_000)
GROUPS = (16, 8, 4)
RATE_WORKERS, RATE_S, RATE_SLO_S = 1000, 0.3, 0.05
WARM = 0.3
"""The part of a run in which decisions cost nothing."""

DOOR_JOBS = 100_000
HOP_NS = 100_000
"""From a front door to a group: a message over a local network."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated: how many workers, in groups of how many, under what load, whether decisions cost."""

    profile: Profile
    workers: int
    group: int
    rate_rps: float
    duration_s: float
    slo_s: float
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Decided:
    """What a run came to: shares of requests, and the deciders' busiest as a share of one core."""

    on_time: float
    bound: float
    effective_accuracy: float
    busy: float
    decision_us: float
    passed: float
    requests: int


def measured(setting: Setting, choice_ns: int, *, groups: bool = True) -> Decided:
    """Simulate a workload in groups, or with one scheduler for all workers; decisions are charged for."""
    tables = {setting.profile.model: setting.profile}
    jobs = workload_of(setting)
    took: list[array[int]] = []
    count = max(1, round(setting.workers / setting.group)) if groups else 1
    layout = Layout(
        count, doors_for(len(jobs.jobs) / setting.duration_s, choice_ns), choice_ns=choice_ns, hop_ns=HOP_NS
    )
    fleet = Fleet(
        tables,
        workers=setting.workers,
        layout=layout,
        seed=setting.seed,
        make=partial(charged, took, setting.duration_s * WARM),
    )
    done = simulate(fleet, tables, jobs, Conditions(setting.workers))
    found = summarise(Run("joint", setting.workers, setting.seed, done.jobs, done.batches))
    bound = clairvoyant_bound(tables, jobs, Conditions(setting.workers))
    every = np.concatenate([np.asarray(each) for each in took])
    busiest = max(sum(each) for each in took) / 1e9 / setting.duration_s / (1 - WARM)
    passed = fleet.passed / len(jobs.jobs)
    return Decided(
        found.on_time,
        bound,
        found.effective_accuracy,
        busiest,
        float(every.mean()) / 1e3,
        passed,
        jobs.requests,
    )


def charged(took: list["array[int]"], from_s: float, *args: Any, **words: Any) -> Scheduling:
    """Make a group's scheduler, on a core of its own."""
    took.append(array("q"))
    return Charged(Scheduler(*args, **words), took[-1], time.thread_time_ns, round(from_s * 1e9))


def doors_for(jobs_per_s: float, choice_ns: int) -> int:
    """Return as many front doors as are half busy."""
    return max(1, round(2 * jobs_per_s * choice_ns / 1e9))


def workload_of(setting: Setting) -> Workload:
    """Return the jobs."""
    recipe = Recipe(
        "poisson",
        max(1.0, setting.duration_s),
        seed=setting.seed,
        rate_rps=setting.rate_rps,
        latency_slo_s=setting.slo_s,
    )
    jobs = generate(recipe, setting.profile).jobs
    until_ns = setting.duration_s * 1e9
    return Workload(tuple(job for job in jobs if job.arrival_ns < until_ns))


def curve(choice_ns: int, workers: tuple[int, ...], duration_s: float) -> Iterator[dict[str, Any]]:
    """Yield, for each load and number of workers, what groups come to, and one scheduler for all."""
    profile = SHAPES["tvlt"]
    for load in LOADS:
        for count in workers:
            seeds = range(max(1, SMALL_RUNS // count))
            rate_rps = load * count * capacity_rps(profile)
            settings = [Setting(profile, count, GROUP, rate_rps, duration_s, 1.0, seed) for seed in seeds]
            row: dict[str, Any] = {"load": load, "workers": count, "rate_rps": rate_rps}
            row["groups"] = means([measured(setting, choice_ns) for setting in settings])
            if GROUP < count <= MOST_ALONE:
                row["alone"] = means([measured(setting, choice_ns, groups=False) for setting in settings])
            yield row


def rates(choice_ns: int, rates_rps: tuple[int, ...], duration_s: float) -> Iterator[dict[str, Any]]:
    """Yield, for each rate and size of groups, what a thousand workers come to."""
    profile = faster(SHAPES["tvlt"])
    for rate_rps in rates_rps:
        for group in GROUPS:
            setting = Setting(profile, RATE_WORKERS, group, rate_rps, duration_s, RATE_SLO_S)
            yield {"rate_rps": rate_rps, "group": group, **means([measured(setting, choice_ns)])}


def faster(slow: Profile) -> Profile:
    """Return a profile's shape on devices that are as much faster as `FASTER` says."""
    modes = {
        name: (mode.latency_s[0] * 1e3 / FASTER, mode.accuracy)
        for name, mode in zip(slow.mode_names, slow.modes, strict=True)
    }
    return shaped(slow.model, "+".join(slow.modalities), modes, 32, 0.5)


def means(found: list[Decided]) -> dict[str, float]:
    """Return the means over runs."""
    names = Decided.__slots__
    row = {name: float(np.mean([getattr(each, name) for each in found])) for name in names}
    return row | {"share": float(np.mean([each.on_time / each.bound for each in found]))}


def front_door(jobs: int, groups: int) -> float:
    """Return how many jobs a second one front door sends to so many groups, of which none takes them."""
    profile = SHAPES["tvlt"]
    fleet = Fleet({profile.model: profile}, workers=groups, layout=Layout(groups, hop_ns=10**15))
    rng = np.random.default_rng(0)
    sizes, slos = rng.integers(1, 9, jobs), rng.uniform(0.66, 0.75, jobs)
    asked = [Job(f"j{n}", "tvlt", int(sizes[n]), float(slos[n]), 0, 10**9) for n in range(jobs)]
    door = fleet._doors[0]
    began_ns = time.thread_time_ns()
    for now_ns, job in enumerate(asked):
        found = fleet._asked(job)
        number = door.choose(found, now_ns)
        assert number is not None
        door.sent(number, found.cost(fleet._groups[number]).request_ns * job.requests, now_ns)
    return jobs / ((time.thread_time_ns() - began_ns) / 1e9)


def main() -> None:
    """Measure, print, and write the docs."""
    words = _words()
    if words.redraw:
        write(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    jobs = DOOR_JOBS // 10 if words.quick else DOOR_JOBS
    doors = {str(groups): median(front_door(jobs, groups) for _ in range(3)) for groups in (4, 63, 250, 1000)}
    print("front door, jobs/s:", {groups: round(rate) for groups, rate in doors.items()}, flush=True)
    choice_ns = round(1e9 / min(doors.values()))
    results: dict[str, Any] = {
        "format": FORMAT,
        **machine("numpy", "numba"),
        "choice_ns": choice_ns,
        "doors": doors,
    }
    results |= {"workers": [], "rates": []}
    made = curve(choice_ns, WORKERS[:6], 2.0) if words.quick else curve(choice_ns, WORKERS, CURVE_S)
    for row in made:
        results["workers"].append(row)
        print(json.dumps(row), flush=True)
    for row in rates(choice_ns, RATES_RPS[:1] if words.quick else RATES_RPS, 0.1 if words.quick else RATE_S):
        results["rates"].append(row)
        print(json.dumps(row), flush=True)
    if not words.quick:
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
        write(results)


def write(results: Mapping[str, Any]) -> None:
    """Write the page's tables and its plots."""
    page = PAGE.read_text(encoding="utf-8")
    for name, block in blocks(dict(results)).items():
        page = with_block(page, name, block)
    write_atomic(PAGE, page)
    for name, text in figures(dict(results)).items():
        write_atomic(ASSETS / name, text)


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's tables by name."""
    return {
        "workers": "\n".join([*_worker_lines(results), "", f"{where(results)}."]),
        "rates": "\n".join(_rate_lines(results)),
        "doors": "\n".join(_door_lines(results)),
    }


def _worker_lines(results: dict[str, Any]) -> Iterator[str]:
    heads = (
        "load",
        "workers",
        "requests/s",
        "share of the bound",
        "effective accuracy",
        "passed on",
        "one scheduler",
    )
    yield f"| {' | '.join(heads)} |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in results["workers"]:
        groups, alone = row["groups"], row.get("alone")
        one = "–" if alone is None else f"{alone['share']:.4f}"
        yield (
            f"| {row['load']:g} | {row['workers']:,} | {row['rate_rps']:,.0f} | {groups['share']:.4f} "
            f"| {groups['effective_accuracy']:.4f} | {groups['passed']:.1%} | {one} |"
        )


def _rate_lines(results: dict[str, Any]) -> Iterator[str]:
    heads = (
        "requests/s",
        "workers a group",
        "share of the bound",
        "a decision, µs",
        "busiest scheduler, of a core",
    )
    yield f"| {' | '.join(heads)} |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for row in results["rates"]:
        yield (
            f"| {row['rate_rps']:,} | {row['group']} | {row['share']:.4f} | {row['decision_us']:.0f} "
            f"| {min(row['busy'], 9.99):.0%} |"
        )


def _door_lines(results: dict[str, Any]) -> Iterator[str]:
    yield "| groups | jobs/s that one front door sends on their way |"
    yield "| ---: | ---: |"
    for groups, rate in results["doors"].items():
        yield f"| {int(groups):,} | {rate:,.0f} |"


COLOURS = {2.0: ("#0969da", "#58a6ff"), 4.0: ("#1a7f37", "#56d364")}
ALONE = {4.0: ("#cf222e", "#ff7b72")}
GROUP_COLOURS = {16: ("#cf222e", "#ff7b72"), 8: ("#bf8700", "#e3b341"), 4: ("#1a7f37", "#56d364")}
SHARES = {0.1: "0.1", 0.2: "0.2", 0.5: "0.5", 0.8: "0.8", 1.0: "1"}


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Return the name and the text of each SVG."""
    lines = []
    for load in LOADS:
        rows = [row for row in results["workers"] if row["load"] == load]
        points = tuple((row["workers"], row["groups"]["share"]) for row in rows)
        lines.append(Line(f"groups, load {load:g}", COLOURS[load], points))
        if load in ALONE:  # at the other the line is that of the groups
            alone = tuple((row["workers"], max(row["alone"]["share"], 0.1)) for row in rows if "alone" in row)
            lines.append(Line(f"one, load {load:g}", ALONE[load], alone, dashed=True))
    title = "Share of the clairvoyant bound, decisions charged for"
    workers = Plot(title, "workers", "share of the bound", SHARES, tuple(lines))
    sizes = tuple(
        Line(
            f"groups of {group}",
            GROUP_COLOURS[group],
            tuple(
                (row["rate_rps"], max(row["busy"], 0.1)) for row in results["rates"] if row["group"] == group
            ),
        )
        for group in GROUPS
    )
    title = "How busy the busiest scheduler of a thousand workers is"
    rate = Plot(title, "requests/s", "part of a core", SHARES, sizes)
    return {"scaling_workers.svg": svg(workers), "scaling_rates.svg": svg(rate)}


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer workers, one rate; writes nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="only write the docs from the results that are there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
