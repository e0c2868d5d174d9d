"""How long the scheduler's decisions take on the wall clock, for metrics and for `timing.json`."""

from collections import deque
from dataclasses import dataclass

import numpy as np

WINDOW = 4096


@dataclass(frozen=True, slots=True)
class Decisions:
    """Wall times of decisions: how many there were, and in microseconds those of the last few thousand."""

    count: int = 0
    mean_us: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0


class DecisionTimes:
    """Takes down wall times; keeps the last `WINDOW`."""

    __slots__ = ("_count", "_recent_ns")

    def __init__(self) -> None:
        self._count = 0
        self._recent_ns: deque[int] = deque(maxlen=WINDOW)

    def add(self, took_ns: int) -> None:
        """Take down one decision."""
        self._count += 1
        self._recent_ns.append(took_ns)

    def summary(self) -> Decisions:
        """Return what they come to."""
        if not self._recent_ns:
            return Decisions()
        us = np.array(self._recent_ns) / 1e3
        p50, p99 = np.percentile(us, (50, 99))
        return Decisions(self._count, float(us.mean()), float(p50), float(p99), float(us.max()))
