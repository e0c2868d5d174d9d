"""Fig. 7: latencies believed to be 0.2 to 2.5 times what they are (§7.2)."""

from itertools import product

from mosel.evaluation.experiments.charts import medians
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Trial
from mosel.evaluation.experiments.workloads import at_load

BELIEVED = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5)
QUICK = (0.2, 1.0, 2.5)
POLICIES = ("paper", "joint")
LOAD = 4 / 3
"""The paper's 40 requests a second, TVLT's capacity being 30."""


def fig7(lab: Lab) -> Section:
    """Return throughput and accuracy against the factor by which the scheduler is misled."""
    factors = QUICK if lab.quick else BELIEVED
    asked = list(product(lab.profiles, POLICIES, factors, range(lab.seeds)))
    done = lab.trials(
        [
            (name, Trial(policy, at_load(lab, lab.profiles[name], LOAD, seed, "constant"), believed=factor))
            for name, policy, factor, seed in asked
        ]
    )
    rows: list[tuple[Cell, ...]] = [
        (name, policy, factor, seed, each.throughput_rps, each.violation_ratio, each.accuracy)
        for (name, policy, factor, seed), each in zip(asked, done, strict=True)
    ]
    figures = []
    for name in lab.profiles:
        for column, title in ((4, "on time (of that at 1)"), (6, "accuracy of jobs on time")):
            series = {
                policy: {factor: _values(rows, (name, policy, factor), column) for factor in factors}
                for policy in POLICIES
            }
            if column == 4:
                series = {policy: _normalised(points) for policy, points in series.items()}
            svg = medians(series, "believed latency / actual latency", title, zero=column == 4)
            figures.append(Figure(name, title.capitalize() + ".", svg))
    return Section(
        "fig7",
        "When latencies are mis-estimated (Fig. 7)",
        "The scheduler starts from a profile that is off by a factor, and corrects it from what it sees. "
        "Constant arrivals at 4/3 of the capacity; lines are medians, bands reach from the least to the "
        "greatest seed.",
        Grid(
            ("profile", "policy", "believed", "seed", "throughput_rps", "violation_ratio", "accuracy"),
            tuple(rows),
        ),
        figures,
    )


def _values(rows: list[tuple[Cell, ...]], key: tuple[str, str, float], column: int) -> list[float]:
    return [float(row[column] or 0) for row in rows if row[:3] == key]


def _normalised(points: dict[float, list[float]]) -> dict[float, list[float]]:
    whole = [max(value, 1e-9) for value in points[1.0]]
    return {
        factor: [value / base for value, base in zip(values, whole, strict=True)]
        for factor, values in points.items()
    }
