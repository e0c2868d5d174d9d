"""Fig. 1: what each modality costs and brings, and the least latency of each accuracy."""

from mosel.core.tables import Mode, Profile
from mosel.evaluation.experiments.charts import bars, medians
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.workloads import claims_accuracy

COLUMNS = ("profile", "mode", "precision", "latency_ms", "latency_of_full", "memory_of_full", "accuracy")


def fig1(lab: Lab) -> Section:
    """Return latency, memory and accuracy of every mode at batch size 1, straight from the profiles."""
    rows, figures, reach = [], list[Figure](), dict[str, dict[float, list[float]]]()
    for name, profile in lab.profiles.items():
        found = [_row(name, profile, mode) for mode in _own_precision(profile)]
        rows += found
        text = f"{profile.device.name} ({profile.device.kind}), {profile.precision}, batch size 1."
        measures = [("latency (of the full mode)", 4), ("memory (of the full mode)", 5)]
        if claims_accuracy(profile):
            measures.append((profile.metric, 6))
            reach[name] = _least_latency(found)
        else:
            text += " Random weights, so no accuracies."
        panels = {title: {str(row[1]): float(row[column] or 0) for row in found} for title, column in measures}
        figures.append(Figure(name, text, bars(panels, 0.9 + 0.28 * len(found)), wide=True))
    if reach:
        x, y = "accuracy asked for", "least latency (of the full mode)"
        steps = medians(reach, x, y, steps=True, wide=True)
        text = "Of one request, over all modes."
        figures.append(Figure("Least latency of an accuracy", text, steps, wide=True))
    return Section(
        "fig1",
        "What modalities cost and bring (Fig. 1)",
        "Latency, memory and accuracy of each combination of modalities, beside those of all together.",
        Grid(COLUMNS, tuple(rows)),
        figures,
    )


def _own_precision(profile: Profile) -> list[Mode]:
    return [mode for mode in profile.modes if profile.precision_of(mode) == profile.precision]


def _row(name: str, profile: Profile, mode: Mode) -> tuple[Cell, ...]:
    full = max(_own_precision(profile), key=lambda each: len(each.modalities))
    latency_s, whole_s = (profile.columns(each.latency_s)[-1][0] for each in (mode, full))
    memory, whole = (profile.columns(each.memory_bytes)[-1][0] for each in (mode, full))
    return (
        name,
        "+".join(mode.modalities),
        profile.precision_of(mode),
        1000 * latency_s,
        latency_s / whole_s,
        memory / whole if whole else 0.0,
        mode.accuracy,
    )


def _least_latency(rows: list[tuple[Cell, ...]]) -> dict[float, list[float]]:
    pairs = [(float(row[6] or 0), float(row[4] or 0)) for row in rows]
    return {
        accuracy: [min(latency for reached, latency in pairs if reached >= accuracy)]
        for accuracy in sorted({accuracy for accuracy, _ in pairs})
    }
