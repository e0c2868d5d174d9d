"""How much of the clairvoyant bound each policy serves, over profiles shaped like the paper's five models.

    .venv/bin/python benchmarks/share_of_bound.py [--quick] [--seeds N] [--latency-slo 1|5x] [--redraw]

Workloads are those of `mosel workload bursty`: job sizes int(N(1, 6)) of at least 1, accuracy SLOs uniform
between the lowest and the highest mode, rates as multiples of one over the full mode's latency at batch size 1.
Everything is simulated, so that the same seeds give the same numbers on every machine. A whole run also writes
docs/results/share_of_bound.json and, from it, the plots and the table of docs/bound.md; `--redraw` writes these
from the results that are there.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from _panels import figures
from rich.console import Console
from rich.progress import track
from rich.table import Table
from shapes import SHAPES

from mosel.core.files import read_bytes, write_atomic
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.results import Run, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "share_of_bound.json", DOCS / "bound.md"
FORMAT = "mosel.share_of_bound/1"
LOADS = (0.8, 1.5, 3.0, 5.0)
BEGIN, END = "<!-- share:begin -->", "<!-- share:end -->"
SHORT = {"none+batching": "none+b", "aggressive": "aggr", "optimized": "opt"}
PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One workload: profile, load as a multiple of the full mode's capacity, and seed."""

    profile: str
    load: float
    seed: int
    duration_s: float
    latency_slo: str


@dataclass(frozen=True, slots=True)
class Served:
    """What one policy did with a workload, or the mean over seeds; `worst` is the least share of the bound."""

    share: float
    worst: float
    on_time: float
    effective_accuracy: float
    accuracy: float | None


def main() -> None:
    """Run or read the results, print them and write what the docs show."""
    words = _words()
    if not words.redraw:
        results = run(words)
        for table in tables(results):
            Console().print(table)
        if words.quick:
            return
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    results = json.loads(read_bytes(RESULTS))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), results))
    for name, svg in figures(results).items():
        write_atomic(DOCS / "assets" / name, svg)


def run(words: argparse.Namespace) -> dict[str, Any]:
    """Simulate every policy on every workload, two processes at a time, and return the means over seeds."""
    seeds = range(words.seeds)
    cells = list(product(SHAPES, LOADS, seeds))
    settings = [Setting(*cell, words.duration, words.latency_slo) for cell in cells]
    found: dict[Setting, tuple[float, int, dict[str, Served]]] = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        waiting = {pool.submit(measured, each): each for each in settings}
        for done in track(as_completed(waiting), "workloads", len(waiting), console=Console(stderr=True)):
            found[waiting[done]] = done.result()
    rows = []
    for name, load in product(SHAPES, LOADS):
        own = [found[each] for each in settings if (each.profile, each.load) == (name, load)]
        policies = {policy: asdict(_mean([served[policy] for _, _, served in own])) for policy in POLICIES}
        bound, requests = fmean(each[0] for each in own), sum(each[1] for each in own)
        rows.append({"profile": name, "load": load, "requests": requests, "bound": bound, "policies": policies})
    asked = {"duration_s": words.duration, "seeds": words.seeds, "latency_slo": words.latency_slo}
    return {"format": FORMAT, **asked, "cells": rows}


def measured(setting: Setting) -> tuple[float, int, dict[str, Served]]:
    """Return the bound of one workload, its requests, and what each policy did with it."""
    profile = SHAPES[setting.profile]
    factor = setting.latency_slo.removesuffix("x")
    relative = factor != setting.latency_slo
    recipe = Recipe(
        "bursty",
        setting.duration_s,
        setting.seed,
        rate_rps=setting.load * capacity_rps(profile),
        latency_slo_s=None if relative else float(factor),
        latency_factor=float(factor) if relative else None,
    )
    jobs, table = generate(recipe, profile), {profile.model: profile}
    bound = clairvoyant_bound(table, jobs)
    served = {}
    for policy in POLICIES:
        done = simulate(Scheduler(table, policy=policy, seed=setting.seed), table, jobs, Conditions())
        found = summarise(Run(policy, 1, setting.seed, done.jobs, done.batches))
        share = found.on_time / bound if bound else 1.0
        served[policy] = Served(share, share, found.on_time, found.effective_accuracy, found.accuracy)
    return bound, jobs.requests, served


def _mean(runs: Sequence[Served]) -> Served:
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    return Served(
        fmean(run.share for run in runs),
        min(run.worst for run in runs),
        fmean(run.on_time for run in runs),
        fmean(run.effective_accuracy for run in runs),
        fmean(accuracies) if accuracies else None,
    )


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Yield a table a figure, and one of the policies over all workloads."""
    for key, title in (
        ("share", "share of the clairvoyant bound that is served on time"),
        ("effective_accuracy", "effective accuracy: an on-time request counts its accuracy, any other 0"),
        ("accuracy", "mean accuracy of on-time requests"),
    ):
        table = Table("profile", "load", "bound", title=title, title_justify="left", box=None, pad_edge=False)
        for policy in POLICIES:
            table.add_column(SHORT.get(policy, policy), justify="right")
        for cell in results["cells"]:
            values = [cell["policies"][policy][key] for policy in POLICIES]
            first = cell["profile"], f"{cell['load']:g}", f"{cell['bound']:.3f}"
            table.add_row(*first, *("–" if value is None else f"{value:.3f}" for value in values))
        yield table
    table = Table(title="over all of them", title_justify="left", box=None, pad_edge=False)
    for name in HEADINGS:
        table.add_column(name, justify="left" if name == "policy" else "right")
    for row in summary(results):
        table.add_row(*row)
    yield table


HEADINGS = ("policy", "share, mean", "worst", "worst seed", "effective accuracy", "accuracy")


def summary(results: dict[str, Any]) -> Iterator[list[str]]:
    """Yield one row a policy: its mean and worst share of the bound, and its mean accuracies."""
    for policy in POLICIES:
        own = [cell["policies"][policy] for cell in results["cells"]]
        accuracies = [each["accuracy"] for each in own if each["accuracy"] is not None]
        values = (
            fmean(each["share"] for each in own),
            min(each["share"] for each in own),
            min(each["worst"] for each in own),
            fmean(each["effective_accuracy"] for each in own),
            fmean(accuracies) if accuracies else 0.0,
        )
        yield [policy, *(f"{value:.3f}" for value in values)]


def block(results: dict[str, Any]) -> str:
    """Return the table of the docs page, markers included."""
    rule = "| --- | ---: | ---: | ---: | ---: | ---: |"
    rows = [f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in summary(results)]
    slo = results["latency_slo"]
    slo = f"{slo} s" if not slo.endswith("x") else f"{slo[:-1]} times the job's own latency"
    requests = sum(cell["requests"] for cell in results["cells"])
    caption = (
        f"Five profiles at {len(LOADS)} loads, {results['seeds']} seeds of {results['duration_s']:g} s each: "
        f"{requests:,} requests with a latency SLO of {slo}, one worker, simulated. *Share* is of the bound; "
        "*worst* is its lowest mean over seeds of a profile and load, *worst seed* the lowest of all. The "
        "accuracies are means."
    )
    return "\n".join([BEGIN, f"| {' | '.join(HEADINGS)} |", rule, *rows, "", caption, END])


def with_block(page: str, results: dict[str, Any]) -> str:
    """Return the page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has no {BEGIN} … {END}"
    return before + block(results) + after


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds of 10 s; nothing is written")
    parser.add_argument("--seeds", type=int, help="workloads of each profile and load (default 4)")
    parser.add_argument("--duration", type=float, help="seconds of each workload (default 40)")
    parser.add_argument(
        "--latency-slo", default="1", help="seconds, or a multiple of the job's own latency as in 5x"
    )
    parser.add_argument("--redraw", action="store_true", help="only write the page and the plots anew")
    words = parser.parse_args()
    words.seeds = words.seeds or (2 if words.quick else 4)
    words.duration = words.duration or (10.0 if words.quick else 40.0)
    return words


if __name__ == "__main__":
    main()
