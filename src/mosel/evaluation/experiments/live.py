"""The same workloads against the real server and in simulation, side by side.

A server of its own is started for each run, on this machine, with the profile that is simulated. The simulation
is made twice: from the profile alone, and with the times that the live run's batches took, so that what the
profile misses is told apart from what the simulator misses.
"""

import asyncio
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from mosel.core.errors import MoselError, UsageError
from mosel.core.tables import Profile, write_profile
from mosel.evaluation.arrivals import generate
from mosel.evaluation.calibration import Calibration, calibrated
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Grid, Section
from mosel.evaluation.experiments.workloads import COMPARED, POLICIES, claims_accuracy, paper_recipe
from mosel.evaluation.results import Run, Summary, summarise
from mosel.evaluation.server_process import ServerProcess
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.models.registry import find
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler
from mosel.online.serving import LEAD_NS, EngineConfig, server_cores
from mosel.runtime.device import default_device, describe, pinned
from mosel.runtime.fits import check_profile_fits

WITHIN = (1.0, 1.0, 0.2)
"""How far live and simulated may lie apart: points of violations, percent of throughput, points of accuracy."""

SYSTEMS = ("live", "profile", "measured")
MEASURES = ("violation_ratio", "throughput_rps", "accuracy")
COLUMNS = (
    "profile",
    "policy",
    "seed",
    "requests",
    "latency_of_profile",
    "overhead_ms",
    "noise_cv",
    "least_pace",
    "greatest_pace",
    *(f"{system}_{measure}" for system in SYSTEMS for measure in MEASURES),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One workload under one policy: live, simulated from the profile, and with the live run's batch times."""

    name: str
    policy: str
    seed: int
    found: Calibration
    live: Summary
    profile: Summary
    measured: Summary

    def row(self) -> tuple[Cell, ...]:
        """Return the numbers of the CSV file."""
        numbers = [getattr(getattr(self, system), measure) for system in SYSTEMS for measure in MEASURES]
        paces = [factor for _, factor in self.found.pace] or [1.0]
        found = (
            self.found.slower,
            self.found.overhead_ns / 1e6,
            self.found.noise_cv,
            min(paces),
            max(paces),
        )
        return (self.name, self.policy, self.seed, self.live.requests, *found, *numbers)

    def gap(self, simulated: Summary) -> tuple[float, float, float]:
        """Return live less simulated: points of violation ratio, percent of throughput, points of accuracy.

        Where either served nothing on time there are no accuracies to compare, and the last is 0.
        """
        both = self.live.accuracy, simulated.accuracy
        accuracies = 0.0 if both[0] is None or both[1] is None else both[0] - both[1]
        rates = self.live.throughput_rps / max(simulated.throughput_rps, 1e-9)
        ratios = self.live.violation_ratio - simulated.violation_ratio
        return 100 * ratios, 100 * (rates - 1), 100 * accuracies


def live(lab: Lab) -> Section:
    """Return violation ratio, throughput and accuracy of the paper's workload, live beside simulated.

    Raises:
        UsageError: no profile can be served here.
        NotReadyError: a server does not start.
    """
    names, reasons = servable(lab)
    asked = list(product(names, COMPARED if lab.quick else POLICIES, range(lab.seeds)))
    made = []
    for done, (name, policy, seed) in enumerate(asked):
        lab.told(done, len(asked))
        made.append(_compared(lab, name, policy, seed))
    lab.told(len(asked), len(asked))
    return Section(
        "live",
        "Live beside simulated",
        "The workload of Fig. 5 against a server on this machine, and the same in simulation: from the profile "
        "alone, and with batches as slow as the live run's were, which is what stands beside live (live | "
        "simulated). Gaps are live less simulated: points of violation ratio, percent of throughput, points "
        "of accuracy; the last row has the greatest, and what they should stay within."
        + (f" Not served: {reasons}." if reasons else ""),
        Grid(COLUMNS, tuple(each.row() for each in made)),
        shown=Grid(
            (
                "profile",
                "policy",
                "violations, %",
                "on time, 1/s",
                "accuracy",
                "gaps",
                "from the profile alone",
                "batches, of the profile",
            ),
            (*(_shown(group) for group in _groups(made)), _worst(made)),
        ),
        wall=True,
    )


def servable(lab: Lab) -> tuple[list[str], str]:
    """Return the names of the profiles that can be served on this machine, and why the others cannot.

    Raises:
        UsageError: none can.
    """
    left_out = {name: problem for name, each in lab.profiles.items() if (problem := _problem(each))}
    reasons = "; ".join(f"{name}: {problem}" for name, problem in left_out.items())
    if len(left_out) == len(lab.profiles):
        raise UsageError(f"live: no profile can be served here ({reasons})")
    return [name for name in lab.profiles if name not in left_out], reasons


def _problem(profile: Profile) -> str:
    """Say why a profile cannot be served here; empty if it can."""
    try:
        model = find(profile.model)
        device = describe(default_device(model.framework), model.framework)
        check_profile_fits(profile, model, device, EngineConfig().threads)
    except MoselError as error:
        return str(error).partition(";")[0]
    return "" if model.trained and claims_accuracy(profile) else "its accuracies claim nothing"


def _compared(lab: Lab, name: str, policy: str, seed: int) -> Compared:
    profile = lab.profiles[name]
    jobs = generate(paper_recipe(lab, profile, seed), profile)
    ran = asyncio.run(_replayed(profile, policy, seed, jobs))
    found = calibrated(ran.batches, profile)
    worlds = Conditions(seed=seed), found.conditions(seed=seed)
    simulated = [_simulated(profile, policy, seed, jobs, world) for world in worlds]
    return Compared(name, policy, seed, found, summarise(ran), *simulated)


async def _replayed(profile: Profile, policy: str, seed: int, jobs: Workload) -> Run:
    """Run the workload against a server of its own; the client keeps off the worker's cores."""
    from mosel.evaluation.replay import replay  # aiohttp is an optional extra

    cores = server_cores(EngineConfig())
    with tempfile.TemporaryDirectory(prefix="mosel-live-") as folder:
        path = Path(folder) / "profile.json"
        write_profile(profile, path)
        words = (profile.model, "--profile", str(path), "--policy", policy, "--seed", str(seed))
        server = ServerProcess(words)
        try:
            await server.start()
            with pinned(cores):
                done = await replay(server.url, [find(profile.model)], jobs, seed=seed)
            await server.end(signal.SIGTERM)
        finally:
            await server.close()
    return done.run


def _simulated(profile: Profile, policy: str, seed: int, jobs: Workload, world: Conditions) -> Summary:
    table = {profile.model: profile}
    scheduler = Scheduler(table, policy=policy, seed=seed, options=Options(lead_ns=LEAD_NS))
    done = simulate(scheduler, table, jobs, world)
    return summarise(Run(policy, 1, seed, done.jobs, done.batches))


def _groups(made: Sequence[Compared]) -> Iterator[list[Compared]]:
    """Yield the seeds of each profile and policy."""
    for key in dict.fromkeys((each.name, each.policy) for each in made):
        yield [each for each in made if (each.name, each.policy) == key]


def _shown(group: Sequence[Compared]) -> tuple[Cell, ...]:
    def middle(system: str, measure: str) -> float:
        return median(getattr(getattr(each, system), measure) or 0.0 for each in group)

    pairs = [
        f"{form(middle('live', measure))} | {form(middle('measured', measure))}"
        for measure, form in zip(MEASURES, (_percent, _rate, _accuracy), strict=True)
    ]
    slower = median(each.found.slower for each in group)
    overhead_ms = median(each.found.overhead_ns / 1e6 for each in group)
    return (
        group[0].name,
        group[0].policy,
        *pairs,
        _gaps([each.gap(each.measured) for each in group]),
        _gaps([each.gap(each.profile) for each in group]),
        f"{slower:.3f}× + {overhead_ms:.2f} ms",
    )


def _worst(made: Sequence[Compared]) -> tuple[Cell, ...]:
    """Return a last row: the greatest gaps of all runs, below which stands what they should stay within."""
    greatest = [
        " / ".join(f"{max(abs(gap[place]) for gap in gaps):.2f}" for place in range(len(WITHIN)))
        for gaps in (
            [each.gap(each.measured) for each in made],
            [each.gap(each.profile) for each in made],
        )
    ]
    sought = " / ".join(f"{value:g}" for value in WITHIN)
    return ("all", "greatest", *[""] * len(MEASURES), *greatest, f"sought: {sought}")


def _gaps(gaps: Sequence[tuple[float, float, float]]) -> str:
    return " / ".join(f"{median(values):+.2f}" for values in zip(*gaps, strict=True))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _rate(value: float) -> str:
    return f"{value:.1f}"


def _accuracy(value: float) -> str:
    return f"{value:.4f}"
