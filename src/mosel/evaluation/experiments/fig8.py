"""Fig. 8: a lower precision alone, and with modality selection (appendix C)."""

from itertools import product

from mosel.core.tables import Profile
from mosel.evaluation.experiments.charts import medians
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Trial
from mosel.evaluation.experiments.workloads import at_load

LOADS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
QUICK = (0.5, 2.0)
LOWER = ("float16", "bfloat16", "int8")
COLUMNS = ("profile", "system", "load", "seed", "violation_ratio", "accuracy")


def fig8(lab: Lab) -> Section:
    """Return violation ratios against load for full precision, a lower one, and that with selection."""
    loads = QUICK if lab.quick else LOADS
    pairs = {name: lower for name, profile in lab.profiles.items() if (lower := lower_precision(profile))}
    asked = [
        (name, *system, load, seed)
        for name, lower in pairs.items()
        for system, load, seed in product(systems(lab.profiles[name], lower), loads, range(lab.seeds))
    ]
    done = lab.trials(
        [
            (name, Trial(policy, at_load(lab, lab.profiles[name], load, seed, "constant"), precision=precision))
            for name, _, policy, precision, load, seed in asked
        ]
    )
    rows: list[tuple[Cell, ...]] = [
        (name, system, load, seed, each.violation_ratio, each.accuracy)
        for (name, system, _, _, load, seed), each in zip(asked, done, strict=True)
    ]
    figures = [Figure(name, f"Lower precision: {pairs[name]}.", _drawn(rows, name)) for name in pairs]
    return Section(
        "fig8", "Lower precision and selection (Fig. 8)", _text(lab, pairs), Grid(COLUMNS, tuple(rows)), figures
    )


def lower_precision(profile: Profile) -> str:
    """Return the lower precision that the profile has all modalities at and is fastest in, or nothing."""
    full_s = {
        profile.precision_of(mode): profile.columns(mode.latency_s)[-1][0]
        for mode in profile.modes
        if len(mode.modalities) == len(profile.modalities)
    }
    found = [name for name in LOWER if name in full_s and name != profile.precision]
    if "float16" in found:
        return "float16"
    return min(found, key=full_s.__getitem__, default="")


def systems(profile: Profile, lower: str) -> list[tuple[str, str, str]]:
    """Return name, policy and precision of the three systems that the paper compares, and of ours."""
    return [
        (profile.precision, "none", profile.precision),
        (lower, "none", lower),
        (f"{lower} + selection", "paper", lower),
        (f"{lower} + joint", "joint", lower),
    ]


def _drawn(rows: list[tuple[Cell, ...]], name: str) -> str:
    series: dict[str, dict[float, list[float]]] = {}
    for own, system, load, _, ratio, _ in rows:
        if own == name:
            series.setdefault(str(system), {}).setdefault(float(load or 0), []).append(float(ratio or 0))
    return medians(series, "load (of the full mode's capacity)", "violation ratio", log_x=True, unit=True)


def _text(lab: Lab, pairs: dict[str, str]) -> str:
    without = [name for name in lab.profiles if name not in pairs]
    text = (
        "Violation ratio of constant arrivals against load, with all modalities at full precision, at a lower "
        "one, and at the lower one with modality selection. float16 where the profile has it; otherwise the "
        "fastest of bfloat16 and int8, which stands in for it and is named."
    )
    return text + (
        f" Not shown, as their profiles have one precision: {', '.join(without)}." if without else ""
    )
