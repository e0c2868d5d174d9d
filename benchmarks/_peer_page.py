"""What docs/peers.md shows, from the committed results of `peers.py` and `loadgen.py`, and their files."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _page import where, with_block
from _peer_panels import figure

from mosel.core.files import write_atomic

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CSV, PLOT = DOCS / "peers.md", DOCS / "results" / "peers.csv", DOCS / "assets" / "peers.svg"
PEERS, LOADGEN = DOCS / "results" / "peers.json", DOCS / "results" / "loadgen.json"
NOTHING_YET = "No run on an idle machine is committed yet; the command above makes these tables."
LOADS = (0.5, 1.0, 2.0, 3.0)
"""Mean rates, as multiples of what all modalities carry in jobs of the paper's sizes, back to back."""
MEASURES = ("on_time", "right_on_time", "answered", "jct_mean_s", "jct_p99_s", "send_lag_p99_ms")
PERCENTILES = (50, 90, 95, 99)

DEFAULT, FULL = "mosel, joint", "mosel, none+batching"
"""What is compared with the others, and what runs all modalities as they do."""

Results = dict[str, Any]


def committed(path: Path) -> Results | None:
    """Return committed results, or None where there are none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_page() -> None:
    """Write the page's tables, and the CSV file and the plot beside them, from the committed results."""
    if results := committed(PEERS):
        write_atomic(CSV, csv_text(results))
        write_atomic(PLOT, figure(results["cells"], LOADS))
    write_atomic(PAGE, written(PAGE.read_text(encoding="utf-8")))


def written(page: str) -> str:
    """Return the page with its tables between their markers."""
    page = with_block(page, "peers", peers_block(committed(PEERS)))
    return with_block(page, "loadgen", loadgen_block(committed(LOADGEN)))


def csv_text(results: Results) -> str:
    """Return the cells as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("system", "load", "requests", *MEASURES))
    writer.writerows(
        [cell["system"], cell["load"], cell["requests"], *(cell[measure] for measure in MEASURES)]
        for cell in results["cells"]
    )
    return out.getvalue()


def peers_block(results: Results | None) -> str:
    """Return what the page shows of the results of `peers.py`."""
    if results is None:
        return NOTHING_YET
    settings = results["settings"]
    effective = "Effective accuracy: right and on time, share of requests"
    caption = (
        f"A load of 1 is {settings['capacity_rps']:.0f} requests a second; latency SLO "
        f"{1000 * settings['slo_s']:g} ms, {settings['duration_s']:g} s a cell, one run each. {where(results)}."
    )
    return "\n".join(
        [
            "![On time, effective accuracy and completion time against load, by server](assets/peers.svg)",
            "",
            *_table(results, "On time, share of requests", "on_time", "{:.1%}"),
            *_table(results, effective, "right_on_time", "{:.1%}"),
            *_table(results, "Completion time of what was answered, mean", "jct_mean_s", "{:.0f} ms", 1000),
            *_by_how_much(results),
            caption,
        ]
    )


def _by_how_much(results: Results) -> Iterator[str]:
    """How many more requests the default serves on time than the best of others does, load by load."""
    on_time = {(cell["system"], cell["load"]): cell["on_time"] for cell in results["cells"]}
    names = {name for name, _ in on_time}
    peers = sorted(name for name in names if not name.startswith("mosel"))
    for title, others in (("the best of the other servers", peers), (f"`{FULL}`", [FULL])):
        if DEFAULT in names and names.issuperset(others):
            more = [
                100 * (on_time[DEFAULT, load] - max(on_time[name, load] for name in others)) for load in LOADS
            ]
            shown = ", ".join(f"{points:.1f}" for points in more)
            yield f"Points by which `{DEFAULT}` serves more on time than {title}, load by load: {shown}."
            yield ""


def loadgen_block(results: Results | None) -> str:
    """Return what the page shows of the results of `loadgen.py`."""
    if results is None:
        return NOTHING_YET
    columns = " | ".join(f"{share}th percentile" for share in PERCENTILES)
    rows = [
        f"| {name} | {' | '.join(f'{1000 * value:.1f} ms' for value in results[key])} |"
        for name, key in (("MLPerf's LoadGen", "loadgen_s"), ("`mosel replay`'s client", "replay_s"))
    ]
    text = (
        f"{results['queries']} single requests, {results['rate_rps']:.0f} a second, "
        f"policy `{results['policy']}`. {where(results)}."
    )
    return "\n".join([f"| completion time by | {columns} |", f"| --- |{' ---: |' * 4}", *rows, "", text])


def _table(results: Results, title: str, key: str, form: str, scale: float = 1) -> Iterator[str]:
    cells = {(cell["system"], cell["load"]): cell[key] for cell in results["cells"]}
    yield f"| {title} | {' | '.join(f'load {load:g}' for load in LOADS)} |"
    yield f"| --- |{' ---: |' * len(LOADS)}"
    for name in dict.fromkeys(name for name, _ in cells):
        values = [cells[name, load] for load in LOADS]
        shown = ["–" if value is None else form.format(scale * value) for value in values]
        yield f"| {name} | {' | '.join(shown)} |"
    yield ""
