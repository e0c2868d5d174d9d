"""Adds and removes the workers of a running engine as `autoscale.py` says; on Ray it asks for nodes first."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mosel.core.files import write_atomic
from mosel.online.autoscale import Autoscaler
from mosel.online.events import Arrived, Entry
from mosel.online.staff import Staff

EVERY_S = 1.0
"""How often it is looked whether there are as many workers as there should be."""

Ask = Callable[[int], None]
"""Asks whoever has devices for as many as so many workers need."""


class Autoscaling:
    """Drives an autoscaler with what the scheduler is told, and the staff with what it says.

    Args:
        scaler: says how many workers there should be.
        staff: adds and removes them.
        now_ns: the clock.
        ask: is told before workers are added and after one is removed.
    """

    def __init__(self, scaler: Autoscaler, staff: Staff, now_ns: Callable[[], int], ask: Ask) -> None:
        self._scaler = scaler
        self._staff = staff
        self._now_ns = now_ns
        self._ask = ask
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look from now on."""
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def decided(self, entry: Entry, took_ns: int) -> None:
        """Count the jobs that came, once the scheduler was told of them."""
        del took_ns
        for event in entry.events:
            if isinstance(event, Arrived):
                self._scaler.note(event.job, entry.now_ns)

    def _look(self) -> None:
        self.begin()
        staff, wanted = self._staff, self._scaler.wanted(self._staff.size, self._now_ns())
        if wanted == staff.size:
            return
        self._ask(wanted)
        while staff.size < wanted and staff.grow():
            pass
        while staff.size > wanted and staff.shrink():
            pass


class AskTogether:
    """Asks for the workers of several processes at once, since whoever has devices keeps the last wish alone.

    What each of them wants stands in a small file that all map into memory.

    Args:
        path: of the file, as `write_wishes` made it.
        own: which process this is.
        ask: is asked for as many as all want.
    """

    def __init__(self, path: Path, own: int, ask: Ask) -> None:
        self._all = np.memmap(path, np.int64, "r+")
        self._own, self._ask = own, ask

    def __call__(self, workers: int) -> None:
        """Ask for as many as so many workers of this process need, and those of the others."""
        self._all[self._own] = workers
        self._ask(int(self._all.sum()))


def write_wishes(path: Path, workers: Sequence[int]) -> None:
    """Write how many workers each process has at first."""
    write_atomic(path, np.array(workers, np.int64).tobytes())


def ask_nobody(workers: int) -> None:
    """On one machine the devices are there."""
    del workers
