"""Which modes of an existing 𝒟 no longer hold: a few cells of each column are timed again."""

from collections.abc import Mapping

from mosel.core.clock import to_s
from mosel.core.tables import Mode
from mosel.offline.session import Session
from mosel.offline.settings import Cell, Column, Say

MOVED = 0.05
"""How far a cell's median may move, relative to what it was, before its mode is measured anew."""


def moved_modes(run: Session, kept: Mapping[Column, Mode], say: Say) -> list[Column]:
    """Return the modes of `kept` of which a cell moved or no longer runs; tell which and by how much."""
    checks = {column: _check_sizes(mode) for name, mode in kept.items() for column in run.bench.columns(name)}
    for column, sizes in checks.items():
        run.bench.probe(column, sizes)
    cells = [Cell(column, size) for column, sizes in checks.items() for size in sizes]
    run.bench.fill(cells, lambda _: run.settings.repeats, run.settings.repeats, lambda: None)
    moved = []
    for column, sizes in checks.items():
        ratios = [_ratio(run, Cell(column, size), kept[column.mode]) for size in sizes]
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        if abs(worst - 1) > MOVED:
            moved.append(column.mode)
            say(f"{column} moved to {worst:.2f} times what it was: measuring it anew")
    if not moved:
        say(f"no cell moved by more than {MOVED:.0%}: latencies are kept")
    return moved


def _check_sizes(mode: Mode) -> tuple[int, ...]:
    limit = len(mode.latency_s[0] if isinstance(mode.latency_s[0], list | tuple) else mode.latency_s)
    return tuple(sorted({1, (limit + 1) // 2, limit}))


def _ratio(run: Session, cell: Cell, mode: Mode) -> float:
    if cell not in run.bench.took_ns:
        return float("inf")
    bucket = cell.column.bucket
    latency_s = mode.latency_s if bucket is None else mode.latency_s[bucket]
    return to_s(round(run.bench.median_ns(cell))) / float(latency_s[cell.size - 1])
