"""A log-log plot as SVG that is legible on light and dark pages.

Written without a plotting library, whose SVG refers to parts of itself; the docs allow none of that.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t">'
    title = f'<title id="t">{plot.title}</title>'
    heading = f'<text class="head" x="{LEFT}" y="26">{plot.title}</text>'
    parts = [head, title, _style(plot), heading, *_grid(plot), *_drawn(plot), "</svg>", ""]
    return "\n".join(parts)


def _style(plot: Plot) -> str:
    def of(ground: int) -> str:
        named = [(f"l{index}", line.colours[ground]) for index, line in enumerate(plot.lines)]
        rules = [
            f".{name} {{ stroke: {it}; }} text.{name} {{ fill: {it}; stroke: none; }}" for name, it in named
        ]
        return "\n    ".join(rules)

    return f"""<style>
  text {{ font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a; }}
  .head {{ font-size: 13px; font-weight: 600; fill: #1f2328; }} .name {{ font-weight: 600; }}
  .ground {{ fill: #ffffff; stroke: #d0d7de; }} .grid {{ stroke: #d8dee4; stroke-width: 0.7; }}
  polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }} .dashed {{ stroke-dasharray: 5 4; }}
    {of(0)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9198a1; }} .head {{ fill: #e6edf3; }}
    .ground {{ fill: #161b22; stroke: #30363d; }} .grid {{ stroke: #2a313a; }}
    {of(1)}
  }}
</style>
<rect class="ground" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10"/>"""


def _grid(plot: Plot) -> Iterator[str]:
    xs = sorted({x for line in plot.lines for x, _ in line.points})
    for value, name in plot.ticks.items():
        y = _y(plot, value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
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
        points = " ".join(f"{_x(plot, x):.1f},{_y(plot, y):.1f}" for x, y in line.points)
        kind = f"l{index} dashed" if line.dashed else f"l{index}"
        yield f'<polyline class="{kind}" points="{points}"/>'
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
