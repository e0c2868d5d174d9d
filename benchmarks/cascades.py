"""What cascades bring, from a profile that has some: cost and accuracy, and `joint` with and without them.

    .venv/bin/python benchmarks/cascades.py PROFILE [--loads 1,2,4] [--seeds 0,1,2]

Costs are per request at each mode's best batch size, relative to all modalities. A mix of modes has the
accuracy and cost of its parts in proportion; that of a cascade's accuracy is the cheapest there is. Loads are
multiples of one over the latency of all modalities at batch size 1; all is simulated, whatever else the machine
does.
"""

import argparse
from pathlib import Path

import numpy as np
from msgspec import structs

from mosel.core.clock import NS_PER_S
from mosel.core.tables import Profile, read_profile
from mosel.core.types import Job
from mosel.evaluation.results import Run, Summary, summarise
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.scheduler import Scheduler
from mosel.online.tables import ModelTable

DURATION_S = 20.0
SIZES = (1, 1, 2, 4)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--loads", default="1,2,4")
    parser.add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    profile = read_profile(given.profile).profile
    print_costs(profile)
    for load in map(float, given.loads.split(",")):
        for seed in map(int, given.seeds.split(",")):
            print_load(profile, load, seed)


def print_costs(profile: Profile) -> None:
    """Accuracy and cost of every mode and cascade, and of the cheapest mix of modes as accurate."""
    table = ModelTable(profile)
    unit = np.array([table.unit_ns(column, 0) for column in range(len(table.column_accuracy))])
    full = unit[table.full_mode(table.every_mask, 0.0, 1)]
    modes = list(zip(unit[: len(table.modes)] / full, table.accuracy, strict=True))
    print(f"{'':44} accuracy  cost  cheapest mix")
    for name, cost, accuracy in zip(table.modes, unit / full, table.accuracy, strict=False):
        print(f"{name:44} {accuracy:.4f}    {cost:.2f}")
    for cascade, cost in zip(table.cascades, unit[len(table.modes) :] / full, strict=True):
        mixed = cheapest_mix(modes, cascade.accuracy)
        print(f"{cascade.name:44} {cascade.accuracy:.4f}    {cost:.2f}  {mixed:.2f}")


def cheapest_mix(modes: list[tuple[float, float]], accuracy: float) -> float:
    """The least mean cost of at most two modes that reach an accuracy in the mean."""
    costs = [cost for cost, reached in modes if reached >= accuracy]
    for cheap, less in modes:
        for dear, more in modes:
            if less < accuracy < more and cheap < dear:
                costs.append(cheap + (dear - cheap) * (accuracy - less) / (more - less))
    return min(costs)


def print_load(profile: Profile, load: float, seed: int) -> None:
    """On-time share and effective accuracy of `joint` at one load, without cascades and with them."""
    jobs = workload(profile, load, seed)
    without, with_them = (run(each, jobs) for each in (structs.replace(profile, cascades=()), profile))
    print(
        f"load {load:g}, seed {seed}: on time {without.on_time:.4f} → {with_them.on_time:.4f}, "
        f"effective accuracy {without.effective_accuracy:.4f} → {with_them.effective_accuracy:.4f}"
    )


def workload(profile: Profile, load: float, seed: int) -> Workload:
    """Poisson arrivals of small jobs, accuracy SLOs evenly between the least and the most accurate mode."""
    rng = np.random.default_rng(seed)
    table = ModelTable(profile)
    full_s = int(table.latency_ns[table.full_mode(table.every_mask, 0.0, 1), 0, 1]) / NS_PER_S
    gap_s = full_s / load * float(np.mean(SIZES))
    arrivals = np.cumsum(rng.exponential(gap_s, int(DURATION_S / gap_s)))
    low, high = float(table.accuracy.min()), float(table.accuracy.max())
    slo_ns = max(NS_PER_S, round(50 * full_s * NS_PER_S))
    jobs = [
        Job(f"j{i}", profile.model, int(rng.choice(SIZES)), float(rng.uniform(low, high)), at, at + slo_ns)
        for i, at in enumerate((arrivals * NS_PER_S).astype(np.int64).tolist())
    ]
    return Workload(tuple(jobs))


def run(profile: Profile, jobs: Workload) -> Summary:
    """The summary of a simulated run."""
    profiles = {profile.model: profile}
    done = simulate(Scheduler(profiles, policy="joint"), profiles, jobs, Conditions())
    return summarise(Run("joint", 1, 0, done.jobs, done.batches))


if __name__ == "__main__":
    main()
