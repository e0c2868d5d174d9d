"""Is the baseline tuned as its users would? `python benchmarks/baseline_tuning.py [PROFILE] [LATENCY_SLO_S]`.

Simulates `none+batching` over a grid of batch limits and delays at several loads and prints the on-time share
of the best cell beside that of the defaults, which is what every comparison uses.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mosel.core.clock import to_ns
from mosel.core.states import State
from mosel.core.tables import Profile, read_profile
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.simulate import Conditions, simulate
from mosel.evaluation.workload import Workload
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler

LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
DELAYS_S = (0.0, 0.002, 0.01, 0.05)


def main(path: str = "profiles/av-digits-cpu.json", latency_slo_s: float = 0.5) -> None:
    """Print one row a load."""
    profile = read_profile(Path(path)).profile
    table = Table("load", "default", "best of the grid", "its limit", "its delay, ms", title=profile.model)
    for load in LOADS:
        rate = load * capacity_rps(profile)
        workload = generate(Recipe("bursty", 30.0, seed=7, rate_rps=rate, latency_slo_s=latency_slo_s), profile)
        default = on_time(profile, workload, Options())
        cells = ((on_time(profile, workload, options), options) for options in grid(profile))
        best, chosen = max(cells, key=lambda cell: cell[0])
        limit, delay_ms = str(chosen.batch_limit), f"{chosen.batch_delay_ns / 1e6:g}"
        table.add_row(f"{load:g}", f"{default:.3f}", f"{best:.3f}", limit, delay_ms)
    Console().print(table)


def grid(profile: Profile) -> Iterator[Options]:
    """Yield every combination of batch limit and delay."""
    limits = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= profile.batch_sizes[-1]]
    for limit, delay_s in product(limits, DELAYS_S):
        yield Options(batch_limit=limit, batch_delay_ns=to_ns(delay_s))


def on_time(profile: Profile, workload: Workload, options: Options) -> float:
    """Return the share of requests that the baseline serves on time."""
    profiles = {profile.model: profile}
    scheduler = Scheduler(profiles, policy="none+batching", options=options)
    jobs = simulate(scheduler, profiles, workload, Conditions()).jobs
    served = sum(row.job.requests for row in jobs if row.outcome is State.SERVED)
    return served / workload.requests


if __name__ == "__main__":
    main(*sys.argv[1:2], *(float(word) for word in sys.argv[2:]))
