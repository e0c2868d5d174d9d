"""`mosel report`: one HTML file from run directories."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mosel.evaluation.report import write_report


def report(
    *runs: Path,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("report.html"),
    title: str = "mosel report",
    quiet: bool = False,
) -> None:
    """Make one HTML file, with a table and plots, from run directories.

    Example: mosel report run-none run-joint -o report.html

    Args:
        runs: run directories from `mosel simulate` or `mosel replay`; their folders' names tell them apart.
        output: the file to write.
        title: heads the page.
        quiet: say nothing on stderr.
    """
    write_report(runs, output, title)
    if not quiet:
        sys.stderr.write(f"wrote {output}\n")
