"""What a request costs on the running server: all modalities, a cascade, and the cheapest mix as accurate.

Each is what `joint` runs at one accuracy SLO for all jobs: that of the full mode, or the cascade's with a
profile that has cascades and with one that has none. Jobs come about as fast as a worker can serve them so. The
cost is the time that batches kept the worker, over the requests that were served; the accuracy is against the
labels.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from live import MODEL, mosel, server
from msgspec import structs

from mosel.core.cascades import Cascade
from mosel.core.clock import NS_PER_S, to_s
from mosel.core.states import State
from mosel.core.tables import Profile, read_profile, write_profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import full_mode
from mosel.evaluation.recorded import Recorded, read_run
from mosel.evaluation.workload import Workload, write_workload
from mosel.online.tables import ModelTable

POLICY = "joint"
UNDER = 0.002
"""How far under the full mode's accuracy the cascade may lie."""

JOB, DURATION_S, LATENCY_SLO_S = 8, 6.0, 20.0
LOAD = 0.9
"""Arrivals, as a part of what a worker can serve in each way."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run requests: with which profile, at which accuracy SLO, and what one costs by the profile."""

    profile: Path
    accuracy_slo: float
    unit_s: float


def costs(path: Path) -> dict[str, Any]:
    """Return cost and accuracy of each way, live and simulated."""
    folder = Path(tempfile.mkdtemp(prefix="mosel-cascades-"))
    profile = read_profile(path).profile
    cascade = cheapest(profile)
    found = {name: _measured(folder, name, way) for name, way in _ways(folder, profile, cascade).items()}
    return {"cascade": cascade.name, "device": profile.device.name, "ways": found}


def cheapest(profile: Profile) -> Cascade:
    """Return the cheapest cascade that is as accurate as all modalities, but for `UNDER`."""
    table, least = ModelTable(profile), full_mode(profile).accuracy - UNDER
    units = {column.name: _unit_s(table, len(table.modes) + at) for at, column in enumerate(table.cascades)}
    able = [cascade for cascade in profile.cascades if cascade.accuracy >= least]
    return min(able, key=lambda cascade: units[cascade.name])


def _ways(folder: Path, profile: Profile, cascade: Cascade) -> dict[str, Way]:
    single = folder / "single.json"
    cascaded = folder / "cascaded.json"
    write_profile(structs.replace(profile, cascades=()), single)
    write_profile(profile, cascaded)
    table, full = ModelTable(profile), full_mode(profile)
    full_s = _unit_s(table, table.modes.index(table.modes[profile.modes.index(full)]))
    column = len(table.modes) + [one.name for one in table.cascades].index(cascade.name)
    slo = min(cascade.accuracy, full.accuracy)
    return {
        "all modalities": Way(single, full.accuracy, full_s),
        "cascade": Way(cascaded, slo, _unit_s(table, column)),
        "cheapest mix": Way(single, slo, full_s),
    }


def _unit_s(table: ModelTable, column: int) -> float:
    return table.unit_ns(column, 0) / NS_PER_S


def _measured(folder: Path, name: str, way: Way) -> dict[str, Any]:
    stem = name.replace(" ", "-")
    plan, live, made = folder / f"{stem}.csv", folder / f"{stem}-live", folder / f"{stem}-simulated"
    write_workload(_workload(way), plan)
    with server(way.profile, POLICY) as url:
        mosel("replay", url, MODEL, str(plan), "-o", str(live), "--quiet")
    mosel("simulate", str(way.profile), str(plan), "--policy", POLICY, "--quiet", "-o", str(made))
    return {"live": _facts(read_run(live)), "simulated": _facts(read_run(made))}


def _facts(run: Recorded) -> dict[str, float]:
    took_s = sum(to_s(batch.finish_ns - batch.start_ns) for batch in run.batches)
    served = sum(row.job.requests for row in run.jobs if row.outcome in (State.SERVED, State.LATE))
    client: Mapping[str, Any] = run.summary.extra.get("client", {})
    return {
        "cost_s": took_s / served,
        "requests": served,
        "on_time": run.summary.on_time,
        "promised": run.summary.accuracy or 0.0,
        "accuracy": float(client.get("accuracy") or run.summary.accuracy or 0.0),
    }


def _workload(way: Way) -> Workload:
    rng = np.random.default_rng(0)
    gap_s = JOB * way.unit_s / LOAD
    arrivals = np.cumsum(rng.exponential(gap_s, int(DURATION_S / gap_s)))
    slo_ns = int(LATENCY_SLO_S * NS_PER_S)
    return Workload(
        tuple(
            Job(f"j{at}", MODEL, JOB, way.accuracy_slo, ns, ns + slo_ns)
            for at, ns in enumerate((arrivals * NS_PER_S).astype(np.int64).tolist())
        )
    )
