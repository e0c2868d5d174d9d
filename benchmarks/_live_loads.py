"""Cascades under load on the running server, beside the simulation of the same jobs.

Bursty arrivals at multiples of the full mode's capacity, under `joint`. The simulation is made from the profile
alone, and with batches as slow as the live run's were.
"""

import tempfile
from pathlib import Path
from typing import Any

from live import MODEL, mosel, server

from mosel.core.tables import Profile, read_profile
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.calibration import calibrated
from mosel.evaluation.experiments.trials import paper_capacity_rps
from mosel.evaluation.recorded import read_run
from mosel.evaluation.results import Run, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.summary import Summary
from mosel.evaluation.workload import Workload, write_workload
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler
from mosel.online.serving import LEAD_NS

POLICY = "joint"
LOADS, DURATION_S, LATENCY_SLO_S = (1.0, 2.0, 4.0), 10.0, 1.0


def loads(path: Path) -> list[dict[str, Any]]:
    """Return for each load what was served live, and in both simulations."""
    profile = read_profile(path).profile
    with tempfile.TemporaryDirectory(prefix="mosel-cascades-") as folder:
        return [_at(Path(folder), path, profile, load) for load in LOADS]


def _at(folder: Path, path: Path, profile: Profile, load: float) -> dict[str, Any]:
    rate = load * paper_capacity_rps(profile)
    jobs = generate(Recipe("bursty", DURATION_S, 0, rate_rps=rate, latency_slo_s=LATENCY_SLO_S), profile)
    plan, run = folder / f"{load:g}.csv", folder / f"{load:g}"
    write_workload(jobs, plan)
    with server(path, POLICY) as url:
        mosel("replay", url, MODEL, str(plan), "-o", str(run), "--quiet")
    ran = read_run(run)
    found = calibrated(ran.batches, profile)
    return {
        "load": load,
        "requests": ran.summary.requests,
        "slower": found.slower,
        "live": _facts(ran.summary),
        "profile": _facts(_simulated(profile, jobs, Conditions())),
        "measured": _facts(_simulated(profile, jobs, found.conditions())),
    }


def _simulated(profile: Profile, jobs: Workload, world: Conditions) -> Summary:
    table = {profile.model: profile}
    scheduler = Scheduler(table, policy=POLICY, options=Options(lead_ns=LEAD_NS))
    done = simulate(scheduler, table, jobs, world)
    return summarise(Run(POLICY, 1, 0, done.jobs, done.batches))


def _facts(summary: Summary) -> dict[str, float]:
    return {"violations": summary.violation_ratio, "accuracy": summary.accuracy or 0.0}
