"""`mosel simulate`: a workload through the scheduler in virtual time, into a run directory."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from mosel.commands.fleet import read_fleet
from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.results import Run, write_run
from mosel.evaluation.simulate import Conditions, Outage
from mosel.evaluation.simulate import simulate as run_simulation
from mosel.evaluation.summary import Named, summary_table
from mosel.evaluation.workload import read_workload
from mosel.online.policies import DEFAULT, Options
from mosel.online.scheduler import Scheduler


def simulate(
    *paths: Path,
    policy: str = DEFAULT,
    workers: int | None = None,
    worker: tuple[str, ...] = (),
    seed: int = 0,
    latency_scale: tuple[str, ...] = (),
    noise: float = 0.0,
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
        seed: of the policy and of the noise.
        latency_scale: X multiplies every latency, MODE=X that mode's; may be repeated.
        noise: coefficient of variation of a log-normal factor on every batch's latency.
        outage: WORKER:FROM:TO in seconds, when a worker is lost and when it is back; may be repeated.
        charge_decisions: let the wall time of each decision pass in virtual time as well.
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
    conditions = Conditions(count, seed, scale, mode_scale, noise, _outages(outage), charge_decisions)
    at_most = (
        clairvoyant_bound(fleet.models, jobs, conditions, crew=fleet.workers if worker else ())
        if bound
        else None
    )
    scheduler = Scheduler(
        fleet.models, workers=fleet.workers, policy=policy, seed=seed, options=Options(fairness=fairness)
    )
    done = run_simulation(scheduler, fleet.workers, jobs, conditions)
    extra = {"reasons": done.reasons, **conditions.departures()}
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
