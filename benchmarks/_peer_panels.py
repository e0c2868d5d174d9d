"""The plot of `peers.py`: on time, effective accuracy and completion time against load."""

from collections.abc import Iterator, Sequence
from typing import Any

from _svg import drawing, grid, legend, polyline

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
    title = "On-time share, effective accuracy and completion time against load, by server"
    foot = (
        f'<text x="{WIDTH / 2:g}" y="{TOP + HEIGHT + 36}" text-anchor="middle">'
        "load, in multiples of what all modalities carry back to back</text>"
    )
    panels = [
        line
        for index, panel in enumerate(PANELS)
        for line in _panel(cells, loads, LEFT + index * (PANEL + GAP), *panel)
    ]
    colours = {_class(name): pair for name, pair in COLOURS.items()}
    widest = ".mosel-joint { stroke-width: 3; }"
    return drawing(title, (WIDTH, TOP + HEIGHT + 46), colours, [*_legend(), *panels, foot], widest)


def _legend() -> Iterator[str]:
    for index, name in enumerate(COLOURS):
        x, y = LEFT + (index % 4) * 178, 20 + (index // 4) * 22
        yield legend((x, y), _class(name), name)


def _panel(
    cells: Cells, loads: Sequence[float], left: float, title: str, key: str, end: float
) -> Iterator[str]:
    yield f'<text class="head" x="{left:g}" y="{TOP - 10}">{title}</text>'
    for part in range(5):
        y = TOP + HEIGHT * (1 - part / 4)
        yield grid(left, left + PANEL, y, f"{end * part / 4:.2f}")
    for load in loads:
        x = left + PANEL * load / max(loads)
        yield f'<text x="{x:g}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{load:g}</text>'
    for name in reversed(COLOURS):
        points = [
            (left + PANEL * cell["load"] / max(loads), TOP + HEIGHT * (1 - cell[key] / end))
            for cell in sorted(cells, key=lambda each: float(each["load"]))
            if cell["system"] == name and cell[key] is not None and cell[key] <= end
        ]
        yield polyline(_class(name), points)


def _class(name: str) -> str:
    return name.lower().replace(", ", "-").replace("+", "-").replace(" ", "-")
