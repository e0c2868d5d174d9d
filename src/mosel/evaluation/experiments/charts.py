"""The pictures of the report on experiments: bars, boxes, and medians with an interval over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mosel.evaluation.curves import Floats
from mosel.evaluation.plots import GROUND, INK, WIDE_IN, WIDTH_IN, colour, figure_in, label, legend

Points = Mapping[float, Sequence[float]]
"""The values over seeds at each place on the horizontal axis."""

_COLOURS = {
    "none": colour(0),
    "none+batching": colour(6),
    "random": colour(1),
    "aggressive": colour(4),
    "paper": colour(5),
    "selection": colour(5),
    "optimized": colour(3),
    "joint": colour(2),
}


Series = Mapping[str, Sequence[tuple[float, float]]]
"""Places of points, by the name of what they stand for."""


MOST_TICKS = 10

SINGLE = ", single"
"""Ends the name of a policy that is shown without cascades: it has the policy's colour, dashed."""


def policy_colour(name: str, index: int = 0) -> str:
    """Return the colour in which a policy is drawn in every picture; other names take theirs in turn.

    What stands before a plus, as in `bfloat16 + joint`, does not count.
    """
    return _COLOURS.get(name.removesuffix(SINGLE).rpartition(" + ")[2], colour(index))


def bars(panels: Mapping[str, Mapping[str, float]], height_in: float = 2.8) -> str:
    """Return horizontal bars, one panel for each measure, one row for each name."""
    with figure_in(height_in, WIDE_IN) as (figure, out):
        many = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, values) in zip(many, panels.items(), strict=True):
            names = list(values)
            places = np.arange(len(names))[::-1]
            axes.barh(places, list(values.values()), height=0.62, color=colour(2))
            axes.set_yticks(places, names)
            axes.set_xlabel(title)
            axes.grid(visible=False, axis="y")
    return out.getvalue()


def medians(
    series: Mapping[str, Points],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    unit: bool = False,
    steps: bool = False,
    zero: bool = False,
    wide: bool = False,
) -> str:
    """Return lines through the medians over seeds, in a band from the least to the greatest seed.

    Args:
        series: by name.
        x: names the horizontal axis, `y` the vertical one.
        y: see `x`.
        log_x: places are on a logarithmic scale.
        unit: the vertical axis goes from 0 to 1.
        steps: a line keeps its value up to the next place.
        zero: the vertical axis begins at 0.
        wide: the picture is as wide as the page.
    """
    with figure_in(3.0, WIDE_IN if wide else WIDTH_IN) as (figure, out):
        axes = figure.subplots()
        for index, (name, points) in enumerate(series.items()):
            _median_line(axes, points, name, policy_colour(name, index), steps=steps)
        if log_x:
            axes.set_xscale("log")
        if unit:
            axes.set_ylim(-0.03, 1.03)
        elif zero:
            axes.set_ylim(0.0, 1.05 * max(axes.get_ylim()[1], 1e-9))
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
        label(axes, x, y)
        if not steps:
            _tick_places(axes, sorted({place for points in series.values() for place in points}))
        legend(axes)
    return out.getvalue()


def _tick_places(axes: Axes, places: Sequence[float]) -> None:
    """Put the horizontal ticks where points are, if these are few, in plain numbers."""
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xticks([], minor=True)


def scatter(series: Series, lines: Series, x: str, y: str) -> str:
    """Return points, and lines through others behind them."""
    with figure_in(3.0, WIDTH_IN) as (figure, out):
        axes = figure.subplots()
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), color=INK, linewidth=0.8, label=name)
        for index, (name, points) in enumerate(series.items()):
            axes.plot(
                *zip(*points, strict=True), color=policy_colour(name, index), label=name, marker="o", ls=""
            )
        label(axes, x, y)
        legend(axes)
    return out.getvalue()


def _median_line(axes: Axes, points: Points, name: str, tint: str, *, steps: bool) -> None:
    places = list(points)
    middle = [float(np.median(points[place])) for place in places]
    if steps:
        axes.step(places, middle, where="post", color=tint, label=name)
        return
    dashes = "--" if name.endswith(SINGLE) else "-"
    axes.plot(places, middle, dashes, color=tint, label=name, marker="o", ms=3)
    low, high = ([float(pick(points[place])) for place in places] for pick in (np.min, np.max))
    axes.fill_between(places, low, high, color=tint, alpha=0.14, linewidth=0)


def box_pairs(groups: Mapping[str, tuple[Sequence[float], Sequence[float]]], left: str, right: str) -> str:
    """Return two panels of horizontal boxes, one row for each name (the paper's Fig. 5)."""
    with figure_in(0.8 + 0.34 * len(groups), WIDE_IN) as (figure, out):
        for side, axes in enumerate(figure.subplots(1, 2, sharey=True)):
            _boxes(axes, {name: pair[side] for name, pair in groups.items()})
            axes.set_xlabel((left, right)[side])
            if side:
                axes.set_xlim(-0.03, 1.03)
    return out.getvalue()


def _boxes(axes: Axes, groups: Mapping[str, Sequence[float]]) -> None:
    drawn = axes.boxplot(
        list(groups.values()),
        orientation="horizontal",
        widths=0.6,
        showmeans=True,
        patch_artist=True,
        medianprops={"color": INK, "linewidth": 1.4},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        boxprops={"linewidth": 0},
        flierprops={"markersize": 2, "markeredgecolor": INK, "alpha": 0.5},
        meanprops={"marker": "D", "markersize": 4, "markerfacecolor": GROUND, "markeredgecolor": INK},
    )
    for index, (box, name) in enumerate(zip(drawn["boxes"], groups, strict=True)):
        box.set_facecolor(policy_colour(name, index))
        box.set_alpha(0.75)
    axes.set_yticks(range(1, len(groups) + 1), list(groups))
    axes.set_ylim(len(groups) + 0.6, 0.4)
    axes.grid(visible=False, axis="y")


def histograms(groups: Mapping[str, Sequence[tuple[float, int]]], x: str) -> str:
    """Return the distribution of counted values, one panel for each name (the paper's Fig. 6)."""
    every = [value for counted in groups.values() for value, _ in counted]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    margin = max(0.01, (high - low) / 20)
    edges = np.linspace(max(0.0, low - margin), min(1.0, high + margin), 41)
    rows = (len(groups) + 1) // 2
    with figure_in(0.5 + 1.0 * rows, WIDE_IN) as (figure, out):
        panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).T.ravel()
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        for index, (axes, (name, counted)) in enumerate(zip(panels, groups.items(), strict=False)):
            _histogram(axes, counted, edges, policy_colour(name, index))
            axes.set_title(name)
            axes.tick_params(labelbottom=(index + 1) % rows == 0 or index == len(groups) - 1)
        figure.supxlabel(x, fontsize=10)
        figure.supylabel("share of jobs on time", fontsize=10)
    return out.getvalue()


def _histogram(axes: Axes, counted: Sequence[tuple[float, int]], edges: Floats, tint: str) -> None:
    if counted:
        values, counts = (np.array(column, float) for column in zip(*counted, strict=True))
        shares = np.histogram(values, edges, weights=counts)[0] / counts.sum()
        axes.stairs(shares, edges, fill=True, color=tint, alpha=0.8)
        axes.axvline(float(np.average(values, weights=counts)), color=INK, linewidth=1, linestyle=(0, (3, 3)))
