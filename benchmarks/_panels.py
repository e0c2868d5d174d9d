"""The plots of `share_of_bound.py`: a panel a profile, load against a figure, as SVG for light and dark pages.

Written without a plotting library, whose SVG refers to parts of itself; the docs allow none of that.
"""

from collections.abc import Iterator
from typing import Any

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
    size = f'viewBox="0 0 {WIDTH} {TOP + HEIGHT + 46}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t">'
    return "\n".join([head, f'<title id="t">{title}</title>', _style(), *body, "</svg>", ""])


def _style() -> str:
    def of(ground: int) -> str:
        return " ".join(f".{_class(policy)} {{ stroke: {pair[ground]}; }}" for policy, pair in COLOURS.items())

    return f"""<style>
  text {{ font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a; }}
  .head {{ font-size: 13px; font-weight: 600; fill: #1f2328; }}
  .ground {{ fill: #ffffff; stroke: #d0d7de; }} .grid {{ stroke: #d8dee4; stroke-width: 0.7; }}
  polyline, .key {{ fill: none; stroke-width: 1.7; stroke-linejoin: round; }} .joint {{ stroke-width: 3; }}
  .optimized {{ stroke-dasharray: 6 3; }}
  {of(0)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9198a1; }} .head {{ fill: #e6edf3; }}
    .ground {{ fill: #161b22; stroke: #30363d; }} .grid {{ stroke: #2a313a; }}
    {of(1)}
  }}
</style>
<rect class="ground" x="1" y="1" width="{WIDTH - 2}" height="{TOP + HEIGHT + 44}" rx="10"/>"""


def _legend() -> Iterator[str]:
    at = LEFT
    for policy in COLOURS:
        yield f'<line class="key {_class(policy)}" x1="{at}" x2="{at + 18}" y1="20" y2="20"/>'
        yield f'<text x="{at + 23}" y="24">{policy}</text>'
        at += 44 + 7 * len(policy)


def _panel(cells: list[dict[str, Any]], left: float, key: str, *, first: bool) -> Iterator[str]:
    yield f'<text class="head" x="{left:g}" y="{TOP - 10}">{cells[0]["profile"]}</text>'
    for part in range(5):
        y = TOP + HEIGHT * (1 - part / 4)
        yield f'<line class="grid" x1="{left:g}" x2="{left + PANEL:g}" y1="{y:g}" y2="{y:g}"/>'
        if first:
            yield f'<text x="{left - 4:g}" y="{y + 4:g}" text-anchor="end">{part / 4:.2f}</text>'
    step = PANEL / (len(cells) - 1)
    for index, cell in enumerate(cells):
        x, y = left + index * step, TOP + HEIGHT + 16
        yield f'<text x="{x:g}" y="{y}" text-anchor="middle">{cell["load"]:g}</text>'
    for policy in COLOURS:
        points = [
            f"{left + index * step:.1f},{TOP + HEIGHT * (1 - cell['policies'][policy][key]):.1f}"
            for index, cell in enumerate(cells)
        ]
        yield f'<polyline class="{_class(policy)}" points="{" ".join(points)}"/>'


def _class(policy: str) -> str:
    return policy.replace("+", "-")
