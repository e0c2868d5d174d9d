"""`mosel reproduce`: the paper's evaluation and what it leaves out, from profiles, as one HTML report."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mosel.core.clock import monotonic_ns, to_s
from mosel.core.errors import UsageError
from mosel.core.tables import read_profile
from mosel.evaluation.experiments import EXPERIMENTS, Lab, Section
from mosel.evaluation.experiments.fullsize import with_shapes
from mosel.evaluation.experiments.lab import Told
from mosel.evaluation.experiments.live import servable
from mosel.evaluation.experiments.page import write_sections
from mosel.evaluation.experiments.pool import pool
from mosel.evaluation.experiments.section import Grid
from mosel.evaluation.experiments.workloads import FAST, without_claims, without_fast
from mosel.evaluation.traces import read_counts

FOLDER = Path("profiles")
SEEDS, FULL_SEEDS, QUICK_SEEDS = 2, 3, 1
DURATION_S, QUICK_DURATION_S = 60.0, 12.0
FULL_REQUESTS, FULL_LEAST_S = 20_000, 12.0
AS_MEASURED = ("fig1", "table2", "live")
"""What takes no longer with the profiles of fast models, and is always as long as with --full."""
WIDE = 180
"""Characters of a line that no terminal limits."""


def reproduce(
    *names: str,
    profile: tuple[Path, ...] = (),
    seeds: int | None = None,
    duration: float | None = None,
    quick: bool = False,
    full: bool = False,
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
        profile: a profile.json; may be repeated. Where none is given, every one in the folder `profiles`; those
            of random weights are not simulated then, but scaled to the paper's rates for the headline.
        seeds: how many workloads stand behind each point; 2 by default, 3 with --full.
        duration: seconds of each workload at most; 60 by default. Fast models get shorter ones, and
            those slow enough for fewer than 40 requests longer ones.
        quick: one seed, 12 s and fewer points.
        full: longer workloads, and of the profiles in the folder also those of models that carry over 500
            requests a second in what is simulated; it takes far longer.
        fresh: compute everything anew, instead of using what earlier runs of the same code left.
        trace: for month, the recorded arrivals: `second count` in two columns, a count for each second, Azure's
            LLM and multi-modal traces, or BurstGPT's.
        live: the experiment live too: the workloads of fig5 against a server on this machine, in real time and
            one after the other, beside the same in simulation. It is printed as well.
        processes: how many simulations run at a time; as many as there are processors by default.
        output: the folder for report.html and the CSV files.
        quiet: say nothing on stderr.
    """
    if quick and full:
        raise UsageError("--quick and --full; give one of them")
    chosen = _chosen(names, trace, live)
    read = {path.stem: read_profile(path) for path in _paths(profile)}
    lab = Lab(
        {name: each.profile for name, each in read.items()},
        {name: each.sha256 for name, each in read.items()},
        _whole(seeds, QUICK_SEEDS if quick else FULL_SEEDS if full else SEEDS, "--seeds"),
        _seconds(duration, QUICK_DURATION_S if quick else DURATION_S),
        quick,
        keep=not fresh,
        trace=None if trace is None else read_counts(trace),
    )
    whole = replace(lab, most_requests=FULL_REQUESTS, least_s=FULL_LEAST_S)
    wanted = whole if full else lab if profile else without_fast(lab)
    simulated = wanted if profile else without_claims(wanted)
    if "live" in chosen:
        servable(lab)  # before anything that takes long
    with pool(_whole(processes, len(os.sched_getaffinity(0)), "--processes")) as others:
        labs = {name: whole if name in AS_MEASURED else simulated for name in chosen}
        if "headline" in labs:
            labs["headline"] = with_shapes(simulated, lab)
        sections, took_s = _run({name: replace(each, pool=others) for name, each in labs.items()}, quiet)
    page = write_sections(sections, replace(lab, left_out=simulated.left_out), output)
    for section in sections:
        if section.name == "live" and section.shown:
            _print(section.shown)
    if not quiet:
        for line in (*_left_out(simulated, names, trace), *_took(took_s), f"wrote {page}"):
            sys.stderr.write(f"{line}\n")


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


def _run(labs: Mapping[str, Lab], quiet: bool) -> tuple[list[Section], dict[str, float]]:
    """Return what each experiment hands back, and how many seconds it took."""
    sections, took_s = [], {}
    with _bar(quiet) as progress:
        for name, lab in labs.items():
            task, began_ns = progress.add_task(name, total=None), monotonic_ns()
            sections.append(EXPERIMENTS[name](replace(lab, told=_teller(progress, task))))
            progress.update(task, completed=1, total=1)
            took_s[name] = to_s(monotonic_ns() - began_ns)
    return sections, took_s


def _left_out(simulated: Lab, names: Sequence[str], trace: Path | None) -> list[str]:
    lines = []
    if not names and trace is None:
        lines.append("month is left out, as no recorded series is given; give --trace FILE")
    for why in sorted(set(simulated.left_out.values())):
        alike = ", ".join(name for name, own in simulated.left_out.items() if own == why)
        lines.append(f"not simulated, as {why}: {alike}" + ("; give --full" if why == FAST else ""))
    return lines


def _took(took_s: Mapping[str, float]) -> list[str]:
    return [f"{name:12}{seconds:8.1f} s" for name, seconds in {**took_s, "all": sum(took_s.values())}.items()]


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
