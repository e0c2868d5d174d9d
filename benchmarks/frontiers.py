"""How long the offline stage takes: all exact frontiers of a model (§5.1), beside GEKKO and HiGHS.

    .venv/bin/python benchmarks/frontiers.py [--quick] [--redraw]

The paper solves one integer programme for each pair of job size and accuracy SLO. Here such cells are drawn at
random and solved by GEKKO and by HiGHS, in the same run, and the time of all of them is the mean times their
number: every job size, accuracy SLOs in steps of one percent. A whole run also writes
docs/results/frontiers.json and a block of docs/decision-time.md.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from _page import machine, where, with_block
from _rivals import Floats, Ints, Rival
from decision_time import least_ms
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mosel.core.arrays import UNAVAILABLE
from mosel.core.files import read_bytes, write_atomic
from mosel.solve.cover import frontiers
from mosel.solve.large import LargeJobs
from mosel.solve.reaching import cheapest_reaching
from mosel.solve.warm_up import warm_up

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "results" / "frontiers.json", DOCS / "decision-time.md"
FORMAT = "mosel.frontiers/1"
SHAPES = ((3, 16), (7, 16), (7, 32), (7, 64))
PROFILES = 5
LARGE = 1024
SLO_STEP = 0.01
MS = 1_000_000
RIVALS = ("GEKKO", "HiGHS")


def main() -> None:
    """Run or read the results, print them and write what the docs show."""
    words = _words()
    if not words.redraw:
        results = run(2 if words.quick else 8, 2 if words.quick else PROFILES)
        for table in tables(results):
            Console().print(table)
        if words.quick:
            return
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    results = json.loads(read_bytes(RESULTS))
    write_atomic(PAGE, with_block(PAGE.read_text(encoding="utf-8"), "frontiers", block(results)))


def run(sampled: int, profiles: int) -> dict[str, Any]:
    """Time every shape of model over several profiles, and the sampled cells of each."""
    warm_up()
    rivals = [Rival(name) for name in RIVALS]
    for rival in rivals:
        rival.solve("cell", *profile(2, 2, 0), 2, 1.0)  # what is loaded at the first call counts for nobody
    rows = [
        measured(*shape, sampled, profiles, rivals) for shape in track(SHAPES, console=Console(stderr=True))
    ]
    for rival in rivals:
        rival.close()
    return {"format": FORMAT, **machine("numpy", "numba", "highspy", "gekko"), "shapes": rows}


def measured(modes: int, sizes: int, sampled: int, profiles: int, rivals: list[Rival]) -> dict[str, Any]:
    """Return the times of all frontiers, and of one sampled cell by each rival, for models of one shape."""
    tables = [profile(modes, sizes, seed) for seed in range(profiles)]
    found = [frontiers(*each, sizes) for each in tables]
    spread = fmean(float(np.ptp(accuracy)) for _, accuracy in tables)
    cells = sizes * (int(spread / SLO_STEP) + 1)
    ours_ms = median(least_ms(partial(frontiers, *each, sizes)) for each in tables)
    large_ms = median(
        least_ms(lambda each=each, small=small: LargeJobs(*each, small, range(modes)).frontier(LARGE))
        for each, small in zip(tables, found, strict=True)
    )
    row: dict[str, Any] = {"modes": modes, "sizes": sizes, "cells": cells, "ms": ours_ms, "large_ms": large_ms}
    for rival in rivals:
        rng, took_ms, best = np.random.default_rng(0), [], 0
        for _ in range(sampled):
            at = int(rng.integers(profiles))
            (latency_ns, accuracy), requests = tables[at], int(rng.integers(1, sizes + 1))
            needed = requests * float(rng.uniform(accuracy.min(), accuracy.max()))
            took_s, spent_ms = rival.solve("cell", latency_ns, accuracy, requests, needed)
            frontier = found[at][requests]
            least = frontier.latency_ns[cheapest_reaching(frontier, needed)] / MS
            took_ms.append(took_s * 1e3)
            best += spent_ms is not None and abs(spent_ms / least - 1) < 1e-6
        row[rival.name] = {"cell_ms": fmean(took_ms), "best": int(best), "asked": sampled}
    return row


def profile(modes: int, sizes: int, seed: int) -> tuple[Ints, Floats]:
    """𝒟 as it is measured: a fixed part, a part a request, bumps of 3%; dearer modes are more accurate."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(1, 8, (modes, 1)) + rng.uniform(0.5, 4, (modes, 1)) * np.arange(sizes + 1)
    latency_ns = np.rint(MS * shape * rng.uniform(0.97, 1.03, shape.shape)).astype(np.int64)
    latency_ns = latency_ns[np.argsort(latency_ns[:, sizes])]
    latency_ns[:, 0] = UNAVAILABLE
    return latency_ns, np.sort(rng.uniform(0.6, 0.99, modes))


HEADS = ("modes × batches", "all frontiers", "a job of 1,024", "cells")
RIVAL_HEADS = ("a cell", "all cells", "÷ ours", "best found")


def _rows(results: dict[str, Any]) -> Iterator[list[str]]:
    for row in results["shapes"]:
        cells = [f"{row['modes']} × {row['sizes']}", f"{row['ms']:.3g} ms", f"{row['large_ms']:.3g} ms"]
        yield [*cells, f"{row['cells']:,}"]


def _rival_rows(results: dict[str, Any], name: str) -> Iterator[list[str]]:
    for row in results["shapes"]:
        cell_ms, best = row[name]["cell_ms"], f"{row[name]['best']} of {row[name]['asked']}"
        whole_ms = cell_ms * row["cells"]
        yield [f"{cell_ms:,.0f} ms", f"{whole_ms / 1e3:,.0f} s", f"{whole_ms / row['ms']:,.0f}", best]


def _named_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    for name in RIVALS:
        for row, cells in zip(results["shapes"], _rival_rows(results, name), strict=True):
            yield [f"{row['modes']} × {row['sizes']}", name, *cells]


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables for the terminal."""
    for title, heads, rows in (
        ("offline: every frontier, all accuracy SLOs at once", HEADS, _rows(results)),
        ("other solvers, cell by cell", (HEADS[0], "solver", *RIVAL_HEADS), _named_rows(results)),
    ):
        found = Table(*heads, title=title, title_justify="left")
        for cells in rows:
            found.add_row(*cells)
        yield found


def block(results: dict[str, Any]) -> str:
    """The tables as the page shows them."""
    lines = []
    for heads, rows in ((HEADS, _rows(results)), ((HEADS[0], "solver", *RIVAL_HEADS), _named_rows(results))):
        lines += [f"| {' | '.join(heads)} |", "|" + " ---: |" * len(heads)]
        lines += [*(f"| {' | '.join(cells)} |" for cells in rows), ""]
    return "\n".join([*lines, f"On {where(results)}."])


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer profiles and cells; writes nothing")
    parser.add_argument(
        "--redraw", action="store_true", help="only write the docs from the results that are there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
