"""The work that arrives: how much of the workers' time the jobs of late would take, and how dear they are.

Every job is noted with its cost (work per worth, at its cheapest) in one of logarithmic bins, and forgotten
exponentially. From this a policy reads how much time jobs yet to come that are cheaper than a given one will
want, as a share of one worker, and how much all would take at their cheapest and at their most accurate.

Apart from these stands how soon jobs have to be begun: those that cannot wait for a batch to end are lost.

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

TIGHT_NS = 5_000_000_000
"""The same for how soon jobs have to be begun."""

BURST_MEMORY_NS = 1000_000_000_000
"""The time constant of forgetting bursts: what came once will come again."""

GUESS = 0.75
"""What the worst burst is taken for before any was seen, as a part of what the latency SLO has room for."""

GUESS_MEMORY_NS = 25_000_000_000
"""The time constant of forgetting that guess."""

NEVER = 1 << 62

BINS_PER_OCTAVE = 4
BINS = 40 * BINS_PER_OCTAVE
"""Costs from 1 ns to 2⁴⁰ ns (18 minutes) per unit of worth."""


Floats = NDArray[np.float64]


class Demand:
    """Arrivals of late; one for each scheduler.

    Attributes:
        least_slack_ns: how soon a job had to be begun at the soonest, ever.
    """

    __slots__ = (
        "_at_ns", "_backlog_ns", "_began_ns", "_burst_ns", "_full", "_guess_ns", "_lasting", "_recent",
        "_tight", "_work", "least_slack_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self._work = np.zeros(BINS)
        self.least_slack_ns = NEVER
        self._tight = np.zeros((3, BINS))  # by slack: worth, worth times slack, work
        self._full = 0.0
        self._lasting = 0.0
        self._recent = 0.0
        self._at_ns = 0
        self._began_ns: int | None = None
        self._backlog_ns = 0.0
        self._burst_ns = 0.0
        self._guess_ns = 0.0

    def observe(
        self,
        now_ns: int,
        worth: float,
        work_ns: float,
        full_ns: float,
        slo_ns: int,
        slack_ns: int,
        workers: int,
    ) -> None:
        """Note a job.

        Args:
            now_ns: when it arrived.
            worth: of serving it on time.
            work_ns: its least work.
            full_ns: its work at its most accurate.
            slo_ns: its latency SLO; more backlog than that is given up.
            slack_ns: how long after its arrival it can be begun at the latest.
            workers: how many there are.
        """
        self._fall_behind(now_ns, work_ns, slo_ns, max(workers, 1))
        self._forget(now_ns)
        self._work[_bin(work_ns / worth if worth > 0 else math.inf)] += work_ns
        self.least_slack_ns = min(self.least_slack_ns, slack_ns)
        self._tight[:, _bin(slack_ns)] += worth, worth * slack_ns, work_ns
        self._full += full_ns
        self._lasting += full_ns
        self._recent += full_ns

    def below(self, cost_ns: Floats, now_ns: int) -> Floats:
        """Return, per cost, the work of jobs that are cheaper, per time."""
        sums = np.concatenate(([0.0], np.cumsum(self._work)))
        octaves = np.log2(np.maximum(cost_ns, 1.0)) * BINS_PER_OCTAVE
        shares: Floats = np.interp(octaves, np.arange(BINS + 1), sums) * self._rate(now_ns)
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

    def tight(self, now_ns: int) -> tuple[Floats, float]:
        """Return how soon jobs have to be begun, and what turns it into worth and work per time.

        The array is of shape (3, classes of slack, ascending): worth, worth times slack, work.
        """
        return self._tight, self._rate(now_ns, TIGHT_NS)

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
            self._tight *= math.exp((self._at_ns - now_ns) / TIGHT_NS)
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
