"""`mosel plan`: from a profile to the best strategies of every job size and accuracy SLO."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from mosel.core.errors import UsageError
from mosel.core.tables import Plan, encode_plan, read_profile, write_plan
from mosel.offline.planner import plan as make_plan

SHOWN = 12


def plan(
    profile: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"], allow_leading_hyphen=True)] = None,
    size: int | None = None,
    quiet: bool = False,
) -> None:
    """Compute the exact Pareto frontier of every job size from a profile (§5.1).

    Example: mosel plan profile.json -o plan.json

    Args:
        profile: a profile.json.
        output: where to write the plan; `-` is standard output. Default: plan.json beside the profile.
        size: the job size whose strategies are shown; default: the largest.
        quiet: show nothing but errors.
    """
    found = make_plan(read_profile(profile))
    keys = _keys(found, size)
    if output == Path("-"):
        sys.stdout.buffer.write(encode_plan(found))
        return
    target = output or profile.with_name("plan.json")
    write_plan(found, target)
    if not quiet:
        console = Console(stderr=True)
        for key in keys:
            console.print(_table(found, key))
        points = sum(len(points) for points in found.frontiers.values())
        console.print(f"{points} strategies for {len(found.frontiers)} job sizes in {target}", highlight=False)


def _keys(found: Plan, size: int | None) -> list[str]:
    """The frontiers to show: of one job size, and of every length bucket where there are some."""
    sizes = [int(key.split("@")[0]) for key in found.frontiers]
    wanted = max(sizes) if size is None else size
    if wanted not in sizes:
        raise UsageError(f"--size {size} is not in the plan; expected a job size from 1 to {max(sizes)}")
    return [key for key, held in zip(found.frontiers, sizes, strict=True) if held == wanted]


def _table(found: Plan, key: str) -> Table:
    points = found.frontiers[key]
    table = Table(title=f"{found.model}: strategies of a job of {key} requests", title_justify="left")
    table.add_column("accuracy", justify="right")
    table.add_column("latency, ms", justify="right")
    table.add_column("batches")
    step = max(1, -(-len(points) // SHOWN))
    for point in [*points[::step], *(points[-1:] if (len(points) - 1) % step else ())]:
        batches = ", ".join(f"{mode} × {count}" for mode, count in point.batches)
        table.add_row(f"{point.accuracy:.4f}", f"{point.latency_s * 1e3:.2f}", batches)
    return table
