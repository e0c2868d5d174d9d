"""The plot of `peers.py`: on time, effective accuracy and completion time against load, for light and dark.

Written without a plotting library, whose SVG refers to parts of itself; the docs allow none of that.
"""

from collections.abc import Iterator, Sequence
from typing import Any

COLOURS = {
    "mosel, joint": ("#0969da", "#58a6ff"),
    "mosel, optimized": ("#1a7f37", "#56d364"),
    "mosel, none+batching": ("#bf8700", "#e3b341"),
    "Triton": ("#8250df", "#bc8cff"),
    "Ray Serve": ("#1b7c83", "#56d4dd"),
    "LitServe": ("#cf222e", "#ff7b72"),
    "MLServer": ("#6e7781", "#8b949e"),
    "BentoML": ("#bc4c00", "#f0883e"),
}
"""By system, on light and on dark ground."""

PANELS = (
    ("on time", "on_time", 1.0),
    ("effective accuracy", "right_on_time", 1.0),
    ("completion, mean, up to 0.5 s", "jct_mean_s", 0.5),
)
"""Title, measure and the end of the scale, beyond which nothing is drawn: the third is the latency SLO."""

WIDTH, PANEL, LEFT, GAP, TOP, HEIGHT = 760, 196, 40, 48, 86, 190

Cells = Sequence[dict[str, Any]]


def figure(cells: Cells, loads: Sequence[float]) -> str:
    """Return the SVG's text."""
    body = [*_legend()]
    for index, panel in enumerate(PANELS):
        body += _panel(cells, loads, LEFT + index * (PANEL + GAP), *panel)
    size = f'viewBox="0 0 {WIDTH} {TOP + HEIGHT + 46}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t">'
    title = "On-time share, effective accuracy and completion time against load, by server"
    foot = (
        f'<text x="{WIDTH / 2:g}" y="{TOP + HEIGHT + 36}" text-anchor="middle">'
        "load, in multiples of what all modalities carry back to back</text>"
    )
    return "\n".join([head, f'<title id="t">{title}</title>', _style(), *body, foot, "</svg>", ""])


def _style() -> str:
    def of(ground: int) -> str:
        return " ".join(f".{_class(name)} {{ stroke: {pair[ground]}; }}" for name, pair in COLOURS.items())

    return f"""<style>
  text {{ font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a; }}
  .head {{ font-size: 13px; font-weight: 600; fill: #1f2328; }}
  .ground {{ fill: #ffffff; stroke: #d0d7de; }} .grid {{ stroke: #d8dee4; stroke-width: 0.7; }}
  polyline, .key {{ fill: none; stroke-width: 1.7; stroke-linejoin: round; }}
  .mosel-joint {{ stroke-width: 3; }}
  {of(0)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9198a1; }} .head {{ fill: #e6edf3; }}
    .ground {{ fill: #161b22; stroke: #30363d; }} .grid {{ stroke: #2a313a; }}
    {of(1)}
  }}
</style>
<rect class="ground" x="1" y="1" width="{WIDTH - 2}" height="{TOP + HEIGHT + 44}" rx="10"/>"""


def _legend() -> Iterator[str]:
    for index, name in enumerate(COLOURS):
        x, y = LEFT + (index % 4) * 178, 20 + (index // 4) * 22
        yield f'<line class="key {_class(name)}" x1="{x}" x2="{x + 18}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{x + 23}" y="{y + 4}">{name}</text>'


def _panel(
    cells: Cells, loads: Sequence[float], left: float, title: str, key: str, end: float
) -> Iterator[str]:
    yield f'<text class="head" x="{left:g}" y="{TOP - 10}">{title}</text>'
    for part in range(5):
        y = TOP + HEIGHT * (1 - part / 4)
        yield f'<line class="grid" x1="{left:g}" x2="{left + PANEL:g}" y1="{y:g}" y2="{y:g}"/>'
        yield f'<text x="{left - 4:g}" y="{y + 4:g}" text-anchor="end">{end * part / 4:.2f}</text>'
    for load in loads:
        x = left + PANEL * load / max(loads)
        yield f'<text x="{x:g}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{load:g}</text>'
    for name in reversed(COLOURS):
        points = [
            f"{left + PANEL * cell['load'] / max(loads):.1f},{TOP + HEIGHT * (1 - cell[key] / end):.1f}"
            for cell in sorted(cells, key=lambda each: float(each["load"]))
            if cell["system"] == name and cell[key] is not None and cell[key] <= end
        ]
        yield f'<polyline class="{_class(name)}" points="{" ".join(points)}"/>'


def _class(name: str) -> str:
    return name.lower().replace(", ", "-").replace("+", "-").replace(" ", "-")
