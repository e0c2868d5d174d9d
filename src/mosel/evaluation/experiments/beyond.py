"""What the paper has not: share of the clairvoyant bound, effective accuracy, sensitivity, unlike tenants."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from statistics import median

from mosel.core.tables import Profile
from mosel.evaluation.arrivals import Recipe
from mosel.evaluation.experiments.charts import medians
from mosel.evaluation.experiments.fig5 import median_of
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Outcome, Trial
from mosel.evaluation.experiments.workloads import COMPARED, POLICIES, at_load, largest

LOADS, QUICK_LOADS = (0.5, 1.0, 2.0, 4.0, 8.0), (1.0, 4.0)
AGAINST = ("none+batching", "joint")
HIGH = 3.0
"""The load of the sensitivity studies: above what full modalities carry."""
WIDE = 8.0
"""A knob whose values reach from one to this many times as much is drawn on a logarithmic scale."""


def share(lab: Lab) -> Section:
    """Return on-time share beside the clairvoyant bound, and effective accuracy, against load."""
    loads = QUICK_LOADS if lab.quick else LOADS
    asked = list(product(lab.profiles, POLICIES, loads, range(lab.seeds)))
    done = lab.trials(
        [
            (name, Trial(policy, at_load(lab, lab.profiles[name], load, seed), bound=policy == "none"))
            for name, policy, load, seed in asked
        ]
    )
    bounds = {
        (name, load, seed): each.bound
        for (name, _, load, seed), each in zip(asked, done, strict=True)
        if each.bound is not None
    }
    rows: list[tuple[Cell, ...]] = [
        (name, policy, load, seed, each.on_time, bounds.get((name, load, seed)), each.effective_accuracy)
        for (name, policy, load, seed), each in zip(asked, done, strict=True)
    ]
    figures = []
    for name in lab.profiles:
        shares = _series(rows, name, _share_of_bound)
        gained = _series(rows, name, _effective)
        x = "load (of the full mode's capacity)"
        figures += [
            Figure(
                name,
                "On time, as a share of the bound.",
                medians(shares, x, "share of the bound", log_x=True, unit=True),
            ),
            Figure(
                name,
                "Effective accuracy: a late answer counts 0.",
                medians(gained, x, "effective accuracy", log_x=True),
            ),
        ]
    return Section(
        "share",
        "Share of the clairvoyant bound, and effective accuracy",
        "No schedule whatever, one that knows the future included, serves more on time than the bound. Lines "
        "are medians; bands reach from the least to the greatest seed.",
        Grid(("profile", "policy", "load", "seed", "on_time", "bound", "effective_accuracy"), tuple(rows)),
        figures,
        _against_baseline(rows, lab, loads),
    )


def _against_baseline(rows: Sequence[tuple[Cell, ...]], lab: Lab, loads: Sequence[float]) -> Grid:
    """Return by how much `joint` serves more on time than the stronger baseline, at each load."""
    shown = []
    for name, load in product(lab.profiles, loads):
        on_time, gained = (
            [
                median(float(row[column] or 0) for row in rows if row[:3] == (name, policy, load))
                for policy in AGAINST
            ]
            for column in (4, 6)
        )
        points = [f"{100 * (ours - base):+.1f}" for base, ours in (on_time, gained)]
        shown.append((name, f"{load:g}", *(f"{value:.1%}" for value in on_time), *points))
    columns = ("profile", "load", *(f"on time: {policy}" for policy in AGAINST), "more, in points")
    return Grid((*columns, "effective accuracy: more, in points"), tuple(shown))


def _series(
    rows: Sequence[tuple[Cell, ...]], name: str, value: Callable[[tuple[Cell, ...]], float]
) -> dict[str, dict[float, list[float]]]:
    found: dict[str, dict[float, list[float]]] = {policy: {} for policy in COMPARED}
    for row in rows:
        if row[0] == name and row[1] in found:
            found[str(row[1])].setdefault(float(row[2] or 0), []).append(value(row))
    return found


def _share_of_bound(row: tuple[Cell, ...]) -> float:
    return float(row[4] or 0) / float(row[5] or 1)


def _effective(row: tuple[Cell, ...]) -> float:
    return float(row[6] or 0)


def sensitivity(lab: Lab) -> Section:
    """Return on-time share against one knob at a time: SLO, burstiness, job size, number of modalities."""
    name = largest(lab)
    profile = lab.profiles[name]
    asked = [
        (knob, value, policy, seed, make)
        for knob, values in _knobs(lab, profile).items()
        for (value, make), policy, seed in product(values.items(), COMPARED, range(lab.seeds))
    ]
    done = lab.trials([(name, make(policy, seed)) for _, _, policy, seed, make in asked])
    rows: list[tuple[Cell, ...]] = [
        (name, knob, value, policy, seed, each.on_time, each.effective_accuracy)
        for (knob, value, policy, seed, _), each in zip(asked, done, strict=True)
    ]
    figures = []
    for knob, values in _knobs(lab, profile).items():
        series = {
            policy: {
                value: [float(row[5] or 0) for row in rows if row[1:4] == (knob, value, policy)]
                for value in values
            }
            for policy in COMPARED
        }
        log_x = max(values) >= WIDE * min(values)
        svg = medians(series, knob, "on time (share of requests)", log_x=log_x, unit=True)
        figures.append(Figure(knob, "", svg))
    return Section(
        "sensitivity",
        "Sensitivity",
        f"{name} at {HIGH:g} times the full mode's capacity, one thing varied at a time.",
        Grid(("profile", "knob", "value", "policy", "seed", "on_time", "effective_accuracy"), tuple(rows)),
        figures,
    )


Make = Callable[[str, int], Trial]


def _knobs(lab: Lab, profile: Profile) -> dict[str, dict[float, Make]]:
    def recipe(seed: int) -> Recipe:
        return at_load(lab, profile, HIGH, seed)

    def slo(value: float) -> Make:
        return lambda policy, seed: Trial(policy, replace(recipe(seed), latency_slo_s=value))

    def burst(value: float) -> Make:
        def make(policy: str, seed: int) -> Trial:
            made = recipe(seed)
            return Trial(policy, replace(made, most_rps=value * (made.rate_rps or 0.0)))

        return make

    def size(value: float) -> Make:
        return lambda policy, seed: Trial(policy, recipe(seed), job_requests=int(value))

    def modalities(value: float) -> Make:
        return lambda policy, seed: Trial(policy, recipe(seed), modalities=int(value))

    step = 2 if lab.quick else 1
    return {
        "latency SLO (s)": {value: slo(value) for value in [0.1, 0.25, 0.5, 1.0, 2.0][::step]},
        "greatest rate / mean rate": {value: burst(value) for value in [1.5, 2.0, 2.5, 3.0, 4.0][::step]},
        "requests of every job": {value: size(value) for value in [1.0, 2.0, 4.0, 8.0, 16.0][::step]},
        "number of modalities": {
            float(count): modalities(count) for count in range(1, len(profile.modalities) + 1)
        },
    }


def tenants(lab: Lab) -> Section:
    """Return the on-time shares of two tenants, one in a hurry and one that is not, served together."""
    asked = list(product(lab.profiles, POLICIES, range(lab.seeds)))
    done = lab.trials([(name, _two(lab, name, policy, seed)) for name, policy, seed in asked])
    rows: list[tuple[Cell, ...]] = [
        (name, policy, seed, dict(each.tenants).get("first"), dict(each.tenants).get("second"))
        for (name, policy, seed), each in zip(asked, done, strict=True)
    ]
    shown = []
    for index, (name, policy, seed) in enumerate(asked):
        if seed == 0:
            own: Sequence[Outcome] = done[index : index + lab.seeds]
            first, second = (median(dict(each.tenants)[who] for each in own) for who in ("first", "second"))
            both = median_of(own, "on_time")
            shown.append((name, policy, f"{first:.1%}", f"{second:.1%}", f"{both:.1%}"))
    return Section(
        "tenants",
        "Two tenants with unlike SLOs",
        "Each sends 1.5 times the full mode's capacity: the first wants answers within 0.2 s, the second "
        "within 2 s. On-time shares, medians over seeds.",
        Grid(("profile", "policy", "seed", "first_on_time", "second_on_time"), tuple(rows)),
        shown=Grid(("profile", "policy", "first (0.2 s)", "second (2 s)", "both"), tuple(shown)),
    )


def _two(lab: Lab, name: str, policy: str, seed: int) -> Trial:
    made = at_load(lab, lab.profiles[name], 1.5, seed)
    first, second = replace(made, latency_slo_s=0.2), replace(made, latency_slo_s=2.0, seed=1000 + seed)
    return Trial(policy, first, other=second)
