"""The headline table: the paper's figure, ours, and why they differ."""

from mosel.core.tables import Profile
from mosel.evaluation.experiments.fig5 import Found, median_of, production
from mosel.evaluation.experiments.fig8 import lower_precision
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Grid, Section
from mosel.evaluation.experiments.trials import Search, paper_capacity_rps
from mosel.evaluation.experiments.workloads import duration_s

THROUGHPUT = {"tvlt": 5.3, "avhubert": 2.2, "tbn": 3.1, "selfmm": 1.12, "vilt": 4.3}
POINTS = {"tvlt": 25, "avhubert": 15, "tbn": 17, "selfmm": 4, "vilt": 18}
COMPLETION, PRECISION = 11.0, 4.6
COMPARED = ("paper", "optimized", "joint")
COLUMNS = ("figure", "model", "the_papers", "profile", *COMPARED, "reached", "why", "seeds", "usual_s")
SEARCH_S, QUICK_SEARCH_S = 20.0, 6.0
NO_PROFILE = "not measured: no profile given"
SEARCH_REQUESTS = 40
"""At the full mode's capacity: the least that a search sends a slow model."""


def headline(lab: Lab) -> Section:
    """Return one row for each of the paper's claims and each profile that bears on it."""
    found = production(lab, ("none", *COMPARED))
    carried = _carried(lab)
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
        "Medians over seeds, in simulation, against `none`, the paper's own baseline. A profile that was "
        "measured on another device or of a smaller model is no measurement of the paper's setting: the last "
        "column says what differs. A dash: not measured, as no profile of that model is in this run.",
        Grid(COLUMNS, tuple((*row, lab.seeds, lab.duration_s) for row in rows)),
        shown=Grid(
            (
                "model",
                "claim",
                "paper",
                "profile",
                "paper's policy",
                "optimized",
                "joint",
                "reached",
                "why it differs",
            ),
            tuple(_shown_row(row) for row in rows),
        ),
    )


def _shown_row(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    return tuple(_shown(cell) for cell in (row[1], row[0], *row[2:]))


def _shown(cell: Cell) -> Cell:
    if cell is None or cell == "":
        return "–"
    return f"{cell:.3g}" if isinstance(cell, float) else cell


def _model_of(name: str) -> str:
    return next((model for model in THROUGHPUT if name.startswith(model)), "")


def _carried(lab: Lab) -> dict[tuple[str, str, str], float]:
    """Return the highest rate under 10% violations of each profile, policy and precision ("" for all)."""
    asked = [
        (name, Search(policy, _search_s(lab, profile), 0, precision))
        for name, profile in lab.profiles.items()
        for policy, precision in _systems(profile)
    ]
    done = lab.searches(asked)
    return {
        (name, search.policy, search.precision): each.rate_rps
        for (name, search), each in zip(asked, done, strict=True)
    }


def _systems(profile: Profile) -> list[tuple[str, str]]:
    found = [(policy, "") for policy in ("none", *COMPARED)]
    if lower := lower_precision(profile):
        found += [("none", profile.precision), *((policy, lower) for policy in COMPARED)]
    return found


def _search_s(lab: Lab, profile: Profile) -> float:
    asked = QUICK_SEARCH_S if lab.quick else SEARCH_S
    rate = paper_capacity_rps(profile)
    return max(min(asked, max(4.0, duration_s(lab, 4 * rate))), SEARCH_REQUESTS / rate)


def _rows(
    lab: Lab, found: Found, carried: dict[tuple[str, str, str], float], model: str, name: str
) -> list[tuple[Cell, ...]]:
    claims: list[tuple[str, float | None]] = [
        ("throughput, mean over the trace (times none)", THROUGHPUT.get(model)),
        ("highest rate under 10% violations (times none)", THROUGHPUT.get(model)),
        ("violation ratio below none's (points)", POINTS.get(model)),
        ("completion time shorter than none's (times)", COMPLETION if model in ("", "tvlt") else None),
        ("rate with lower precision and selection (times full precision's)", PRECISION if name else None),
    ]
    if not name:
        fast = [each for each in lab.left_out if _model_of(each) == model]
        why = f"not simulated: {fast[0]} is so fast that it takes long" if fast else NO_PROFILE
        return [(text, model, value, "", None, None, None, "", why) for text, value in claims[:3]]
    profile, rows = lab.profiles[name], list[tuple[Cell, ...]]()
    values = _values(found, carried, profile, name)
    for (text, paper), ours in zip(claims, values, strict=False):
        reached = _reached(ours[-1], paper)
        rows.append((text, model or profile.model, paper, name, *ours, reached, _why(profile, model)))
    return rows


def _reached(ours: float | None, paper: float | None) -> str:
    if ours is None or paper is None:
        return ""
    return "yes" if ours >= paper else "no"


def _values(
    found: Found, carried: dict[tuple[str, str, str], float], profile: Profile, name: str
) -> list[tuple[float | None, ...]]:
    def over(key: str) -> tuple[float, ...]:
        base = median_of(found[name, "none"], key)
        return tuple(median_of(found[name, policy], key) / max(base, 1e-9) for policy in COMPARED)

    base_ratio = median_of(found[name, "none"], "violation_ratio")
    rates = tuple(_ratio(carried[name, policy, ""], carried[name, "none", ""]) for policy in COMPARED)
    points = tuple(
        100 * (base_ratio - median_of(found[name, policy], "violation_ratio")) for policy in COMPARED
    )
    shorter = tuple(1 / max(value, 1e-9) for value in over("jct_mean_s"))
    values: list[tuple[float | None, ...]] = [over("throughput_rps"), rates, points, shorter]
    if lower := lower_precision(profile):
        whole = carried[name, "none", profile.precision]
        values.append(tuple(_ratio(carried[name, policy, lower], whole) for policy in COMPARED))
    return values


def _ratio(rate_rps: float, base_rps: float) -> float | None:
    """Return their ratio; None where the baseline carries no rate at all."""
    return rate_rps / base_rps if base_rps else None


def _why(profile: Profile, model: str) -> str:
    parts = ["simulated from a profile"]
    if profile.device.kind != "cuda":
        parts.append(f"of a {profile.device.kind.upper()}, not the paper's A100")
    if not model:
        parts.append("of a model that the paper does not have")
    elif profile.model.endswith("-small"):
        parts.append("of a small model")
    notes = " ".join(map(str, (profile.extra or {}).get("notes", ())))
    if "no accuracy is claimed" in notes:
        parts.append("of random weights, so that the fastest mode meets every accuracy SLO")
    if "too noisy" in notes:
        parts.append("measured on a busy machine")
    if (lower := lower_precision(profile)) and lower != "float16":
        parts.append(f"{lower} in place of float16")
    return ", ".join(parts)
