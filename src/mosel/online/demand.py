"""The work that arrives: how much of the workers' time the jobs of late would take, and how dear they are.

Every job is noted with its cost (work per worth, at its cheapest) in one of logarithmic bins, and forgotten
exponentially. From this a policy reads how much time jobs yet to come that are cheaper than a given one will
want, as a share of one worker, and how much all would take at their cheapest and at their most accurate.

Beside the rate stands the worst burst: how far behind workers would have fallen that run nothing but the
cheapest. That is what has to be kept free for the next burst of its kind.
"""

import math

import numpy as np
from numpy.typing import NDArray

MEMORY_NS = 1_000_000_000
"""The time constant of forgetting."""

LEAST_KNOWN_NS = 300_000_000
"""What less than this has shown is taken as if it had come in so much time."""

LASTING_NS = 60_000_000_000
"""The time constant of forgetting what has been asked for all along."""

RECENT_NS = 5_000_000_000
"""The same for what has been asked for until it is taken that the load has fallen."""

BURST_MEMORY_NS = 1000_000_000_000
"""The time constant of forgetting bursts: what came once will come again."""

GUESS = 0.75
"""What the worst burst is taken for before any was seen, as a part of what the latency SLO has room for."""

GUESS_MEMORY_NS = 25_000_000_000
"""The time constant of forgetting that guess."""

BINS_PER_OCTAVE = 4
BINS = 40 * BINS_PER_OCTAVE
"""Costs from 1 ns to 2⁴⁰ ns (18 minutes) per unit of worth."""


class Demand:
    """Arrivals of late; one for each scheduler."""

    __slots__ = (
        "_at_ns", "_backlog_ns", "_began_ns", "_burst_ns", "_full", "_guess_ns", "_lasting", "_recent", "_work",
    )  # fmt: skip

    def __init__(self) -> None:
        self._work = np.zeros(BINS)
        self._full = 0.0
        self._lasting = 0.0
        self._recent = 0.0
        self._at_ns = 0
        self._began_ns: int | None = None
        self._backlog_ns = 0.0
        self._burst_ns = 0.0
        self._guess_ns = 0.0

    def observe(
        self, now_ns: int, cost_ns: float, work_ns: float, full_ns: float, slo_ns: int, workers: int
    ) -> None:
        """Note a job.

        Args:
            now_ns: when it arrived.
            cost_ns: its least work per worth.
            work_ns: its least work.
            full_ns: its work at its most accurate.
            slo_ns: its latency SLO; more backlog than that is given up.
            workers: how many there are.
        """
        self._fall_behind(now_ns, work_ns, slo_ns, max(workers, 1))
        self._forget(now_ns)
        self._work[_bin(cost_ns)] += work_ns
        self._full += full_ns
        self._lasting += full_ns
        self._recent += full_ns

    def below(self, cost_ns: NDArray[np.float64], now_ns: int) -> NDArray[np.float64]:
        """Return, per cost, the work of jobs that are cheaper, per time."""
        sums = np.concatenate(([0.0], np.cumsum(self._work)))
        octaves = np.log2(np.maximum(cost_ns, 1.0)) * BINS_PER_OCTAVE
        shares: NDArray[np.float64] = np.interp(octaves, np.arange(BINS + 1), sums) * self._rate(now_ns)
        return shares

    def least(self, now_ns: int) -> float:
        """Return the work of all jobs at their cheapest, per time."""
        return float(self._work.sum()) * self._rate(now_ns)

    def full(self, now_ns: int) -> float:
        """Return the work of all jobs at their most accurate, per time."""
        return self._full * self._rate(now_ns)

    def lasting(self, now_ns: int) -> float:
        """Return the same over minutes, lulls and bursts together."""
        return self._lasting * self._rate(now_ns, LASTING_NS)

    def recent(self, now_ns: int) -> float:
        """Return the same over seconds."""
        return self._recent * self._rate(now_ns, RECENT_NS)

    def burst_ns(self, now_ns: int) -> float:
        """Return the most work that was behind at once of late, had nothing run but the cheapest."""
        if self._began_ns is None:
            return 0.0
        seen_ns = self._burst_ns * math.exp((self._at_ns - now_ns) / BURST_MEMORY_NS)
        return max(seen_ns, self._guess_ns * math.exp((self._began_ns - now_ns) / GUESS_MEMORY_NS))

    def _fall_behind(self, now_ns: int, work_ns: float, slo_ns: int, workers: int) -> None:
        if self._began_ns is None:
            self._at_ns, self._guess_ns = now_ns, GUESS * slo_ns * workers
        passed_ns = now_ns - self._at_ns
        left_ns = max(0.0, self._backlog_ns - passed_ns * workers)
        self._backlog_ns = min(left_ns + work_ns, float(slo_ns * workers))
        self._burst_ns = max(self._burst_ns * math.exp(-passed_ns / BURST_MEMORY_NS), self._backlog_ns)

    def _forget(self, now_ns: int) -> None:
        if self._began_ns is None:
            self._began_ns = self._at_ns = now_ns
        if now_ns > self._at_ns:
            left = math.exp((self._at_ns - now_ns) / MEMORY_NS)
            self._work *= left
            self._full *= left
            self._lasting *= math.exp((self._at_ns - now_ns) / LASTING_NS)
            self._recent *= math.exp((self._at_ns - now_ns) / RECENT_NS)
            self._at_ns = now_ns

    def _rate(self, now_ns: int, memory_ns: int = MEMORY_NS) -> float:
        """What turns the remembered sums into work per time, the short memory of the start included."""
        if self._began_ns is None:
            return 0.0
        left = math.exp((self._at_ns - now_ns) / memory_ns)
        known_ns = memory_ns * (1 - math.exp((self._began_ns - now_ns) / memory_ns))
        return left / max(known_ns, LEAST_KNOWN_NS)


def _bin(cost_ns: float) -> int:
    return min(BINS - 1, int(math.log2(max(cost_ns, 1.0)) * BINS_PER_OCTAVE))
