"""The few figures of a run that fit on one screen, for the terminal and for the report alike."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from mosel.evaluation.results import JobResult, Summary

LEAST_SHARE = 0.005
"""Modes under this share of requests are summed up as one."""


NONE = "–"

BOUND_ROWS = ("at most on time", "share of the bound")
"""Rows that stand only where some run has a bound."""


@dataclass(frozen=True, slots=True)
class Named:
    """A run with the name that tells it from others."""

    name: str
    summary: Summary
    jobs: Sequence[JobResult]


def summary_table(runs: Sequence[Named]) -> Table:
    """Return one column a run: shares of requests, accuracies, completion times and the modes used."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for run in runs:
        table.add_column(run.name, justify="right", overflow="fold")
    for label, cells in summary_rows(runs):
        table.add_row(label, *cells)
    return table


def summary_rows(runs: Sequence[Named]) -> list[tuple[str, list[str]]]:
    """Return label and one cell a run, of every figure, the modes used below the others."""
    figures = [_figures(run) for run in runs]
    rows = [(label, [figure[label] for figure in figures]) for label in (figures[0] if figures else ())]
    rows = [(label, cells) for label, cells in rows if label not in BOUND_ROWS or set(cells) != {NONE}]
    shares = [dict(mode_shares(run.jobs)) for run in runs]
    total = Counter[str]()
    for share in shares:
        total.update(share)
    often = [mode for mode, _ in total.most_common() if any(s.get(mode, 0) >= LEAST_SHARE for s in shares)]
    rows += [(f"in {mode}", [_percent(share.get(mode, 0.0)) for share in shares]) for mode in often]
    rest = [sum(value for mode, value in share.items() if mode not in often) for share in shares]
    if any(value >= LEAST_SHARE / 10 for value in rest):
        rows.append(("in other modes", [_percent(value) for value in rest]))
    return rows


def mode_shares(jobs: Iterable[JobResult]) -> list[tuple[str, float]]:
    """Return each mode's share of the requests that ran, largest first."""
    counts: Counter[str] = Counter()
    for row in jobs:
        counts.update(dict(row.modes))
    total = counts.total()
    return [(mode, count / total) for mode, count in counts.most_common()]


def _figures(run: Named) -> dict[str, str]:
    summary, jct = run.summary, run.summary.jct_s
    return {
        "policy": summary.policy,
        "requests": f"{summary.requests:,}",
        "on time": _percent(summary.on_time),
        BOUND_ROWS[0]: NONE if summary.bound is None else _percent(summary.bound),
        BOUND_ROWS[1]: _percent(summary.on_time / summary.bound) if summary.bound else NONE,
        "violation ratio": _percent(summary.violation_ratio),
        "late / dropped": f"{_percent(summary.late)} / {_percent(summary.dropped)}",
        "rejected / failed": f"{_percent(summary.rejected)} / {_percent(summary.failed)}",
        "accuracy": NONE if summary.accuracy is None else f"{summary.accuracy:.4f}",
        "effective accuracy": f"{summary.effective_accuracy:.4f}",
        "completion, mean": _duration(jct.mean),
        "completion, p50": _duration(jct.p50),
        "completion, p99": _duration(jct.p99),
        "on time, per second": f"{summary.throughput_rps:,.1f}",
    }


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
