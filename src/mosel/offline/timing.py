"""Runs cells of 𝒟 on the device and keeps what they took (§4.2). Which cells is `survey.py`'s choice.

Timings of different cells are interleaved in a random order, so that a machine that is slower for a while is
slower for all of them, and so that a batch finds caches as a server's batches do, filled by another mode.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import NS_PER_S
from mosel.core.errors import ExecutionError
from mosel.models.base import Model
from mosel.offline.journal import Journal, Timed
from mosel.offline.samples import Parts, Pool
from mosel.offline.settings import Cell, Column, Say, Settings
from mosel.runtime.memory import gauge
from mosel.runtime.runner import ModelFailedError, Ran, Runner

JOURNAL_EVERY_NS = NS_PER_S
FEWEST_AGAIN, MOST_AGAIN, AGAIN_NS = 8, 50, 50_000_000
"""How often one request runs in a row where timings scatter: for so long, but within these bounds."""


class Bench:
    """The model on its device, with the timings and peak memory of every cell that was run.

    Attributes:
        took_ns: by cell, timings in the order taken, those of an interrupted run first.
        memory_bytes: by cell, peak memory.
        replayed: cells that are recorded on the device and replayed.
        notes: what a person should know about cells that failed.
        busy_ns: device time spent by this run.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        columns: Sequence[Column],
        pool: Pool,
        journal: Journal,
        say: Say,
    ) -> None:
        self._pool, self._journal, self._say = pool, journal, say
        self._rng = np.random.default_rng(settings.seed)
        self._limits = dict.fromkeys(columns, settings.largest_batch(model))
        self._names = {str(column): column for column in columns}
        self._unsaved: dict[Cell, list[int]] = {}
        self._unsaved_ns = 0
        self._failure: ModelFailedError | None = None
        self.took_ns: dict[Cell, list[int]] = {}
        self.memory_bytes: dict[Cell, int] = {}
        self.replayed: set[Cell] = set()
        self.notes: list[str] = []
        self.busy_ns = 0
        self._gauge = gauge(settings.device, model.framework)
        self._runners = self._loaded(model, settings)
        self._recall()

    @property
    def several_precisions(self) -> bool:
        """Whether columns differ in precision, so that each has to say its own."""
        return len({column.precision for column in self._limits}) > 1

    def limit(self, column: Column) -> int:
        """Return the largest batch size at which the column is not known to fail; 0 if it fails at 1.

        That of a mode with length buckets is the least of them.
        """
        if column in self._limits:
            return self._limits[column]
        return min(limit for each, limit in self._limits.items() if each.mode == column)

    def columns(self, mode: Column) -> list[Column]:
        """Return the mode's columns, the shortest length bucket first."""
        return [column for column in self._limits if column.mode == mode]

    def probe(self, column: Column, sizes: Iterable[int]) -> None:
        """Warm the column up at these sizes, ascending, note peak memory, and settle how they run.

        Peak memory is that of batches which are launched: what recordings take they share. Where a size fails,
        the largest one below it that runs is found and becomes the column's limit.
        """
        before = self._limits[column]
        if before and not any(cell.column == column for cell in self.memory_bytes):
            self._runs(Cell(column, 1))  # what a first run draws in for good is no one batch's memory
        sizes = sorted(sizes)
        for size in sizes:
            if self._limits[column] == before and size <= before:
                self._probe(Cell(column, size))
        if self._limits[column] < before:
            self._close_in(column)
            self._note_limit(column)
        for size in reversed(sizes):  # smaller recordings find room in the memory of larger ones
            if size <= self._limits[column]:
                self._settle(Cell(column, size))

    def fill(
        self, cells: Iterable[Cell], count: Callable[[Cell], int], rounds: int, tick: Callable[[], None]
    ) -> None:
        """Time cells until each has `count(cell)` timings, interleaved over so many rounds."""
        cells = list(cells)
        try:
            for left in range(rounds, 0, -1):
                visits = [
                    cell
                    for cell in cells
                    for _ in range(math.ceil((count(cell) - len(self.took_ns.get(cell, ()))) / left))
                ]
                for place in self._rng.permutation(len(visits)):
                    self._time(visits[place])
                    tick()
        finally:
            self._save()

    def median_ns(self, cell: Cell) -> float:
        """Return the median of the cell's timings."""
        return float(np.median(self.took_ns[cell]))

    def quiet_ns(self, cell: Cell) -> float:
        """Return the lower quartile of the cell's timings, which what else the machine does hardly moves."""
        return float(np.quantile(self.took_ns[cell], 0.25))

    def draw(self, column: Column, size: int) -> Parts:
        """Return a random batch."""
        return self._pool.draw(column, size)

    def run(
        self,
        column: Column,
        inputs: Mapping[str, Sequence[NDArray[Any]]],
        *,
        known: Collection[str] = (),
        keep: bool = False,
    ) -> Ran:
        """Run one batch in the column's mode, whatever it is for; see `Runner.run`."""
        runner = self._runners[column.precision]
        ran = runner.run(column.modalities, column.precision, inputs, known=known, keep=keep)
        self.busy_ns += ran.took_ns
        return ran

    def again(self) -> list[list[int]]:
        """Return for each column that runs what one and the same request takes, many times in a row.

        The first time, which finds caches as another mode left them, is not counted.
        """
        return [self._again(column) for column, limit in self._limits.items() if limit]

    def _again(self, column: Column) -> list[int]:
        request = self._pool.draw(column, 1)
        self.run(column, request)
        took_ns: list[int] = []
        while len(took_ns) < FEWEST_AGAIN or (len(took_ns) < MOST_AGAIN and sum(took_ns) < AGAIN_NS):
            took_ns.append(self.run(column, request).took_ns)
        return took_ns

    def note(self, text: str) -> None:
        """Keep a note for the profile, and tell it."""
        self.notes.append(text)
        self._say(text)

    def _loaded(self, model: Model, settings: Settings) -> dict[str, Runner]:
        runners: dict[str, Runner] = {}
        for precision in dict.fromkeys(column.precision for column in self._limits):
            try:
                runners[precision] = Runner(model, settings.device, (precision,), settings.threads)
            except ModelFailedError as error:
                self.note(f"{precision} left out: {error}")
                for column in self._limits:
                    self._limits[column] = 0 if column.precision == precision else self._limits[column]
        if not runners:
            raise ExecutionError(f"model {model.name!r} runs in no mode: {self.notes[-1]}")
        return runners

    def _recall(self) -> None:
        for entry in self._journal.entries:
            if isinstance(entry, Timed):
                for name, size, took_ns in entry.cells:
                    self.took_ns.setdefault(Cell(self._names[name], size), []).extend(took_ns)

    def _time(self, cell: Cell) -> None:
        if cell.size > self._limits[cell.column]:
            return
        took_ns = self._runs(cell)
        if took_ns is None:
            self._note_limit(cell.column)
            return
        self.took_ns.setdefault(cell, []).append(took_ns)
        self._unsaved.setdefault(cell, []).append(took_ns)
        self._unsaved_ns += took_ns
        if self._unsaved_ns > JOURNAL_EVERY_NS:
            self._save()

    def _save(self) -> None:
        cells = [(str(cell.column), cell.size, took_ns) for cell, took_ns in self._unsaved.items()]
        self._unsaved, self._unsaved_ns = {}, 0
        if cells:
            self._journal.add(Timed(cells))

    def _probe(self, cell: Cell) -> None:
        self._gauge.reset()
        if self._runs(cell) is not None:
            self.memory_bytes[cell] = self._gauge.peak_bytes()

    def _settle(self, cell: Cell) -> None:
        column, runner = cell.column, self._runners[cell.column.precision]
        if runner.replays and runner.settle(
            column.modalities, column.precision, self._pool.draw(column, cell.size)
        ):
            self.replayed.add(cell)

    def _close_in(self, column: Column) -> None:
        # A failure sets the limit one below it; which size below still runs is found by halving.
        while (works := self._works(column)) < self._limits[column]:
            self._probe(Cell(column, (works + self._limits[column] + 1) // 2))

    def _works(self, column: Column) -> int:
        return max((cell.size for cell in self.memory_bytes if cell.column == column), default=0)

    def _runs(self, cell: Cell) -> int | None:
        try:
            return self.run(cell.column, self._pool.draw(cell.column, cell.size)).took_ns
        except ModelFailedError as error:
            self._limits[cell.column] = cell.size - 1
            self._failure = error
            for table in (self.took_ns, self._unsaved, self.memory_bytes):
                for other in [c for c in table if c.column == cell.column and c.size >= cell.size]:
                    del table[other]
            return None

    def _note_limit(self, column: Column) -> None:
        limit = self._limits[column]
        where = "" if column.bucket is None else f" (length bucket {column.bucket})"
        end = f"batches end at {limit} there" if limit else "the mode is left out"
        self.note(f"{self._failure}{where}; {end}")
