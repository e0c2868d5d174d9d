"""`mosel bound`: which share of a workload's requests any schedule could at most serve on time."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mosel.commands.fleet import read_fleet
from mosel.core.errors import UsageError
from mosel.evaluation.bound import Told, clairvoyant_bound
from mosel.evaluation.simulate import Conditions
from mosel.evaluation.workload import read_workload


def bound(*paths: Path, workers: int | None = None, worker: tuple[str, ...] = (), quiet: bool = False) -> None:
    """Print the share of requests that no schedule could exceed on time, as JSON.

    It knows all arrivals, shares batches freely and stops and moves work at will; see the page on the bound.

    Example: mosel bound profile.json workload.csv

    Args:
        paths: the profile.json of each model, then the workload.csv; with --worker the workload.csv is enough.
        workers: how many workers there are; 1 by default.
        worker: PROFILE,... the profiles of one worker; repeated, one for each, instead of --workers.
        quiet: show no progress.
    """
    if len(paths) < (1 if worker else 2):
        raise UsageError("expected one or more profiles and, last, a workload: mosel bound PROFILE… WORKLOAD")
    fleet = read_fleet(paths[:-1], workers, worker)
    jobs = read_workload(paths[-1], {model: table.modalities for model, table in fleet.models.items()})
    conditions = Conditions(len(fleet.workers))
    with _progress(quiet) as told:
        share = clairvoyant_bound(fleet.models, jobs, conditions, told, fleet.workers if worker else ())
    sys.stdout.write(json.dumps({"bound": share}) + "\n")


@contextmanager
def _progress(quiet: bool) -> Iterator[Told]:
    console = Console(stderr=True)
    columns = (TextColumn("bound"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("bound", total=1.0)
        yield lambda done: progress.update(task, completed=done)
