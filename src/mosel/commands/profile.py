"""`mosel profile`: measure 𝒟 of a model on this device."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from mosel.core.errors import FileError, UsageError
from mosel.core.tables import Mode, Profile, read_profile
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.offline.accuracy import read_accuracies
from mosel.offline.journal import journal_path
from mosel.offline.profiler import NONE, make_profile, refresh
from mosel.offline.settings import Meter, NoMeter, Settings
from mosel.runtime.device import default_device, describe, profile_path


def profile(
    model: str,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    exhaustive: bool = False,
    update: bool = False,
    device: str | None = None,
    batch: int | None = None,
    threads: int = 1,
    samples: int | None = None,
    repeats: int = 16,
    accuracy: Path | None = None,
    data: str | None = None,
    checkpoint: Path | None = None,
    fresh: bool = False,
    seed: int = 0,
    quiet: bool = False,
) -> None:
    """Measure latency, memory and accuracy of every modality combination and batch size of a model.

    Prints where the profile stands. An interrupted run goes on where it was when the command is given again.

    Example: mosel profile av-digits -o profile.json

    Args:
        model: a name from the zoo (av-digits) or package.module:object, perhaps with options behind commas
            (vilt,checkpoint=FILE).
        output: where to write the profile; by default to the cache in which `mosel serve` looks.
        exhaustive: time every batch size, and measure accuracies anew; by default batch sizes are
            interpolated where a measurement confirms it.
        update: re-check a few cells of the profile and measure anew only where they moved.
        device: cpu, cuda or cuda:INDEX; by default cuda where torch sees one.
        batch: the largest batch size; by default the model's own.
        threads: CPU threads a worker uses.
        samples: measure accuracy on so many of the labelled samples; by default on all.
        repeats: timings of a cell that is neither very quick nor very slow.
        accuracy: take accuracies from this file, a JSON object like {"audio": 0.9}, instead of measuring them.
        data: measure accuracy on a data set that you have instead of on the model's own samples: KIND:DIR,
            KIND being mosei (tvlt, selfmm), lrs3 (avhubert), epic (tbn) or mmimdb (vilt).
        checkpoint: the model's weights, as in vilt,checkpoint=FILE.
        fresh: measure accuracies anew, even where the profile that is there has them.
        seed: for the choice of samples and the order of timings.
        quiet: print no progress, notes or table.
    """
    if update and accuracy:
        raise UsageError("--update keeps the profile's accuracies; leave --accuracy out, or --update")
    if update and data:
        raise UsageError("--update keeps the profile's accuracies; leave --data out, or --update")
    found = find(f"{model},checkpoint={checkpoint}" if checkpoint else model)
    if data:
        found = _with_data(found, data)
    used = device or default_device(found.framework)
    settings = Settings(used, batch, threads, samples, repeats, exhaustive, fresh, seed)
    target = output or profile_path(
        found.name, found.version, describe(used, found.framework), settings.threads
    )
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(f"note: {text}", markup=False)

    try:
        with _meter(console) as meter:
            if update:
                made = refresh(read_profile(target).profile, found, settings, target, say=say, meter=meter)
            else:
                made = make_profile(
                    found,
                    settings,
                    target,
                    previous=_previous(target, console),
                    given=read_accuracies(accuracy, found) if accuracy else None,
                    given_from=str(accuracy or ""),
                    say=say,
                    meter=meter,
                )
    except KeyboardInterrupt:
        if journal_path(target).exists():
            console.print(
                f"What was measured is kept in {journal_path(target)}: give the command again to go on."
            )
        raise
    console.print(_table(made))
    sys.stdout.write(f"{target}\n")


def _with_data(model: Model, word: str) -> Model:
    try:
        from mosel.models.datasets import with_data
    except ImportError as error:
        raise UsageError(f"--data {word}: {error}; run: pip install 'mosel[datasets]'") from error
    return with_data(model, word)


def _previous(target: Path, console: Console) -> Profile | None:
    if not target.exists():
        return None
    try:
        return read_profile(target).profile
    except FileError as error:
        console.print(f"note: {error}; it will be replaced", markup=False)
        return None


class _Bar:
    """A bar with the time left. Drawn only when told to: no thread of its own disturbs the timings."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("warming up", total=None)

    def show(self, doing: str, done_s: float, total_s: float) -> None:
        """Draw the bar."""
        self._progress.update(self._task, description=doing, completed=done_s, total=total_s)
        self._progress.refresh()


@contextmanager
def _meter(console: Console) -> Iterator[Meter]:
    if console.quiet or not console.is_terminal:
        yield NoMeter()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        yield _Bar(progress)


def _table(made: Profile) -> Table:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, title=f"{made.model} on {made.device.name}"
    )
    table.add_column("mode", no_wrap=True)
    if made.length_buckets:
        table.add_column("up to", justify="right", no_wrap=True)
    headings = ("accuracy", "95% ≥", "ms at 1", "batch", "ms", "p99", "MiB", "timed")
    for heading in headings[:-1] if made.length_buckets else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, mode in zip(made.mode_names, made.modes, strict=True):
        for bucket in range(made.buckets):
            table.add_row(name, *_cells(made, mode, bucket))
    return table


def _cells(made: Profile, mode: Mode, bucket: int) -> Iterator[str]:
    latency_s, p99_s, memory_bytes = (
        made.columns(values)[bucket] for values in (mode.latency_s, mode.latency_p99_s, mode.memory_bytes)
    )
    if made.length_buckets:
        yield f"{made.length_buckets[bucket]:g}"
    claimed = (made.extra or {}).get("accuracy_source") != NONE
    for accuracy in (mode.accuracy, mode.accuracy_low):
        yield f"{accuracy:.3f}" if claimed else "–"
    yield f"{latency_s[0] * 1e3:.2f}"
    yield f"{len(latency_s)}"
    yield f"{latency_s[-1] * 1e3:.2f}"
    yield f"{p99_s[-1] * 1e3:.2f}"
    yield f"{memory_bytes[-1] / 2**20:.0f}"
    if not made.length_buckets:  # one column is all that there is room for
        yield f"{sum(mode.measured or ())}/{len(latency_s)}"
