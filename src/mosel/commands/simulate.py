"""`mosel simulate`: a workload through the scheduler in virtual time, into a run directory."""

import math
from array import array
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mosel.commands.fleet import Fleet as Given
from mosel.commands.fleet import read_fleet
from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.charged import Charged
from mosel.evaluation.results import Run, write_run
from mosel.evaluation.simulate import Conditions, Outage, Simulated
from mosel.evaluation.simulate import simulate as run_simulation
from mosel.evaluation.summary import Named, summary_table
from mosel.evaluation.workload import Workload, read_workload
from mosel.online.events import Scheduling
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.policies import DEFAULT, Options
from mosel.online.scheduler import Scheduler

Asked = tuple[str, int, Options]
"""Of schedulers: the policy, the seed, and options."""


def simulate(
    *paths: Path,
    policy: str = DEFAULT,
    workers: int | None = None,
    worker: tuple[str, ...] = (),
    groups: int = 1,
    front_doors: int = 1,
    seed: int = 0,
    latency_scale: tuple[str, ...] = (),
    noise: float = 0.0,
    overhead: float = 0.0,
    outage: tuple[str, ...] = (),
    charge_decisions: bool = False,
    fairness: float = 0.0,
    bound: bool = False,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    quiet: bool = False,
) -> None:
    """Run a workload through the scheduler in virtual time.

    Example: mosel simulate profile.json workload.csv --policy joint -o run

    Args:
        paths: the profile.json of each model, then the workload.csv; with --worker the workload.csv is enough.
        policy: how strategies are chosen.
        workers: how many workers there are, each with every profile; 1 by default.
        worker: PROFILE,... the profiles of one worker; repeated, one for each, instead of --workers. A worker
            never runs a model that it has no profile of.
        groups: how many replica groups the workers are dealt out to, neighbours together, each with a scheduler
            of its own.
        front_doors: how many front doors send jobs to the groups, each by a view of its own.
        seed: of the policy and of the noise.
        latency_scale: X multiplies every latency, MODE=X that mode's; may be repeated.
        noise: coefficient of variation of a log-normal factor on every batch's latency.
        overhead: seconds that each batch keeps its worker beyond its latency, as sending it and reporting do.
        outage: WORKER:FROM:TO in seconds, when a worker is lost and when it is back; may be repeated.
        charge_decisions: let the wall time of each decision pass in virtual time as well; each group's for
            itself alone.
        fairness: the least on-time share of each third of the accuracy SLOs that `joint` aims at, as a part of
            the mean over all jobs: 0 serves the most requests, 0.6 lets no third fall far behind.
        bound: also find the share of requests that no schedule could exceed on time, as `mosel bound` does.
        output: the run directory.
        quiet: print no table.
    """
    if len(paths) < (1 if worker else 2):
        raise UsageError(
            "expected one or more profiles and, last, a workload: mosel simulate PROFILE… WORKLOAD"
        )
    fleet = read_fleet(paths[:-1], workers, worker)
    count = len(fleet.workers)
    jobs = read_workload(paths[-1], {model: table.modalities for model, table in fleet.models.items()})
    scale, mode_scale = _scales(latency_scale)
    if not math.isfinite(overhead):
        raise UsageError(f"--overhead {overhead}; expected seconds ≥ 0")
    conditions = Conditions(
        count, seed, scale, mode_scale, noise, _outages(outage), charge_decisions, to_ns(overhead)
    )
    at_most = (
        clairvoyant_bound(fleet.models, jobs, conditions, crew=fleet.workers if worker else ())
        if bound
        else None
    )
    layout = Layout(groups, front_doors)
    done = _run(fleet, jobs, conditions, layout, (policy, seed, Options(fairness=fairness)))
    extra = {"reasons": done.reasons, **conditions.departures()}
    if layout != Layout():
        extra |= {"groups": groups, "front_doors": front_doors}
    if worker:
        extra["worker_profiles"] = list(worker)
    run = Run(
        policy, count, seed, done.jobs, done.batches, jobs.columns, extra, done.decisions_ns, bound=at_most
    )
    summary = write_run(run, output)
    if not quiet:
        console = Console(stderr=True)
        for model in fleet.idle_models(jobs):
            console.print(f"note: no job is of model {model}, of which a profile is given", soft_wrap=True)
        console.print(summary_table([Named(output.name, summary, done.jobs)]))


def _run(given: Given, jobs: Workload, conditions: Conditions, layout: Layout, asked: Asked) -> Simulated:
    """Run one scheduler, or a fleet; whose groups are charged for decisions beside each other."""
    policy, seed, options = asked
    charged, took_ns = layout != Layout() and conditions.charge_decisions, array("q")

    def make(*args: Any, **words: Any) -> Scheduling:
        found = Scheduler(*args, **words)
        return Charged(found, took_ns) if charged else found

    if layout == Layout():
        lone = make(given.models, workers=given.workers, policy=policy, seed=seed, options=options)
        return run_simulation(lone, given.workers, jobs, conditions)
    fleet = Fleet(
        given.models,
        workers=given.workers,
        layout=layout,
        policy=policy,
        seed=seed,
        options=options,
        make=make,
    )
    done = run_simulation(fleet, given.workers, jobs, replace(conditions, charge_decisions=False))
    return replace(done, decisions_ns=took_ns) if charged else done


def _scales(texts: Iterable[str]) -> tuple[float, dict[str, float]]:
    every, modes = 1.0, dict[str, float]()
    for text in texts:
        mode, _, number = text.rpartition("=")
        factor = _number(number, f"--latency-scale {text}; expected a number, or MODE=NUMBER")
        if mode:
            modes[mode] = factor
        else:
            every = factor
    return every, modes


def _outages(texts: Iterable[str]) -> tuple[Outage, ...]:
    return tuple(_outage(text) for text in texts)


def _outage(text: str) -> Outage:
    expected = f"--outage {text}; expected WORKER:FROM:TO, as in 0:5:8.5"
    worker, _, times = text.partition(":")
    start, _, end = times.partition(":")
    if not worker.isdecimal():
        raise UsageError(expected)
    return Outage(int(worker), to_ns(_number(start, expected)), to_ns(_number(end, expected)))


def _number(text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(expected) from None
    if not math.isfinite(value):
        raise UsageError(expected)
    return value
