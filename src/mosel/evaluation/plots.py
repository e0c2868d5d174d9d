"""The report's figures, as SVG text that takes its colours from the page.

Matplotlib draws with stand-in colours; these become CSS variables (`--s0` for the first run, `--m0` for the
first mode, `currentColor` for text and axes), so that one figure is legible on light and dark ground.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mosel.evaluation import curves
from mosel.evaluation.curves import Floats
from mosel.evaluation.recorded import Recorded

SERIES, SHADES = 9, 7
INK, FAINT, GROUND = "#010101", "#020202", "#030303"
BINS = 80
WIDTH_IN, WIDE_IN, HEIGHT_IN = 6.2, 12.6, 2.8

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mosel",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A run with its name; its place among the others decides its colour."""

    name: str
    run: Recorded


def colour(index: int) -> str:
    """Return the stand-in colour of the run at `index`."""
    return f"#10{index % SERIES:02x}00"


def shade(index: int, count: int) -> str:
    """Return the stand-in colour of one of `count` modes, spread over the shades that there are."""
    return f"#20{round(index * (SHADES - 1) / max(count - 1, 1)) if count > 1 else SHADES - 2:02x}00"


def load(runs: Sequence[Drawn]) -> str:
    """Arrivals and on-time throughput over time."""
    with figure_in() as (figure, out):
        axes = figure.subplots()
        edges = _edges(runs)
        groups = [runs[:1]] if _same_arrivals(runs) else [[each] for each in runs]
        for (one,) in groups:
            rates = curves.arrivals_rps(one.run.jobs, edges)
            name = "arrivals" if len(groups) == 1 else f"arrivals, {one.name}"
            axes.stairs(rates, edges, fill=True, color=FAINT, alpha=0.6, label=name)
        for index, each in enumerate(runs):
            rates = curves.on_time_rps(each.run.jobs, edges)
            axes.plot(_middles(edges), rates, color=colour(index), label=each.name)
        label(axes, "time (s)", "requests per second")
        legend(axes)
    return out.getvalue()


def violations(runs: Sequence[Drawn]) -> str:
    """Violation ratio of every 4 seconds over time, and its distribution (the paper's Fig. 5)."""
    with figure_in() as (figure, out):
        over_time, spread = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        edges = curves.edges_s(_last_arrival_s(runs), curves.WINDOW_S)
        boxes = []
        for index, each in enumerate(runs):
            ratios = curves.violation_ratios(each.run.jobs, edges)
            over_time.plot(_middles(edges), ratios, color=colour(index), label=each.name, marker="o", ms=3)
            boxes.append(ratios[~np.isnan(ratios)])
        _boxes(spread, boxes)
        over_time.set_ylim(-0.03, 1.03)
        label(over_time, "time of arrival (s)", f"violation ratio, every {curves.WINDOW_S:g} s")
        legend(over_time)
    return out.getvalue()


def accuracy(runs: Sequence[Drawn]) -> str:
    """The distribution of the accuracies of jobs served on time, one panel a run (the paper's Fig. 6)."""
    found = [curves.accuracies(each.run.jobs) for each in runs]
    edges = _accuracy_edges(found)
    with figure_in(_panels_in(runs)) as (figure, out):
        panels = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for index, (axes, each, values) in enumerate(zip(panels, runs, found, strict=True)):
            if len(values):
                shares = np.histogram(values, edges)[0] / len(values)
                axes.stairs(shares, edges, fill=True, color=colour(index))
                axes.axvline(values.mean(), color=INK, linewidth=1, linestyle=(0, (3, 3)))
            axes.set_title(each.name)
            axes.set_ylim(0, 1)
        panels[-1].set_xlabel("accuracy of the job; dashed: mean")
        figure.supylabel("share of jobs on time", fontsize=10)
    return out.getvalue()


def completion(runs: Sequence[Drawn]) -> str:
    """The distribution of completion times, with the latency SLO where there is one for all."""
    with figure_in() as (figure, out):
        axes = figure.subplots()
        for index, each in enumerate(runs):
            _cumulative(axes, curves.completion_s(each.run.jobs), index, each.name)
        slos_s = sorted({slo for each in runs for slo in curves.latency_slos_s(each.run.jobs)})
        if len(slos_s) == 1:
            axes.axvline(slos_s[0], color=INK, linewidth=1, linestyle=(0, (3, 3)), label="latency SLO")
        slowest = max((float(values[-1]) for values in _completions(runs)), default=1.0)
        if slowest > 4 * max(slos_s, default=1.0):
            axes.set_xscale("log")
        label(axes, "completion time (s)", "share of finished jobs")
        legend(axes)
    return out.getvalue()


def slack(runs: Sequence[Drawn]) -> str:
    """How long before its deadline each finished job was done; what is left of 0 was late."""
    with figure_in() as (figure, out):
        axes = figure.subplots()
        for index, each in enumerate(runs):
            _cumulative(axes, curves.slack_s(each.run.jobs), index, each.name)
        axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (3, 3)), label="deadline")
        longest = max((slo for each in runs for slo in curves.latency_slos_s(each.run.jobs)), default=1.0)
        axes.set_xlim(max(axes.get_xlim()[0], -2 * longest), longest)
        label(axes, "slack when finished (s)", "share of finished jobs")
        legend(axes)
    return out.getvalue()


def queue(runs: Sequence[Drawn]) -> str:
    """How many jobs are in the system over time."""
    with figure_in() as (figure, out):
        axes = figure.subplots()
        at_s = np.linspace(0, max(curves.horizon_s(each.run.jobs) for each in runs), 400)
        for index, each in enumerate(runs):
            axes.plot(at_s, curves.jobs_in_system(each.run.jobs, at_s), color=colour(index), label=each.name)
        label(axes, "time (s)", "jobs without an outcome")
        legend(axes)
    return out.getvalue()


def modes(runs: Sequence[Drawn]) -> str:
    """The share of each mode over time, one panel a run."""
    names = curves.mode_names(batch for each in runs for batch in each.run.batches)
    with figure_in(0.6 + 0.95 * len(runs), WIDE_IN) as (figure, out):
        panels = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        edges = _edges(runs)
        for axes, each in zip(panels, runs, strict=True):
            shares = curves.mode_shares(each.run.batches, names, edges)
            _stacked(axes, shares, edges)
            axes.set_title(each.name)
            axes.set_xlim(0, float(edges[-1]))
            axes.set_ylim(0, 1)
            axes.grid(visible=False)
        panels[-1].set_xlabel("time (s)")
        figure.supylabel("share of requests started", fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        if names:
            figure.legend(handles[::-1], names[::-1], loc="outside right upper")
        assert len(handles) == len(names) == len(labels)
    return out.getvalue()


def reliability(runs: Sequence[Drawn]) -> str:
    """How often answers in cascades should be right against how often they are, with 95% intervals."""
    with figure_in() as (figure, out):
        axes = figure.subplots()
        low = 1.0
        for index, each in enumerate(runs):
            for escalated, mark in ((False, "o"), (True, "D")):
                bins = [one for one in judged_bins(each.run) if one["escalated"] is escalated]
                if not bins:
                    continue
                expected, live = ([one[key] for one in bins] for key in ("expected", "live"))
                below = [one["live"] - one["low"] for one in bins]
                above = [one["high"] - one["live"] for one in bins]
                name = f"{each.name}, {'escalated' if escalated else 'stayed'}"
                axes.errorbar(
                    expected, live, (below, above), fmt=mark, ms=4, lw=0.9, color=colour(index), label=name
                )
                low = min(low, *expected, *(one["low"] for one in bins))
        axes.plot([low, 1], [low, 1], color=FAINT, lw=1)
        label(axes, "right answers expected (share)", "right answers seen (share)")
        legend(axes)
    return out.getvalue()


def judged_bins(run: Recorded) -> list[dict[str, Any]]:
    """Return what feedback said of answers in cascades, of all models of a run; empty if there was none."""
    told = run.summary.extra.get("live_accuracy") or {}
    return [one for model in told.values() for one in model.get("cascades", [])]


@contextmanager
def figure_in(height_in: float = HEIGHT_IN, width_in: float = WIDTH_IN) -> Iterator[tuple[Figure, io.StringIO]]:
    """Yield a figure and the text that holds it, with colours of the page, once the block is left."""
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure, out
        raw = io.StringIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None})
    out.write(_recoloured(raw.getvalue()))


def _recoloured(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"|(<svg [^>]*?)height="[^"]*" ', r"\1\2", svg, count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"#10(\d\d)00", lambda found: f"var(--s{int(found[1], 16)})", svg)
    svg = re.sub(r"#20(\d\d)00", lambda found: f"var(--m{int(found[1], 16)})", svg)
    for stand_in, name in ((INK, "currentColor"), (FAINT, "var(--faint)"), (GROUND, "var(--card)")):
        svg = svg.replace(stand_in, name)
    return svg


def _panels_in(runs: Sequence[Drawn]) -> float:
    return max(HEIGHT_IN, 0.6 + 0.75 * len(runs))


def _accuracy_edges(found: Sequence[Floats]) -> Floats:
    every = np.concatenate(found)
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    margin = max(0.01, (high - low) / 20)
    return np.linspace(max(0.0, low - margin), min(1.0, high + margin), 41)


def _same_arrivals(runs: Sequence[Drawn]) -> bool:
    return len({tuple((row.job.id, row.job.requests) for row in each.run.jobs) for each in runs}) == 1


def _edges(runs: Sequence[Drawn]) -> Floats:
    until_s = max(curves.horizon_s(each.run.jobs) for each in runs)
    return curves.edges_s(until_s, max(1.0, until_s / BINS))


def _last_arrival_s(runs: Sequence[Drawn]) -> float:
    return max(row.job.arrival_ns for each in runs for row in each.run.jobs) / 1e9


def _completions(runs: Sequence[Drawn]) -> list[Floats]:
    found = (curves.completion_s(each.run.jobs) for each in runs)
    return [values for values in found if len(values)]


def _middles(edges: Floats) -> Floats:
    return (edges[:-1] + edges[1:]) / 2


def _cumulative(axes: Axes, values: Floats, index: int, name: str) -> None:
    if len(values):
        axes.ecdf(values, color=colour(index), label=name)


def _boxes(axes: Axes, boxes: Sequence[Floats]) -> None:
    drawn = axes.boxplot(
        boxes,
        widths=0.55,
        showmeans=True,
        patch_artist=True,
        medianprops={"color": INK},
        whiskerprops={"color": INK},
        capprops={"color": INK},
        boxprops={"linewidth": 0},
        flierprops={"markersize": 3, "markeredgecolor": INK},
        meanprops={"marker": "D", "markersize": 4, "markerfacecolor": GROUND, "markeredgecolor": INK},
    )
    for index, box in enumerate(drawn["boxes"]):
        box.set_facecolor(colour(index))
    axes.set_xticks([])
    axes.set_xlabel("spread")


def _stacked(axes: Axes, shares: Floats, edges: Floats) -> None:
    base = np.zeros(len(edges) - 1)
    for index, share in enumerate(shares):
        axes.stairs(
            base + share, edges, baseline=base, fill=True, color=shade(index, len(shares)), label=str(index)
        )
        base = base + share


def label(axes: Axes, x: str, y: str) -> None:
    """Name the axes, with their units."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_xscale() != "log":
        axes.margins(x=0.01)


def legend(axes: Axes) -> None:
    """Put the legend above the axes."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, handlelength=1.4, columnspacing=1.6)
