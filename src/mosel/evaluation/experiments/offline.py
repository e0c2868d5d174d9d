"""Table 2 and appendix D: how long profiling, optimisation and decisions take. Wall times, of this machine."""

import math
from time import perf_counter

import numpy as np

from mosel.core.arrays import accuracies, latency_table
from mosel.evaluation.arrivals import generate
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Grid, Section
from mosel.evaluation.experiments.workloads import POLICIES, paper_recipe
from mosel.evaluation.simulate import Conditions, simulate
from mosel.online.scheduler import Scheduler
from mosel.solve.cover import frontiers

BRUTE_REQUESTS = 6
"""Job size whose every multiset of modes is enumerated; the time for the largest follows from their number."""


def table2(lab: Lab) -> Section:
    """Return the time to profile, to optimise every job size, and the speed-up over brute force."""
    rows: list[tuple[Cell, ...]] = []
    for name, profile in lab.profiles.items():
        table, accuracy, largest = latency_table(profile)[:, 0], accuracies(profile), profile.batch_sizes[-1]
        frontiers(table, accuracy, largest)
        started = perf_counter()
        frontiers(table, accuracy, largest)
        took_s = perf_counter() - started
        modes = len(profile.modes)
        brute_s = _brute_s(modes, min(BRUTE_REQUESTS, largest)) * math.comb(largest + modes - 1, modes - 1)
        timing = profile.extra.get("seconds", {}).get("timing") if profile.extra else None
        rows.append((name, timing, took_s, largest, brute_s, brute_s / took_s))
    return Section(
        "table2",
        "Profiling and optimisation time (Table 2)",
        "The paper: 32 s to profile TVLT, 45 s to optimise, 31 times as fast as brute force. Here all accuracy "
        "SLOs of every job size are solved at once. Brute force looks at every multiset of modes of the "
        "largest job alone, at the time a multiset that was measured on a small one. Wall times on the machine "
        "that made this report.",
        Grid(("profile", "profiling_s", "optimise_s", "largest_job", "brute_force_s", "speed_up"), tuple(rows)),
        shown=Grid(
            ("profile", "profiling", "optimisation", "largest job", "brute force", "speed-up"),
            tuple(
                (
                    a,
                    "–" if b is None else f"{float(b):.1f} s",
                    f"{1000 * float(c or 0):.2f} ms",
                    d,
                    _spoken(float(e or 0)),
                    f"{float(f or 0):,.0f}×" if float(f or 0) >= 10 else f"{float(f or 0):.1g}×",
                )
                for a, b, c, d, e, f in rows
            ),
        ),
        wall=True,
    )


def _spoken(seconds: float) -> str:
    """Return a duration in the unit that leaves it few digits."""
    for unit, many_s in (("h", 3600.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= many_s:
            return f"{seconds / many_s:.3g} {unit}"
    return f"{1e6 * seconds:.3g} µs"


def _brute_s(modes: int, requests: int) -> float:
    """Return seconds to weigh one multiset of modes, from enumerating all of `requests`."""
    costs = np.arange(1.0, modes + 1)
    started, seen, best = perf_counter(), 0, math.inf
    for counts in _multisets(modes, requests):
        best = min(best, sum(cost * count for cost, count in zip(costs, counts, strict=True)))
        seen += 1
    return (perf_counter() - started) / seen


def _multisets(modes: int, requests: int) -> list[tuple[int, ...]]:
    if modes == 1:
        return [(requests,)]
    return [(count, *rest) for count in range(requests + 1) for rest in _multisets(modes - 1, requests - count)]


def overhead(lab: Lab) -> Section:
    """Return how long one decision takes under each policy on the paper's workload."""
    rows: list[tuple[Cell, ...]] = []
    for index, (name, profile) in enumerate(lab.profiles.items()):
        jobs = generate(paper_recipe(lab, profile, 0), profile)
        for count, policy in enumerate(POLICIES):
            lab.told(index * len(POLICIES) + count, len(lab.profiles) * len(POLICIES))
            table = {profile.model: profile}
            done = simulate(Scheduler(table, policy=policy), table, jobs, Conditions())
            took_ms = np.asarray(done.decisions_ns) / 1e6
            rows.append((name, policy, len(took_ms), *np.percentile(took_ms, (50, 99, 100)).tolist()))
    return Section(
        "overhead",
        "Decision overhead (appendix D)",
        "Wall time of one decision on the machine that made this report, other work on it included. The "
        "paper's solver takes 12 to 80 ms.",
        Grid(("profile", "policy", "decisions", "p50_ms", "p99_ms", "max_ms"), tuple(rows)),
        shown=Grid(
            ("profile", "policy", "decisions", "median", "99th percentile", "longest"),
            tuple(
                (*row[:2], f"{row[2]:,}", *(f"{float(value or 0):.3f} ms" for value in row[3:])) for row in rows
            ),
        ),
        wall=True,
    )
