"""`mosel chaos`: faults on purpose, and a tally that has to come out even."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mosel.core.errors import ExecutionError, UsageError
from mosel.core.files import allow_open_files, write_atomic
from mosel.core.states import OUTCOMES
from mosel.evaluation.chaos.campaign import Campaign, run_campaign
from mosel.evaluation.chaos.server import Setup
from mosel.frontend.config import ENGINES


def chaos(
    *,
    seeds: int = 20,
    seed: int = 0,
    rate: float = 100.0,
    workers: int | None = None,
    groups: int = 1,
    front_doors: int = 0,
    engine: str = "local",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    quiet: bool = False,
) -> None:
    """Bring faults upon a server of its own under load, and check that every job is accounted for.

    Each seed puts two faults into a stretch of load: a worker killed or hung, no memory for a batch, a model
    that raises, answers NaN or in a wrong shape, a device three times as slow, clients that go away, far too
    many jobs at once, SIGTERM, SIGKILL; with front doors also a group killed, a door killed, or both at once.
    All kinds come equally often. The exit status is 1 if a job got no answer, two, or somebody else's, if the
    server's count is not its clients', or if a fault was never noticed.

    Example: mosel chaos --seeds 200 -o chaos.json

    Args:
        seeds: how many.
        seed: of the whole: which faults, when, and what load.
        rate: jobs a second.
        workers: worker processes of the server (default: one a group).
        groups: how many replica groups they are dealt out to.
        front_doors: how many processes take calls for groups, which are processes too (default: one for all).
        engine: what they stand on: local, or ray.
        output: a JSON file for the tally; by default it goes to standard output.
        quiet: print no progress and no table.
    """
    if seeds < 1 or seed < 0 or not 0 < rate <= 10_000:
        raise UsageError(
            f"--seeds {seeds} --seed {seed} --rate {rate}; expected at least one seed, a seed from 0, and a "
            "rate above 0 of at most 10,000"
        )
    workers = max(1, groups) if workers is None else workers
    if not 1 <= groups <= workers or front_doors < 0:
        raise UsageError(
            f"--workers {workers} --groups {groups} --front-doors {front_doors}; expected at least one group, "
            "a worker for each, and no front doors or some"
        )
    allow_open_files()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # lest its server outlives it
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is not known; expected one of {', '.join(ENGINES)}")
    setup = Setup(workers, engine, groups, front_doors)
    found = _with_progress(seeds, seed, rate, setup, quiet)
    if not quiet:
        Console(stderr=True).print(_table(found))
    _write(_as_json(found, seed), output)
    unseen = [name for name in found.injected if not found.observed[name]]
    if found.problems or unseen:
        never = [f"never noticed: {', '.join(unseen)}"] * bool(unseen)
        raise ExecutionError("; ".join([*found.problems[:3], *never]))


def _with_progress(seeds: int, seed: int, rate: float, setup: Setup, quiet: bool) -> Campaign:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("chaos", total=seeds)
        return asyncio.run(run_campaign(seeds, seed, rate, setup, lambda _: progress.advance(task)))


def _table(found: Campaign) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("fault", "injected", "observed"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for name, injected in sorted(found.injected.items()):
        table.add_row(name, f"{injected:,}", f"{found.observed[name]:,}")
    table.add_section()
    table.add_row(f"{found.sent:,} jobs sent", "", "")
    for outcome in OUTCOMES:
        table.add_row(outcome.value, "", f"{found.outcomes[outcome.value]:,}")
    table.add_row(f"{len(found.problems)} problems in {found.seeds} seeds, {found.took_s:.0f} s", "", "")
    return table


def _as_json(found: Campaign, seed: int) -> dict[str, Any]:
    return {
        "seeds": found.seeds,
        "seed": seed,
        "sent": found.sent,
        "outcomes": {outcome.value: found.outcomes[outcome.value] for outcome in OUTCOMES},
        "connections_lost": found.broken,
        "injected": dict(sorted(found.injected.items())),
        "observed": dict(sorted(found.observed.items())),
        "problems": found.problems,
        "server_starts": found.server_starts,
        "took_s": round(found.took_s, 1),
    }


def _write(told: dict[str, Any], output: Path | None) -> None:
    raw = orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"
    if output is None:
        sys.stdout.write(raw.decode())
    else:
        write_atomic(output, raw)
