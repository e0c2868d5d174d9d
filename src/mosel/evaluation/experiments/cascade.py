"""Cascades beside modes and mixes of modes: accuracy against cost, and what both are worth under load."""

from collections.abc import Sequence
from itertools import product

from mosel.core.tables import Profile
from mosel.evaluation.experiments.charts import SINGLE, Series, medians, scatter
from mosel.evaluation.experiments.costs import cheapest_mix, points
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Trial
from mosel.evaluation.experiments.workloads import at_load

LOADS, QUICK_LOADS = (1.0, 2.0, 4.0, 8.0), (1.0, 4.0)
POLICIES = ("optimized", "joint")
COLUMNS = (
    "profile", "what", "name", "load", "seed", "cost", "accuracy", "cost_of_mix", "on_time",
    "effective_accuracy",
)  # fmt: skip


def cascade(lab: Lab) -> Section:
    """Return accuracy against cost of modes, mixes and cascades, and policies with and without cascades."""
    names = [name for name, profile in lab.profiles.items() if profile.cascades]
    costs = [row for name, profile in lab.profiles.items() for row in _costs(name, profile)]
    loads = _loads(lab, names)
    figures = []
    for name in names:
        figures.append(Figure(name, "Cost and accuracy of a request.", _cost_picture(costs, name)))
        for column, title in ((8, "on time (share of requests)"), (9, "effective accuracy")):
            text = f"{title.capitalize()}, against load."
            figures.append(Figure(name, text, _load_picture(loads, name, column, title)))
    without = [name for name in lab.profiles if name not in names]
    missing = f" No cascade pays, or none was looked for, in: {', '.join(without)}." if without else ""
    return Section(
        "cascade",
        "Cascades",
        "A cascade runs a request in a cheap mode first, and again in a dearer one where the model is unsure. "
        "Costs are those of a request in each mode's best batch, beside all modalities; a mix of modes costs, "
        "and reaches, the mean of its parts. Loads are multiples of the full mode's capacity; policies called "
        f"single have no cascades.{missing}",
        Grid(COLUMNS, tuple(costs + loads)),
        figures,
    )


def _costs(name: str, profile: Profile) -> list[tuple[Cell, ...]]:
    modes, cascades = points(profile)
    rows = [("mode", point) for point in modes] + [("cascade", point) for point in cascades]
    return [
        (name, what, own, None, None, cost, accuracy, cheapest_mix(modes, accuracy), None, None)
        for what, (own, cost, accuracy) in rows
    ]


def _loads(lab: Lab, names: Sequence[str]) -> list[tuple[Cell, ...]]:
    loads = QUICK_LOADS if lab.quick else LOADS
    asked = list(product(names, POLICIES, (False, True), loads, range(lab.seeds)))
    done = lab.trials(
        [
            (name, Trial(policy, at_load(lab, lab.profiles[name], load, seed), cascades=with_them))
            for name, policy, with_them, load, seed in asked
        ]
    )
    return [
        (
            name, "policy", policy if with_them else f"{policy}{SINGLE}", load, seed,
            None, each.accuracy, None, each.on_time, each.effective_accuracy,
        )
        for (name, policy, with_them, load, seed), each in zip(asked, done, strict=True)
    ]  # fmt: skip


def _cost_picture(rows: Sequence[tuple[Cell, ...]], name: str) -> str:
    def places(what: str) -> list[tuple[float, float]]:
        return [(float(row[5] or 0), float(row[6] or 0)) for row in rows if row[:2] == (name, what)]

    mixes = [(float(row[7] or 0), float(row[6] or 0)) for row in rows if row[0] == name]
    series: Series = {"modes": places("mode"), "cascades": places("cascade")}
    return scatter(series, {"cheapest mix of modes": sorted(mixes)}, "cost (of the full mode)", "accuracy")


def _load_picture(rows: Sequence[tuple[Cell, ...]], name: str, column: int, title: str) -> str:
    series: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        if row[0] == name:
            points = series.setdefault(str(row[2]), {})
            points.setdefault(float(row[3] or 0), []).append(float(row[column] or 0))
    return medians(series, "load (of the full mode's capacity)", title, log_x=True)
