"""What cascades bring, from a profile that has some; without a word, the parts that need no server.

    .venv/bin/python benchmarks/cascades.py [costs] [loads] [promise] [live] [live_loads] [--profile FILE]

- `costs`: accuracy and cost of every mode and cascade, and of the cheapest mix of modes as accurate. Costs are
  per request at each mode's best batch size, relative to all modalities.
- `loads`: on-time share and effective accuracy of `joint` with cascades and without them, in simulation, at
  multiples of the full mode's capacity.
- `promise`: how often the promised lower bound is kept over many held-out sets (`_promise.py`); AV-digits only.
- `live`: cost and accuracy on the running server (`_live_costs.py`); AV-digits only, on an idle machine.
- `live_loads`: violations and accuracy under load on the running server, beside simulations (`_live_loads.py`);
  likewise.

With `--write`, what was found goes into `docs/results/cascades.json` and from there into the page; `--redraw`
writes the page anew.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from mosel.core.files import write_atomic
from mosel.core.tables import Profile, read_profile
from mosel.evaluation.arrivals import Recipe
from mosel.evaluation.experiments.cascade import cheapest_mix
from mosel.evaluation.experiments.trials import Trial, paper_capacity_rps, run_trial
from mosel.models.av_digits.data import Split, samples
from mosel.models.registry import find
from mosel.online.tables import ModelTable

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "docs" / "results" / "cascades.json", ROOT / "docs" / "cascades.md"
FORMAT = "mosel.cascades/1"
BEGIN, END = "<!-- cascades:begin -->", "<!-- cascades:end -->"

LOADS, SEEDS, SLOS_S = (1.0, 2.0, 4.0, 8.0), 6, (0.3, 1.0)
MOST_REQUESTS, LONGEST_S = 8_000, 12.0
"""Of each workload."""

HELD_OUT, SETS, PROMISE_LOAD = 6_000, 200, 2.0


def main() -> None:
    """Find the parts asked for, print them, and write them if that is wanted."""
    given = _words()
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"format": FORMAT}
    for part in given.parts:
        found[part] = PARTS[part](given.profile)
        print(json.dumps({part: found[part]}, indent=1), flush=True)
    if given.write:
        write_atomic(RESULTS, (json.dumps(found, indent=1) + "\n").encode())
    if given.write or given.redraw:
        write_atomic(PAGE, with_block(PAGE.read_text("utf-8"), found).encode())


def costs(path: Path) -> list[dict[str, Any]]:
    """Return accuracy and cost of every mode and cascade, and of the cheapest mix as accurate."""
    profile = read_profile(path).profile
    table = ModelTable(profile)
    unit = np.array([table.unit_ns(column, 0) for column in range(len(table.column_accuracy))])
    part = (unit / unit[table.full_mode(table.every_mask, 0.0, 1)]).tolist()
    names = [*table.modes, *(column.name for column in table.cascades)]
    points = list(zip(names, part, table.column_accuracy.tolist(), strict=True))
    modes = points[: len(table.modes)]
    return [
        {"name": name, "accuracy": accuracy, "cost": cost, "cheapest_mix": cheapest_mix(modes, accuracy)}
        for name, cost, accuracy in points
    ]


def loads(path: Path) -> list[dict[str, Any]]:
    """Return what `joint` serves without cascades and with them, one row a latency SLO and load."""
    profile = read_profile(path).profile
    return [_load(profile, load, slo_s) for slo_s in SLOS_S for load in LOADS]


def _load(profile: Profile, load: float, slo_s: float) -> dict[str, Any]:
    rate = load * paper_capacity_rps(profile)
    duration_s = min(LONGEST_S, MOST_REQUESTS / rate)
    single = structs.replace(profile, cascades=())
    without, with_them = [], []
    for seed in range(SEEDS):
        trial = Trial("joint", Recipe("bursty", duration_s, seed, rate_rps=rate, latency_slo_s=slo_s))
        without.append(run_trial(trial, single))
        with_them.append(run_trial(trial, profile))
    pairs = list(zip(without, with_them, strict=True))
    return {
        "load": load,
        "latency_slo_s": slo_s,
        "runs": SEEDS,
        "on_time": [float(np.mean([each.on_time for each in every])) for every in (without, with_them)],
        "effective_accuracy": [
            float(np.mean([each.effective_accuracy for each in every])) for every in (without, with_them)
        ],
        "on_time_lower": sum(more.on_time < less.on_time for less, more in pairs),
        "effective_accuracy_lower": sum(
            more.effective_accuracy < less.effective_accuracy for less, more in pairs
        ),
    }


def promise(path: Path) -> dict[str, Any]:
    """Return how often the promised lower bound was kept."""
    from _promise import judged
    from _promise import promise as kept

    profile = read_profile(path).profile
    return kept(profile, judged(find(profile.model), samples(Split.TEST, HELD_OUT, seed=1)), SETS, PROMISE_LOAD)


def live(path: Path) -> dict[str, Any]:
    """Return what a request costs on the running server."""
    from _live_costs import costs as live_costs

    return live_costs(path)


def live_loads(path: Path) -> list[dict[str, Any]]:
    """Return what is served under load on the running server, beside simulations."""
    from _live_loads import loads as served

    return served(path)


PARTS: dict[str, Callable[[Path], Any]] = {
    "costs": costs,
    "loads": loads,
    "promise": promise,
    "live": live,
    "live_loads": live_loads,
}


def block(found: dict[str, Any]) -> str:
    """Return what the docs page shows, markers included."""
    parts = [_live_table(found["live"]), _load_table(found["loads"]), _promise_text(found["promise"])]
    if "live_loads" in found:
        parts.append(_live_loads_table(found["live_loads"]))
    return "\n\n".join([BEGIN, *parts, END])


def with_block(page: str, found: dict[str, Any]) -> str:
    """Return the page with the block between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has no {BEGIN} … {END}"
    return before + block(found) + after


def _live_table(found: dict[str, Any]) -> str:
    full = {run: found["ways"]["all modalities"][run]["cost_s"] for run in ("live", "simulated")}
    rows = [
        f"| {name} | {way['live']['cost_s'] / full['live']:.2f} | "
        f"{way['simulated']['cost_s'] / full['simulated']:.2f} | {way['live']['accuracy']:.4f} | "
        f"{way['live']['promised']:.4f} | {way['live']['requests']:,} |"
        for name, way in found["ways"].items()
    ]
    head = [
        "| AV-digits, served as | cost live | cost simulated | right answers live | promised | requests |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    text = (
        f"Costs are the time of the device a request, as a part of that with all modalities. The cascade is "
        f"`{found['cascade']}`; *cheapest mix* is what `joint` runs without cascades at the accuracy that the "
        f"cascade promises. One worker, {found['device']}."
    )
    return "\n".join([*head, *rows, "", text])


def _load_table(found: list[dict[str, Any]]) -> str:
    head = [
        "| latency SLO (s) | load | on time without → with | effective accuracy without → with | runs lower |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [
        f"| {row['latency_slo_s']:g} | {row['load']:g} | {row['on_time'][0]:.4f} → {row['on_time'][1]:.4f} | "
        f"{row['effective_accuracy'][0]:.4f} → {row['effective_accuracy'][1]:.4f} | "
        f"{row['on_time_lower']} and {row['effective_accuracy_lower']} of {row['runs']} |"
        for row in found
    ]
    text = (
        "`joint` on AV-digits in simulation, bursty arrivals; loads are multiples of the full mode's capacity. "
        "*Runs lower* are the runs of which the on-time share, and the effective accuracy, is lower with "
        "cascades than without them."
    )
    return "\n".join([*head, *rows, "", text])


def _promise_text(found: dict[str, Any]) -> str:
    least = min(found["alone"].values())
    return (
        f"Over {found['sets']} sets, each drawn anew from {found['held_out']:,} held-out samples that the "
        f"profile has not seen and served at {found['load']:g} times capacity ({found['requests']:,.0f} of its "
        f"requests in the mean), the share of right answers was at or above the promised lower bound in "
        f"{found['kept']:.1%}: it was {found['reached']:.4f} in the mean, where {found['promised']:.4f} was "
        f"expected and {found['promised_low']:.4f} is the lower bound. Of the cascades run by themselves, each "
        f"kept its own in at least {least:.1%} of the sets."
    )


def _live_loads_table(found: list[dict[str, Any]]) -> str:
    head = [
        "| load | requests | violations live, simulated | accuracy live, simulated | from the profile alone |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [
        f"| {row['load']:g} | {row['requests']:,} | {_both(row, 'violations', 'measured')} | "
        f"{_both(row, 'accuracy', 'measured')} | {row['profile']['violations']:.4f}, "
        f"{row['profile']['accuracy']:.4f} |"
        for row in found
    ]
    slower = max(row["slower"] for row in found)
    text = (
        "`joint` with cascades on the running server, bursty arrivals, beside the simulation of the same jobs "
        f"with batches as slow as these (up to {slower:.2f} times the profile's), and from the profile alone."
    )
    return "\n".join([*head, *rows, "", text])


def _both(row: dict[str, Any], measure: str, simulated: str) -> str:
    return f"{row['live'][measure]:.4f}, {row[simulated][measure]:.4f}"


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts")
    parser.add_argument("--profile", type=Path, default=ROOT / "profiles" / "av-digits-cpu.json")
    parser.add_argument("--write", action="store_true", help="into the results and the page")
    parser.add_argument("--redraw", action="store_true", help="only write the page anew")
    words = parser.parse_args()
    if not words.parts and not words.redraw:
        words.parts = ["costs", "loads", "promise"]
    return words


if __name__ == "__main__":
    main()
