"""What an experiment hands back: a titled part of the report, and its raw numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None
Rows = tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as SVG text, and what it shows."""

    title: str
    text: str
    svg: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows under column names: a table of the report, or the numbers of a CSV file."""

    columns: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment's part of the report.

    Attributes:
        name: of the experiment, and of its CSV file.
        title: heads it.
        text: says what is shown and how to read it.
        figures: its pictures.
        shown: a table for the page, where there is one.
        numbers: what is written to `NAME.csv`.
        wall: the numbers are wall times, which differ from run to run.
    """

    name: str
    title: str
    text: str
    numbers: Grid
    figures: Sequence[Figure] = ()
    shown: Grid | None = None
    wall: bool = False
