"""Write the results on docs/operations.md from docs/results/, so that no number is typed by hand.

.venv/bin/mosel chaos --seeds 200 -o docs/results/chaos.json
.venv/bin/mosel chaos --seeds 200 --groups 2 --front-doors 2 -o docs/results/chaos_doors.json
.venv/bin/mosel chaos --seeds 20 --engine ray -o docs/results/chaos_ray.json
.venv/bin/python benchmarks/soak.py --write
.venv/bin/python scripts/operations_page.py

A long campaign can be run in pieces; scripts/chaos_total.py adds them up.
"""

import json
from pathlib import Path
from typing import Any

from mosel.core.files import read_bytes, write_atomic

DOCS = Path(__file__).parents[1] / "docs"
PAGE, RESULTS = DOCS / "operations.md", DOCS / "results"
NOTHING_YET = "No run is committed yet."


def chaos_block(told: dict[str, Any]) -> str:
    """Return the table of a campaign of `mosel chaos`."""
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in told["outcomes"].items())
    faults = [
        (name.replace("_", " "), told["injected"][name], told["observed"].get(name, 0))
        for name in told["injected"]
    ]
    problems = len(told["problems"])
    return "\n".join(
        [
            "| fault | injected | noticed |",
            "| --- | ---: | ---: |",
            *(f"| {name} | {injected} | {observed} |" for name, injected, observed in faults),
            "",
            f"{told['seeds']} seeds in {told['took_s'] / 60:.0f} minutes, {told['server_starts']} servers:",
            f"{told['sent']:,} jobs, {counts}. Tallies that did not come out even: {problems}.",
        ]
    )


def soak_block(told: dict[str, Any]) -> str:
    """Return the table of a run of benchmarks/soak.py."""
    rows = [
        f"| {one['name']} | {one['before_mib']:.1f} | {one['after_mib']:.1f} | "
        f"{one['after_mib'] / one['before_mib'] - 1:+.1%} | {_counts(one, 'descriptors')} | "
        f"{_counts(one, 'threads')} | {_counts(one, 'shared')} |"
        for one in told["processes"]
    ]
    return "\n".join(
        [
            "| process | MiB after a minute | MiB at the end | moved | descriptors | threads | segments |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            _load(told),
            _where(told),
        ]
    )


BLOCKS = (
    ("chaos", chaos_block),
    ("chaos_doors", chaos_block),
    ("chaos_ray", chaos_block),
    ("soak", soak_block),
)


def page() -> str:
    """Return the page with its blocks as the results have them."""
    found = PAGE.read_text(encoding="utf-8")
    for name, block in BLOCKS:
        results = RESULTS / f"{name}.json"
        text = block(json.loads(read_bytes(results))) if results.exists() else NOTHING_YET
        found = _with_block(found, name, text)
    return found


def _load(told: dict[str, Any]) -> str:
    minutes = told["seconds"] / 60
    return f"{told['jobs']:,} jobs over {told['connections']} connections in {minutes:.0f} minutes."


def _where(told: dict[str, Any]) -> str:
    return f"Measured on {told['device']}, {told['cores']} cores, {told['date']}."


def _counts(one: dict[str, Any], what: str) -> str:
    first, last = one["first"][what], one["last"][what]
    return str(first) if first == last else f"{first} to {last}"


def _with_block(found: str, name: str, block: str) -> str:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = found.partition(begin)
    _, marker, after = rest.partition(end)
    assert marker, f"{PAGE} has no {begin} … {end}"
    return f"{before}{begin}\n{block}\n{end}{after}"


if __name__ == "__main__":
    write_atomic(PAGE, page())
    print(PAGE)
