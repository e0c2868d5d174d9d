"""The plots of `share_of_bound.py`: a panel a profile, load against a figure."""

from collections.abc import Iterator
from typing import Any

from _svg import drawing, grid, legend, polyline

COLOURS = {
    "none": ("#6e7781", "#8b949e"),
    "none+batching": ("#bf8700", "#e3b341"),
    "random": ("#1b7c83", "#56d4dd"),
    "aggressive": ("#cf222e", "#ff7b72"),
    "paper": ("#8250df", "#bc8cff"),
    "optimized": ("#1a7f37", "#56d364"),
    "joint": ("#0969da", "#58a6ff"),
}
"""By policy, on light and on dark ground."""

WIDTH, PANEL, LEFT, GAP, TOP, HEIGHT = 760, 122, 40, 22, 62, 170


def figures(results: dict[str, Any]) -> dict[str, str]:
    """Return the name and the text of each SVG."""
    share = "Share of the clairvoyant bound that is served on time, against load"
    effective = "Effective accuracy against load: an on-time request counts its accuracy, any other 0"
    return {
        "share_of_bound.svg": _figure(results, share, "share"),
        "effective_accuracy.svg": _figure(results, effective, "effective_accuracy"),
    }


def _figure(results: dict[str, Any], title: str, key: str) -> str:
    names = list(dict.fromkeys(cell["profile"] for cell in results["cells"]))
    body = [*_legend()]
    for index, name in enumerate(names):
        cells = [cell for cell in results["cells"] if cell["profile"] == name]
        body += _panel(cells, LEFT + index * (PANEL + GAP), key, first=index == 0)
    middle = LEFT + (len(names) * (PANEL + GAP) - GAP) / 2
    body.append(
        f'<text x="{middle:g}" y="{TOP + HEIGHT + 36}" text-anchor="middle">'
        "load, in multiples of the capacity with all modalities at batch size 1</text>"
    )
    colours = {_class(policy): pair for policy, pair in COLOURS.items()}
    rules = ".joint { stroke-width: 3; } .optimized { stroke-dasharray: 6 3; }"
    return drawing(title, (WIDTH, TOP + HEIGHT + 46), colours, body, rules)


def _legend() -> Iterator[str]:
    at = LEFT
    for policy in COLOURS:
        yield legend((at, 20), _class(policy), policy)
        at += 44 + 7 * len(policy)


def _panel(cells: list[dict[str, Any]], left: float, key: str, *, first: bool) -> Iterator[str]:
    yield f'<text class="head" x="{left:g}" y="{TOP - 10}">{cells[0]["profile"]}</text>'
    for part in range(5):
        y = TOP + HEIGHT * (1 - part / 4)
        yield grid(left, left + PANEL, y, f"{part / 4:.2f}" if first else "")
    step = PANEL / (len(cells) - 1)
    for index, cell in enumerate(cells):
        x, y = left + index * step, TOP + HEIGHT + 16
        yield f'<text x="{x:g}" y="{y}" text-anchor="middle">{cell["load"]:g}</text>'
    for policy in COLOURS:
        points = [
            (left + index * step, TOP + HEIGHT * (1 - cell["policies"][policy][key]))
            for index, cell in enumerate(cells)
        ]
        yield polyline(_class(policy), points)


def _class(policy: str) -> str:
    return policy.replace("+", "-")
