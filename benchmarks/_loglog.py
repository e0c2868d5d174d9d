"""A log-log plot as SVG."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from _svg import drawing, grid, polyline

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 120, 46, 52


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its name, its colours on light and on dark ground, and its points."""

    name: str
    colours: tuple[str, str]
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn; `ticks` name places on the y axis."""

    title: str
    x_label: str
    y_label: str
    ticks: dict[float, str]
    lines: tuple[Line, ...]


def svg(plot: Plot) -> str:
    """Return the picture's text."""
    heading = f'<text class="head" x="{LEFT}" y="26">{plot.title}</text>'
    colours = {f"l{index}": line.colours for index, line in enumerate(plot.lines)}
    rules = ".name { font-weight: 600; } polyline { stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }"
    return drawing(plot.title, (WIDTH, HEIGHT), colours, [heading, *_grid(plot), *_drawn(plot)], rules)


def _grid(plot: Plot) -> Iterator[str]:
    xs = sorted({x for line in plot.lines for x, _ in line.points})
    for value, name in plot.ticks.items():
        y = _y(plot, value)
        yield grid(LEFT, WIDTH - RIGHT, y, name)
    for value in xs:
        x = _x(plot, value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        label = f"{value:,.0f}"
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="{middle_x:g}" y="{HEIGHT - 12}" text-anchor="middle">{plot.x_label}</text>'
    turned = f'transform="rotate(-90 16 {middle_y:g})"'
    yield f'<text x="16" y="{middle_y:g}" text-anchor="middle" {turned}>{plot.y_label}</text>'


def _drawn(plot: Plot) -> Iterator[str]:
    ends = [(_y(plot, line.points[-1][1]), index) for index, line in enumerate(plot.lines)]
    at: dict[int, float] = {}
    lowest: dict[float, float] = {}
    for y, index in sorted(ends):  # names that would cover each other move down
        x = _x(plot, plot.lines[index].points[-1][0])
        at[index] = max(y, lowest.get(x, 0.0) + 14)
        lowest[x] = at[index]
    for index, line in enumerate(plot.lines):
        kind = f"l{index} dashed" if line.dashed else f"l{index}"
        yield polyline(kind, [(_x(plot, x), _y(plot, y)) for x, y in line.points])
        x = _x(plot, line.points[-1][0]) + 7
        yield f'<text class="name l{index}" x="{x:.1f}" y="{at[index] + 4:.1f}">{line.name}</text>'


def _x(plot: Plot, value: float) -> float:
    xs = [x for line in plot.lines for x, _ in line.points]
    return LEFT + (WIDTH - RIGHT - LEFT) * _share(value, min(xs), max(xs))


def _y(plot: Plot, value: float) -> float:
    ys = [y for line in plot.lines for _, y in line.points]
    low, high = min(*ys, *plot.ticks), max(*ys, *plot.ticks)
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - _share(value, low, high))


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low) if high > low else 0.5
