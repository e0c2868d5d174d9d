"""`mosel reproduce`: the paper's evaluation and what it leaves out, from profiles, as one HTML report."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mosel.core.errors import UsageError
from mosel.core.tables import read_profile
from mosel.evaluation.experiments import EXPERIMENTS, Lab, Section
from mosel.evaluation.experiments.lab import Told
from mosel.evaluation.experiments.live import servable
from mosel.evaluation.experiments.page import write_sections
from mosel.evaluation.experiments.pool import pool
from mosel.evaluation.experiments.section import Grid
from mosel.evaluation.traces import read_counts

FOLDER = Path("profiles")
SEEDS, DURATION_S = 3, 60.0
QUICK_SEEDS, QUICK_DURATION_S = 1, 12.0
WIDE = 180
"""Characters of a line that no terminal limits."""


def reproduce(
    *names: str,
    profile: tuple[Path, ...] = (),
    seeds: int | None = None,
    duration: float | None = None,
    quick: bool = False,
    fresh: bool = False,
    trace: Path | None = None,
    live: bool = False,
    processes: int | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("reproduced"),
    quiet: bool = False,
) -> None:
    """Reproduce the paper's figures and tables, and more, from profiles, as one HTML report and CSV files.

    Example: mosel reproduce fig1 fig5 headline --profile profile.json -o reproduced

    Args:
        names: of the experiments: headline, fig1, fig5, fig6, fig7, fig8, table2, overhead, jct, share,
            sensitivity, tenants, cascade, month, live; where none is named all of them, but month only with
            --trace and live only with --live.
        profile: a profile.json; may be repeated. Where none is given, every one in the folder `profiles`.
        seeds: how many workloads stand behind each point; 3 by default.
        duration: seconds of each workload at most; 60 by default. Fast models get shorter ones, and
            those slow enough for fewer than 40 requests longer ones.
        quick: one seed, 12 s and fewer points.
        fresh: compute everything anew, instead of using what earlier runs of the same code left.
        trace: for month, the recorded arrivals: `second count` in two columns, a count for each second, Azure's
            LLM and multi-modal traces, or BurstGPT's.
        live: the experiment live too: the workloads of fig5 against a server on this machine, in real time and
            one after the other, beside the same in simulation. It is printed as well.
        processes: how many simulations run at a time; as many as there are processors by default.
        output: the folder for report.html and the CSV files.
        quiet: say nothing on stderr.
    """
    chosen = _chosen(names, trace, live)
    read = {path.stem: read_profile(path) for path in _paths(profile)}
    lab = Lab(
        {name: each.profile for name, each in read.items()},
        {name: each.sha256 for name, each in read.items()},
        _whole(seeds, QUICK_SEEDS if quick else SEEDS, "--seeds"),
        _seconds(duration, QUICK_DURATION_S if quick else DURATION_S),
        quick,
        keep=not fresh,
        trace=None if trace is None else read_counts(trace),
    )
    if "live" in chosen:
        servable(lab)  # before anything that takes long
    with pool(_whole(processes, len(os.sched_getaffinity(0)), "--processes")) as others:
        sections = _run(chosen, replace(lab, pool=others), quiet)
    page = write_sections(sections, lab, output)
    for section in sections:
        if section.name == "live" and section.shown:
            _print(section.shown)
    if not quiet:
        if not names and trace is None:
            sys.stderr.write("month is left out, as no recorded series is given; give --trace FILE\n")
        sys.stderr.write(f"wrote {page}\n")


def _chosen(names: Sequence[str], trace: Path | None, live: bool) -> list[str]:
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise UsageError(f"experiment {unknown[0]!r} is not known; expected some of {', '.join(EXPERIMENTS)}")
    if names and ("month" in names) != (trace is not None):
        raise UsageError("the experiment month and --trace FILE belong together; give both or neither")
    usual = [name for name in EXPERIMENTS if name not in ("month", "live")]
    wanted = {*(names or usual), *(["month"] if trace else []), *(["live"] if live else [])}
    return [name for name in EXPERIMENTS if name in wanted]


def _paths(given: Sequence[Path]) -> list[Path]:
    paths = list(given) or sorted(FOLDER.glob("*.json"))
    if not paths:
        raise UsageError("no profile; give --profile PROFILE, or run where the folder `profiles` has some")
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise UsageError("two profiles have the same file name; expected names that tell them apart")
    return paths


def _whole(given: int | None, usual: int, option: str) -> int:
    if given is not None and given < 1:
        raise UsageError(f"{option} {given}; expected a whole number from 1")
    return usual if given is None else given


def _seconds(given: float | None, usual: float) -> float:
    if given is not None and not 4 <= given < float("inf"):
        raise UsageError(f"--duration {given}; expected at least 4 seconds, one window of figure 5")
    return usual if given is None else given


def _run(names: Sequence[str], lab: Lab, quiet: bool) -> list[Section]:
    sections = []
    with _bar(quiet) as progress:
        for name in names:
            task = progress.add_task(name, total=None)
            sections.append(EXPERIMENTS[name](replace(lab, told=_teller(progress, task))))
            progress.update(task, completed=1, total=1)
    return sections


def _print(grid: Grid) -> None:
    console = Console()
    table = Table(*grid.columns, box=None)
    for row in grid.rows:
        table.add_row(*map(str, row))
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def _teller(progress: Progress, task: TaskID) -> Told:
    return lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _bar(quiet: bool) -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:12}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        yield progress
