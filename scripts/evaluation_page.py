"""Write the tables of docs/evaluation.md from the committed results, so that no number is typed by hand.

.venv/bin/python scripts/evaluation_page.py FOLDER   # takes what `mosel reproduce -o FOLDER` has left there
.venv/bin/python scripts/evaluation_page.py          # writes the page again from docs/results/
"""

import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from mosel.core.files import read_bytes, write_atomic

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RESULTS = DOCS / "evaluation.md", DOCS / "results"
NOTHING_YET = "No run is committed yet; `mosel reproduce` has this table in its report."
LIVE = (
    "profile",
    "policy",
    "violations, live",
    "simulated",
    "on time per second, live",
    "simulated",
    "accuracy, live",
    "simulated",
    "gaps",
    "gaps from the profile alone",
)
MEASURES = ("violation_ratio", "throughput_rps", "accuracy")
WITHIN = (1.0, 1.0, 0.2)
"""How far live and simulated may lie apart, in the units of the gaps."""
HEADLINE = ("model", "claim", "the paper", "`paper`", "`optimized`", "`joint`", "profile", "why it differs")

Row = dict[str, str]


def headline(rows: Sequence[Row]) -> list[str]:
    """Return the paper's claims beside ours."""
    seeds, usual_s = int(rows[0]["seeds"]), float(rows[0]["usual_s"])
    many = f"{seeds} seeds" if seeds > 1 else "one seed"
    usual = f"workloads of {usual_s:g} s, shorter for fast models and longer for slow ones"
    head = [f"| {' | '.join(HEADLINE)} |", "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |"]
    body = [f"| {' | '.join(_claim(row))} |" for row in rows]
    return [*head, *body, "", f"Simulated: medians over {many}, {usual}."]


def _claim(row: Row) -> list[str]:
    numbers = [row[key] for key in ("the_papers", "paper", "optimized", "joint")]
    shown = [f"{float(number):.3g}" if number else "–" for number in numbers]
    return [row["model"], row["figure"], *shown, row["profile"] or "–", row["why"]]


def month(rows: Sequence[Row]) -> list[str]:
    """Return each policy's on-time share over all days and on the worst day."""
    head = [
        "| greatest rate, of the capacity | policy | on time | worst day | effective accuracy |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    body = []
    for most, policy in dict.fromkeys((row["greatest_of_capacity"], row["policy"]) for row in rows):
        own = [row for row in rows if (row["greatest_of_capacity"], row["policy"]) == (most, policy)]
        requests = sum(int(row["requests"]) for row in own)
        on_time, effective = (
            sum(float(row[key]) * int(row["requests"]) for row in own) / requests
            for key in ("on_time", "effective_accuracy")
        )
        worst = min(float(row["on_time"]) for row in own)
        body.append(f"| {float(most):g} | `{policy}` | {on_time:.1%} | {worst:.1%} | {effective:.3f} |")
    days = len({row["day"] for row in rows})
    return [*head, *body, "", f"Simulated: `{rows[0]['profile']}`, {days} days of a recorded series."]


def tenants(rows: Sequence[Row]) -> list[str]:
    """Return the on-time shares of two tenants with unlike SLOs, medians over seeds."""
    head = ["| profile | policy | 0.2 s | 2 s |", "| --- | --- | ---: | ---: |"]
    body = []
    for name, policy in dict.fromkeys((row["profile"], row["policy"]) for row in rows):
        own = [row for row in rows if (row["profile"], row["policy"]) == (name, policy)]
        shares = [f"{median(float(row[f'{who}_on_time']) for row in own):.1%}" for who in ("first", "second")]
        body.append(f"| {name} | `{policy}` | {' | '.join(shares)} |")
    seeds = len({row["seed"] for row in rows})
    return [*head, *body, "", f"Simulated: shares of requests on time, medians over {seeds} workload(s)."]


def live(rows: Sequence[Row]) -> list[str]:
    """Return what was live beside what was simulated, medians over seeds, and the gaps."""
    head = [f"| {' | '.join(LIVE)} |", f"| --- | --- |{' ---: |' * (len(LIVE) - 2)}"]
    body = []
    for name, policy in dict.fromkeys((row["profile"], row["policy"]) for row in rows):
        own = [row for row in rows if (row["profile"], row["policy"]) == (name, policy)]
        shown = [
            form.format(median(float(row[f"{system}_{measure}"] or 0) for row in own))
            for measure, form in (
                ("violation_ratio", "{:.1%}"),
                ("throughput_rps", "{:.1f}"),
                ("accuracy", "{:.4f}"),
            )
            for system in ("live", "measured")
        ]
        gaps = [_gaps(own, system) for system in ("measured", "profile")]
        body.append(f"| {name} | `{policy}` | {' | '.join([*shown, *gaps])} |")
    return [*head, *body, "", _about_live(rows)]


def _about_live(rows: Sequence[Row]) -> str:
    many = sorted({int(row["requests"]) for row in rows})
    requests = " to ".join(f"{value:,}" for value in dict.fromkeys((many[0], many[-1])))
    slower, overhead_ms = (
        " to ".join(f"{pick(float(row[key]) for row in rows):.2f}" for pick in (min, max))
        for key in ("latency_of_profile", "overhead_ms")
    )
    paces = [float(row[key]) for row in rows for key in ("least_pace", "greatest_pace") if row.get(key)]
    spells = (
        f" Half seconds were {min(paces):.2f} to {max(paces):.2f} times as slow as their run." if paces else ""
    )
    met = [f"{sum(_within(row, system) for row in rows)} of {len(rows)}" for system in ("measured", "profile")]
    seeds, limits = len({row["seed"] for row in rows}), " / ".join(f"{limit:g}" for limit in WITHIN)
    return (
        f"{seeds} workload(s) a profile, of {requests} requests. Gaps: points of violation ratio / percent of "
        f"throughput / points of accuracy. No further apart than {limits}: "
        f"{met[0]} runs with the live run's batch times, {met[1]} from the profile alone. Batches took "
        f"{slower} times what the profile says, and {overhead_ms} ms each beyond that.{spells}"
    )


def _within(row: Row, system: str) -> bool:
    return all(
        abs(round(_gap(row, system, measure), 6)) <= limit
        for measure, limit in zip(MEASURES, WITHIN, strict=True)
    )


def _gap(row: Row, system: str, measure: str) -> float:
    real, made = (float(row[f"{each}_{measure}"] or 0) for each in ("live", system))
    return 100 * (real / max(made, 1e-9) - 1) if measure == "throughput_rps" else 100 * (real - made)


def _gaps(rows: Sequence[Row], system: str) -> str:
    return " / ".join(f"{median(_gap(row, system, measure) for row in rows):+.2f}" for measure in MEASURES)


TABLES: dict[str, tuple[str, Callable[[Sequence[Row]], list[str]]]] = {
    "headline": ("headline.csv", headline),
    "month": ("month.csv", month),
    "tenants": ("tenants.csv", tenants),
    "live": ("wall-live.csv", live),
}
"""By the name of the page's markers: the CSV file of a report, and what makes a table of it."""


def block(name: str, results: str | None) -> str:
    """Return one of the page's tables of these results, markers included."""
    rows = list(csv.DictReader(io.StringIO(results))) if results else []
    lines = TABLES[name][1](rows) if rows else [NOTHING_YET]
    return "\n".join([f"<!-- {name}:begin -->", *lines, f"<!-- {name}:end -->"])


def committed(name: str) -> str | None:
    """Return the committed results of a table, or None where there are none yet."""
    path = RESULTS / TABLES[name][0]
    return read_bytes(path).decode() if path.exists() else None


def written(page: str) -> str:
    """Return the page with every table between its markers."""
    for name in TABLES:
        before, begin, rest = page.partition(f"<!-- {name}:begin -->")
        _, end, after = rest.partition(f"<!-- {name}:end -->")
        assert begin, f"{PAGE} has no markers of {name}"
        assert end, f"{PAGE} has no markers of {name}"
        page = before + block(name, committed(name)) + after
    return page


def main(words: Sequence[str]) -> None:
    """Take the results of the folder that is named, if one is, and write the page's tables."""
    for file, _ in TABLES.values():
        if words and (Path(words[0]) / file).exists():
            write_atomic(RESULTS / file, read_bytes(Path(words[0]) / file))
    write_atomic(PAGE, written(PAGE.read_text(encoding="utf-8")))
    print(PAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
