"""The headline table: the paper's figure, ours, and why they differ.

As in the paper, the first claims are about modalities alone, at one precision; the last adds a lower one.
"""

from collections.abc import Mapping, Sequence
from itertools import product

from mosel.core.tables import Profile
from mosel.evaluation.experiments.costs import gain_of_selection
from mosel.evaluation.experiments.fig5 import Found, median_of
from mosel.evaluation.experiments.fig8 import lower_precision
from mosel.evaluation.experiments.fullsize import accuracies_of
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Grid, Section
from mosel.evaluation.experiments.trials import Search, Trial, at_precision, paper_capacity_rps
from mosel.evaluation.experiments.workloads import claims_accuracy, duration_s, paper_recipe

THROUGHPUT = {"tvlt": 5.3, "avhubert": 2.2, "tbn": 3.1, "selfmm": 1.12, "vilt": 4.3}
POINTS = {"tvlt": 25, "avhubert": 15, "tbn": 17, "selfmm": 4, "vilt": 18}
COMPLETION, PRECISION = 11.0, 4.6
COMPARED = ("paper", "optimized", "joint")
POLICIES = ("none", *COMPARED)
COLUMNS = ("figure", "model", "the_papers", "profile", *COMPARED, "reached", "why", "seeds", "usual_s")
SHOWN = ("model", "claim", "the paper", "profile", *COMPARED, "joint reaches it", "why it differs")
SEARCH_S, QUICK_SEARCH_S = 20.0, 6.0
NO_PROFILE = "not measured: no profile given"
SEARCH_REQUESTS = 40
"""At the full mode's capacity: the least that a search sends a slow model."""
LEAST_GAIN = 4.0
ALL_ON_TIME = 0.001
"""Up to this violation ratio a policy is said to have every request on time."""

Carried = Mapping[tuple[str, str, str], float]
"""The highest rate under 10% violations of each profile, policy and precision."""
Ours = tuple[float | None, ...]
"""A figure under each policy of `COMPARED`."""


def headline(lab: Lab) -> Section:
    """Return one row for each of the paper's claims and each profile that bears on it."""
    found, carried = _production(lab), _carried(lab)
    rows: list[tuple[Cell, ...]] = []
    for model in THROUGHPUT:
        own = [name for name in lab.profiles if _model_of(name) == model]
        for name in own or [""]:
            rows += _rows(lab, found, carried, model, name)
    for name in [each for each in lab.profiles if not _model_of(each)]:
        rows += _rows(lab, found, carried, "", name)
    return Section(
        "headline",
        "The paper's claims beside ours",
        "Medians over seeds, in simulation, against the policy none, the paper's own baseline, and but for the "
        "last claim at one precision. A profile measured on another device or of a smaller model is no "
        "measurement of the paper's setting: the last column says what differs, and where the claim is not "
        "reached, why. Profiles called scaled are full-size models' latencies, all made faster by the one "
        "factor that brings all modalities to the rate that they have in the paper; accuracies are those of "
        "the small model of their kind. A dash: not measured, or nothing to compare with.",
        Grid(COLUMNS, tuple((*row, lab.seeds, lab.duration_s) for row in rows)),
        shown=Grid(SHOWN, tuple(_shown_row(row) for row in rows)),
    )


def _production(lab: Lab) -> Found:
    """Return outcomes on the paper's workload, at each profile's own precision."""
    pairs = list(product(lab.profiles, POLICIES))
    asked = [
        (name, Trial(policy, paper_recipe(lab, profile, seed), precision=profile.precision))
        for name, policy in pairs
        for profile in [at_precision(lab.profiles[name], lab.profiles[name].precision)]
        for seed in range(lab.seeds)
    ]
    done = lab.trials(asked)
    return {pair: done[index * lab.seeds : (index + 1) * lab.seeds] for index, pair in enumerate(pairs)}


def _shown_row(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    return tuple(_shown(cell) for cell in (row[1], row[0], *row[2:]))


def _shown(cell: Cell) -> Cell:
    if cell is None or cell == "":
        return "–"
    return f"{cell:.3g}" if isinstance(cell, float) else cell


def _model_of(name: str) -> str:
    return next((model for model in THROUGHPUT if name.startswith(model)), "")


def _carried(lab: Lab) -> Carried:
    asked = [
        (name, Search(policy, _search_s(lab, profile), 0, precision))
        for name, profile in lab.profiles.items()
        for policy, precision in systems(profile)
    ]
    done = lab.searches(asked)
    return {
        (name, search.policy, search.precision): each.rate_rps
        for (name, search), each in zip(asked, done, strict=True)
    }


def systems(profile: Profile) -> list[tuple[str, str]]:
    """Return the policies and precisions whose highest rates are sought."""
    found = [(policy, profile.precision) for policy in POLICIES]
    if lower := lower_precision(profile):
        found += [(policy, lower) for policy in COMPARED]
    return found


def _search_s(lab: Lab, profile: Profile) -> float:
    """Return how long a search's workloads are, whose rates go up to what selection may carry."""
    asked = QUICK_SEARCH_S if lab.quick else SEARCH_S
    rate = paper_capacity_rps(profile)
    carried = rate * max(LEAST_GAIN, gain_of_selection(at_precision(profile, profile.precision), profile))
    return max(min(asked, max(4.0, duration_s(lab, carried))), SEARCH_REQUESTS / rate)


def _rows(lab: Lab, found: Found, carried: Carried, model: str, name: str) -> list[tuple[Cell, ...]]:
    claims: list[tuple[str, float | None]] = [
        ("throughput, mean over the trace (times none)", THROUGHPUT.get(model)),
        ("highest rate under 10% violations (times none)", THROUGHPUT.get(model)),
        ("violation ratio below none's (points)", POINTS.get(model)),
        ("completion time shorter than none's (times)", COMPLETION if model in ("", "tvlt") else None),
        ("rate with lower precision and selection (times full precision's)", PRECISION if name else None),
    ]
    if not name:
        why = next((f"not simulated: {why}" for each, why in _left_out(lab, model)), NO_PROFILE)
        return [(text, model, value, "", None, None, None, "", why) for text, value in claims[:3]]
    profile = lab.profiles[name]
    values = _values(found, carried, profile, name)
    causes = _causes(found, profile, name)
    rows = list[tuple[Cell, ...]]()
    for (text, paper), ours, cause in zip(claims, values, causes, strict=False):
        reached = _reached(ours[-1], paper)
        why = _why(profile, model) + (f"; {cause}" if cause and reached == "no" else "")
        rows.append((text, model or profile.model, paper, name, *ours, reached, why))
    return rows


def _left_out(lab: Lab, model: str) -> list[tuple[str, str]]:
    return [(name, why) for name, why in lab.left_out.items() if _model_of(name) == model]


def _reached(ours: float | None, paper: float | None) -> str:
    if ours is None or paper is None:
        return ""
    return "yes" if ours >= paper else "no"


def _values(found: Found, carried: Carried, profile: Profile, name: str) -> list[Ours]:
    def medians(key: str) -> tuple[float, tuple[float, ...]]:
        base, *ours = (median_of(found[name, policy], key) for policy in POLICIES)
        return base, tuple(ours)

    on_time, violated, taken_s = (medians(key) for key in ("throughput_rps", "violation_ratio", "jct_mean_s"))
    whole = carried[name, "none", profile.precision]
    values: list[Ours] = [
        tuple(_ratio(ours, on_time[0]) for ours in on_time[1]),
        tuple(_ratio(carried[name, policy, profile.precision], whole) for policy in COMPARED),
        tuple(100 * (violated[0] - ours) for ours in violated[1]),
        tuple(_ratio(taken_s[0], ours) for ours in taken_s[1]),
    ]
    if lower := lower_precision(profile):
        values.append(tuple(_ratio(carried[name, policy, lower], whole) for policy in COMPARED))
    return values


def _ratio(ours: float, base: float) -> float | None:
    """Return their ratio; None where there is nothing to compare with."""
    return ours / base if ours and base else None


def _causes(found: Found, profile: Profile, name: str) -> Sequence[str]:
    """Say of each claim what keeps it from being reached, as far as the profile and the runs tell."""
    missed, base = (median_of(found[name, policy], "violation_ratio") for policy in ("joint", "none"))
    if missed <= ALL_ON_TIME:
        trace = f"joint has every request on time, and none already {1 - base:.0%}: no schedule gains more"
    else:
        trace = f"none already has {1 - base:.0%} on time, joint {1 - missed:.0%}"
    whole = at_precision(profile, profile.precision)
    gains = [gain_of_selection(whole, whole)]
    if lower := lower_precision(profile):
        gains.append(gain_of_selection(whole, at_precision(profile, lower)))
    said = [
        f"batched alike, the cheapest modes that SLOs allow take {gain:.3g} times less time" for gain in gains
    ]
    waits, short = (median_of(found[name, policy], "jct_mean_s") for policy in ("none", "joint"))
    taken = f"a job takes {waits:.3g} s under none and {short:.3g} s under joint, in the mean"
    return (trace, said[0], trace, taken, said[-1])


def _why(profile: Profile, model: str) -> str:
    parts = ["simulated from a profile"]
    if profile.device.kind != "cuda":
        parts.append(f"of a {profile.device.kind.upper()}, not the paper's A100")
    if not model:
        parts.append("of a model that the paper does not have")
    elif profile.model.endswith("-small"):
        parts.append("of a small model")
    if lender := accuracies_of(profile):
        parts.append(f"scaled to the paper's rate, with the accuracies of {lender}")
        parts.append(f"in batches of {profile.batch_sizes[-1]} at most")
    elif not claims_accuracy(profile):
        parts.append("of random weights, so that the fastest mode meets every accuracy SLO")
    if "too noisy" in " ".join(map(str, (profile.extra or {}).get("notes", ()))):
        parts.append("measured on a busy machine")
    if (lower := lower_precision(profile)) and lower != "float16":
        parts.append(f"{lower} in place of float16")
    return ", ".join(parts)
