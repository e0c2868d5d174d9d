"""Write the result table of the README from run directories, so that no number is typed by hand.

    .venv/bin/python scripts/results_table.py PROFILE RUN...   # writes docs/results/demo.json, then the README
    .venv/bin/python scripts/results_table.py                  # writes the README again from docs/results/

PROFILE is the `profile.json` that the runs used, RUN a run directory of `mosel replay` or `mosel simulate`.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mosel.core.errors import FileError
from mosel.core.files import read_bytes, write_atomic
from mosel.core.tables import read_profile

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results" / "demo.json"
RESULTS_FORMAT = "mosel.results/1"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NOTHING_YET = "No run is committed yet; `make demo` prints this table for your machine."


def collect(profile_path: Path, runs: Sequence[Path]) -> dict[str, Any]:
    """Return what the table needs of these runs: hardware, date, seed and a row per run."""
    profile = read_profile(profile_path).profile
    return {
        "format": RESULTS_FORMAT,
        "model": profile.model,
        "metric": profile.metric,
        "device": {"name": profile.device.name, "kind": profile.device.kind},
        "software": profile.software,
        "date": profile.measured_at[:10],
        "runs": [_row(folder) for folder in runs],
    }


def _row(folder: Path) -> dict[str, Any]:
    summary = json.loads(read_bytes(folder / "summary.json"))
    with (folder / "jobs.csv").open(encoding="utf-8", newline="") as file:
        jobs = list(csv.DictReader(file))
    if not jobs or summary["format"] != "mosel.run/1":
        raise FileError(f"{folder}: is no run directory with jobs; expected one of mosel replay or simulate")
    modes: Counter[str] = Counter()
    for job in jobs:
        for part in filter(None, job["modes"].split(";")):
            mode, _, count = part.rpartition(":")
            modes[mode] += int(count)
    seconds = float(jobs[-1]["arrival_s"]) - float(jobs[0]["arrival_s"])
    return {"summary": summary, "modes": dict(modes.most_common()), "arrivals_s": seconds}


def block(results: dict[str, Any] | None) -> str:
    """Return the README's block for these results, markers included."""
    return "\n".join([BEGIN, *(_lines(results) if results else [NOTHING_YET]), END])


def _lines(results: dict[str, Any]) -> list[str]:
    return [
        "| policy | on time | violations | accuracy | JCT mean / p99 | requests by mode |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
        *(f"| {' | '.join(_cells(run))} |" for run in results["runs"]),
        "",
        _caption(results),
    ]


def _caption(results: dict[str, Any]) -> str:
    first, device = results["runs"][0], results["device"]
    summary, workers = first["summary"], first["summary"]["workers"]
    return (
        f"{results['model']}: {summary['requests']:,} requests in {first['arrivals_s']:.0f} s, "
        f"{workers} worker{'s' if workers > 1 else ''} on {device['name']} ({device['kind']}), "
        f"seed {summary['seed']}, torch {results['software'].get('torch', 'none')}, {results['date']}. "
        "Accuracy is the mean over on-time requests of what was measured on held-out samples. "
        "JCT is job completion time."
    )


def _cells(run: dict[str, Any]) -> list[str]:
    summary, modes = run["summary"], run["modes"]
    ran = sum(modes.values())
    jct = summary["jct_s"]
    return [
        f"`{summary['policy']}`",
        _percent(summary["on_time"]),
        _percent(summary["violation_ratio"]),
        "–" if summary["accuracy"] is None else f"{summary['accuracy']:.3f}",
        "–" if jct["mean"] is None else f"{jct['mean'] * 1e3:.0f} / {jct['p99'] * 1e3:.0f} ms",
        ", ".join(f"{mode} {_percent(count / ran)}" for mode, count in modes.items()) or "–",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def committed() -> dict[str, Any] | None:
    """Return the committed results, or None where there are none yet."""
    if not RESULTS.exists():
        return None
    found: dict[str, Any] = json.loads(read_bytes(RESULTS))
    return found


def with_block(readme: str, results: dict[str, Any] | None) -> str:
    """Return the README's text with the block for `results` between the markers."""
    before, _, rest = readme.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise FileError(f"{README}: has no {BEGIN} … {END}")
    return before + block(results) + after


def main(words: Sequence[str]) -> None:
    """Collect the runs that are named, if any, and write the README's table."""
    if len(words) == 1:
        raise SystemExit("expected PROFILE and one or more RUN directories, or nothing")
    if words:
        results = collect(Path(words[0]), [Path(word) for word in words[1:]])
        write_atomic(RESULTS, json.dumps(results, indent=1) + "\n")
    write_atomic(README, with_block(README.read_text(encoding="utf-8"), committed()))
    print(README)


if __name__ == "__main__":
    main(sys.argv[1:])
