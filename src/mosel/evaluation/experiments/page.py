"""The report on experiments: one HTML file that needs nothing else, and a CSV of raw numbers beside it."""

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mosel import __version__
from mosel.core.files import write_atomic
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Figure, Grid, Section
from mosel.evaluation.report import CSS


def write_sections(sections: Sequence[Section], lab: Lab, folder: Path) -> Path:
    """Write `report.html` and one CSV a section; numbers that are wall times go to `wall-NAME.csv`.

    Raises:
        FileError: the folder cannot be written.
    """
    for section in sections:
        name = f"wall-{section.name}.csv" if section.wall else f"{section.name}.csv"
        write_atomic(folder / name, csv_text(section.numbers))
    page = folder / "report.html"
    write_atomic(page, html(sections, lab))
    return page


def csv_text(grid: Grid) -> str:
    """Return a grid as CSV; what is not there is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(grid.columns)
    writer.writerows(grid.rows)
    return out.getvalue()


def html(sections: Sequence[Section], lab: Lab) -> str:
    """Return the whole page."""
    contents = "".join(f'<a href="#{each.name}">{escape(each.title)}</a>' for each in sections)
    body = "".join(_section(each) for each in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>mosel: the evaluation, reproduced</title><style>{CSS}{_MORE}</style></head><body><main>"
        f"<header><h1>The evaluation, reproduced</h1><p>{escape(_subtitle(lab))}</p></header>"
        f"<nav>{contents}</nav>{_profiles(lab)}{body}"
        f"<footer>mosel {escape(__version__)}. Everything but wall times comes from simulation and is the same "
        "whenever it is run again; the raw numbers are in the CSV files beside this page.</footer>"
        "</main></body></html>\n"
    )


def _subtitle(lab: Lab) -> str:
    many = f"{len(lab.profiles)} profile{'s' if len(lab.profiles) > 1 else ''}"
    seeds = f"{lab.seeds} seed{'s' if lab.seeds > 1 else ''}"
    missing = "".join(
        f". Not simulated, as {why}: {', '.join(name for name, own in lab.left_out.items() if own == why)}"
        for why in sorted(set(lab.left_out.values()))
    )
    return (
        f"{many}, {seeds}, workloads of {lab.duration_s:g} s at most, one worker each, in simulation{missing}"
    )


def _profiles(lab: Lab) -> str:
    rows = tuple(
        (
            name,
            profile.model,
            f"{profile.device.name} ({profile.device.kind})",
            ", ".join(dict.fromkeys(profile.precision_of(mode) for mode in profile.modes)),
            len(profile.modes),
            profile.measured_at[:10],
            " ".join(str(note) for note in (profile.extra or {}).get("notes", ())),
        )
        for name, profile in lab.profiles.items()
    )
    columns = ("profile", "model", "device", "precisions", "modes", "measured", "notes")
    return f"<section class=card><h2>Profiles</h2>{_table(Grid(columns, rows))}</section>"


def _section(section: Section) -> str:
    mark = " <em>wall times</em>" if section.wall else ""
    shown = _table(section.shown) if section.shown else ""
    cards = "".join(_card(each) for each in section.figures)
    return (
        f'<section class="part" id="{section.name}"><h2>{escape(section.title)}{mark}</h2>'
        f"<p>{escape(section.text)}</p>"
        f"{f'<div class=card>{shown}</div>' if shown else ''}"
        f"{f'<div class=figures>{cards}</div>' if cards else ''}</section>"
    )


def _card(figure: Figure) -> str:
    kind = '"card wide"' if figure.wide else "card"
    return (
        f"<figure class={kind}><h3>{escape(figure.title)}</h3><p>{escape(figure.text)}</p>{figure.svg}</figure>"
    )


def _table(grid: Grid) -> str:
    cells = [[escape("–" if cell is None else str(cell)) for cell in row] for row in grid.rows]
    kinds = [_kind(column) for column in zip(*cells, strict=True)] or [""] * len(grid.columns)
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, grid.columns, strict=True))
    rows = "".join(_row(row, kinds, cells[index - 1] if index else None) for index, row in enumerate(cells))
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _row(cells: Sequence[str], kinds: Sequence[str], before: Sequence[str] | None) -> str:
    first = ' class="first"' if before is None or before[0] != cells[0] else ""
    inside = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True))
    return f"<tr{first}>{inside}</tr>"


def _kind(column: Sequence[str]) -> str:
    """Numbers stand to the right; long texts keep some width where the page is narrow."""
    if max(map(len, column)) > LONG:
        return ' class="t"'
    told = [cell for cell in column if cell.strip("–")]
    return ' class="n"' if told and all(cell[0].isdigit() or cell[0] in "-+" for cell in told) else ""


LONG = 40
"""Characters from which a cell is a text."""

_MORE = """
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 18px;font-size:14px}
a{color:var(--s2);text-decoration:none} a:hover{text-decoration:underline}
.part{margin:34px 0 0} .part>h2{font-size:20px;margin:0 0 4px}
.part>p{color:var(--soft);max-width:78ch;margin:0 0 14px}
h2 em{font-style:normal;font-size:12px;font-weight:500;color:var(--soft);border:1px solid var(--line);
border-radius:20px;padding:2px 9px;vertical-align:middle}
h3{font-size:15px;margin:0} figure{margin:0}
figure.card{margin-bottom:18px}
.figures{grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))}
@media (max-width:700px){.card.wide{overflow-x:auto} .card.wide svg{min-width:640px}
td.t:last-child{min-width:60ch}}
th,td,th:first-child{text-align:left} td:first-child{color:var(--soft)}
td{white-space:normal;vertical-align:top} td.n,th.n,th.n:first-child{text-align:right;white-space:nowrap}
td:first-child{white-space:nowrap} td.t{min-width:25ch}
tr.first td{border-top:1px solid var(--faint)}
table{font-size:14px}
"""
