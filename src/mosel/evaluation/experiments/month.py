"""A long recorded series, day by day: such as the month of Twitter's arrivals that is no part of the package.

A day is played in as many seconds as a workload has: seconds of the day at equal distances, as they were. So
minutes are lost, but how far seconds differ and how often there are spikes is kept, as it is not by averaging.
"""

from dataclasses import replace
from itertools import product

import numpy as np

from mosel.core.errors import UsageError
from mosel.evaluation.arrivals import Counts, Recipe, mapped
from mosel.evaluation.experiments.charts import medians
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Outcome, Trial, paper_capacity_rps
from mosel.evaluation.experiments.workloads import COMPARED, largest, paper_recipe

DAY_S = 86_400
GAP_S = 600
"""Where a series has had no request for this long, it was not recorded: those seconds are left out."""
GREATEST = (2.0, 8.0)
"""The greatest rates, as multiples of the full mode's capacity; the paper has 2 (§7.1)."""
COLUMNS = (
    "profile",
    "greatest_of_capacity",
    "policy",
    "day",
    "requests",
    "on_time",
    "violation_ratio",
    "effective_accuracy",
)
SHOWN = (
    ("on_time", "on time (share of requests)"),
    ("effective_accuracy", "effective accuracy (late counts 0)"),
)


def month(lab: Lab) -> Section:
    """Return on-time share and effective accuracy of every day of the lab's recorded series."""
    if lab.trace is None:
        raise UsageError("month needs a recorded series; give --trace FILE")
    name = largest(lab)
    capacity, recipe = paper_capacity_rps(lab.profiles[name]), paper_recipe(lab, lab.profiles[name], 0)
    sampled = sampled_days(lab.trace, round(recipe.duration_s))
    scaled = {most: _on_rates(sampled, replace(recipe, most_rps=most * capacity)) for most in GREATEST}
    asked = list(product(GREATEST, COMPARED, range(len(sampled))))
    done = lab.trials([(name, _trial(policy, recipe, scaled[most][day], day)) for most, policy, day in asked])
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            most,
            policy,
            day + 1,
            each.requests,
            each.on_time,
            each.violation_ratio,
            each.effective_accuracy,
        )
        for (most, policy, day), each in zip(asked, done, strict=True)
    ]
    found: dict[float, dict[str, list[Outcome]]] = {}
    for (most, policy, _), each in zip(asked, done, strict=True):
        found.setdefault(most, {}).setdefault(policy, []).append(each)
    return Section(
        "month",
        "A recorded month, day by day",
        f"{name}: every day of the series in {recipe.duration_s:g} s, which are seconds of the day at equal "
        f"distances. Rates go from {recipe.least_rps:.3g} requests a second in the least second of all to a "
        "multiple of what the model carries with all modalities in the greatest of all: twice that, as in the "
        "paper, and more. Gaps of the recording are left out, and each day is a run of its own.",
        Grid(COLUMNS, tuple(rows)),
        [_figure(most, own, *shown) for most, own in found.items() for shown in SHOWN],
        Grid(
            ("greatest rate (of capacity)", "policy", "on time", "worst day", "effective accuracy"),
            tuple(
                (f"{most:g}", policy, *_summary(all_))
                for most, own in found.items()
                for policy, all_ in own.items()
            ),
        ),
    )


def sampled_days(counts: Counts, seconds: int) -> list[Counts]:
    """Return `seconds` counts of each day, at equal distances, gaps left out; a day too short for that is none.

    Raises:
        UsageError: no day has as many seconds.
    """
    days = [_without_gaps(counts[start : start + DAY_S]) for start in range(0, len(counts), DAY_S)]
    kept = [day[np.arange(seconds) * len(day) // seconds] for day in days if len(day) >= seconds]
    if not kept:
        raise UsageError(f"the trace has {len(counts):,} s; expected at least {seconds} s without a gap")
    return kept


def _without_gaps(day: Counts) -> Counts:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], day == 0, [0]]).astype(np.int64)))
    recorded = np.ones(len(day), dtype=bool)
    for start, end in edges.reshape(-1, 2).tolist():
        if end - start >= GAP_S:
            recorded[start:end] = False
    return day[recorded]


def _on_rates(days: list[Counts], recipe: Recipe) -> list[Counts]:
    """Return the days' counts from the recipe's least rate to its greatest, over all days together (§7.1)."""
    series = np.concatenate(days)
    over_all = Recipe("trace", len(series), least_rps=recipe.least_rps, most_rps=recipe.most_rps)
    return np.split(mapped(over_all, series), len(days))


def _trial(policy: str, recipe: Recipe, counts: Counts, day: int) -> Trial:
    return Trial(policy, Recipe("trace", recipe.duration_s, day), series=tuple(counts.tolist()))


def _figure(most: float, own: dict[str, list[Outcome]], key: str, y: str) -> Figure:
    series = {
        policy: {float(day): [float(getattr(each, key))] for day, each in enumerate(outcomes, 1)}
        for policy, outcomes in own.items()
    }
    return Figure(f"At most {most:g} times the capacity", "", medians(series, "day", y, unit=True))


def _summary(outcomes: list[Outcome]) -> tuple[str, str, str]:
    weights = [each.requests for each in outcomes]
    on_time = np.average([each.on_time for each in outcomes], weights=weights)
    effective = np.average([each.effective_accuracy for each in outcomes], weights=weights)
    return f"{on_time:.1%}", f"{min(each.on_time for each in outcomes):.1%}", f"{effective:.3f}"
