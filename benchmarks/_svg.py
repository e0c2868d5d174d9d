"""What the docs' plots share: the frame, and colours that are legible on light and on dark pages.

Written without a plotting library, whose SVG refers to parts of itself; the docs allow none of that.
"""

from collections.abc import Iterable, Mapping

Colours = Mapping[str, tuple[str, str]]
"""By CSS class: the colour of a line on light and on dark ground."""


def drawing(title: str, size: tuple[int, int], colours: Colours, body: Iterable[str], extra: str = "") -> str:
    """Return a picture's text.

    Args:
        title: what it shows, for those who cannot see it.
        size: width and height.
        colours: of its lines.
        body: what is drawn.
        extra: further rules of CSS.
    """
    box = f'viewBox="0 0 {size[0]} {size[1]}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-labelledby="t">'
    return "\n".join(
        [head, f'<title id="t">{title}</title>', _style(size, colours, extra), *body, "</svg>", ""]
    )


def polyline(kind: str, points: Iterable[tuple[float, float]]) -> str:
    """Return a line of this class through points."""
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{text}"/>'


def legend(at: tuple[float, float], kind: str, name: str) -> str:
    """Return a key of a line of this class with its name."""
    x, y = at
    line = f'<line class="key {kind}" x1="{x:g}" x2="{x + 18:g}" y1="{y:g}" y2="{y:g}"/>'
    return f'{line}\n<text x="{x + 23:g}" y="{y + 4:g}">{name}</text>'


def grid(left: float, right: float, y: float, name: str = "") -> str:
    """Return a line of the grid, with what it stands for where that is to be said."""
    line = f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}\n<text x="{left - 4:g}" y="{y + 4:.1f}" text-anchor="end">{name}</text>' if name else line


def _style(size: tuple[int, int], colours: Colours, extra: str) -> str:
    def of(ground: int) -> str:
        return " ".join(
            f".{kind} {{ stroke: {pair[ground]}; }} text.{kind} {{ fill: {pair[ground]}; stroke: none; }}"
            for kind, pair in colours.items()
        )

    return f"""<style>
  text {{ font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a; }}
  .head {{ font-size: 13px; font-weight: 600; fill: #1f2328; }}
  .ground {{ fill: #ffffff; stroke: #d0d7de; }} .grid {{ stroke: #d8dee4; stroke-width: 0.7; }}
  polyline, .key {{ fill: none; stroke-width: 1.7; stroke-linejoin: round; }} {extra}
  {of(0)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9198a1; }} .head {{ fill: #e6edf3; }}
    .ground {{ fill: #161b22; stroke: #30363d; }} .grid {{ stroke: #2a313a; }}
    {of(1)}
  }}
</style>
<rect class="ground" x="1" y="1" width="{size[0] - 2}" height="{size[1] - 2}" rx="10"/>"""
