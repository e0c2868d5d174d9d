"""Estimates: the profile's latencies, corrected by what the workers report.

Per mode the ratio of seen to expected latency is tracked as the median of the last few batches, so that a
device that is slower or faster than its profile is found within a few batches and one outlier moves nothing.
What a batch costs beyond the device (sending it, reporting back) is tracked apart, as an addend; how far
predictions miss upwards is tracked as a margin that deadlines are held with; a miss that the estimates in
force now would not make is forgiven. In a simulation in which latencies are the profile's, all three stay
exactly 1, 0 and 0.

Estimates so high that every job is refused would never be corrected, because nothing runs any more: `starved`
forgets them after a while.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

WINDOW = 24
"""How many batches an estimate looks back."""

FEWEST = 3
"""From how many batches on a mode's own ratio is believed."""

OUTDATED = 4 * WINDOW
"""After how many batches of its model a mode that none of them ran in has no ratio of its own any more."""

MARGIN_QUANTILE = 0.9

STALE_NS = 1_000_000_000
"""How old the last report is when estimates under which nothing runs are forgotten."""


@dataclass(frozen=True, slots=True)
class Miss:
    """How long a batch occupied its worker, and what the best prediction of that is or was."""

    model: str
    mode: str
    profiled_ns: int
    occupied_ns: int
    predicted_ns: int


class Ratio:
    """The ratio of seen to expected latency of one mode, or of all modes together."""

    __slots__ = ("_seen", "count", "value")

    def __init__(self) -> None:
        self.value = 1.0
        self.count = 0
        self._seen: deque[float] = deque(maxlen=WINDOW)

    @property
    def known(self) -> bool:
        """Whether enough batches were seen."""
        return len(self._seen) >= FEWEST

    def observe(self, ratio: float) -> None:
        """Take in one batch."""
        self.count += 1
        self._seen.append(ratio)
        if self.known:
            self.value = float(np.median(self._seen))


class Estimator:
    """Corrects expected latencies from reported ones; one for each scheduler."""

    __slots__ = (
        "_last_ns",
        "_misses",
        "_modes",
        "_overall",
        "_overheads",
        "_seen_at",
        "_starved",
        "margin_ns",
        "overhead_ns",
    )

    def __init__(self) -> None:
        self._modes: dict[tuple[str, str], Ratio] = {}
        self._overall: dict[str, Ratio] = {}
        self._seen_at: dict[tuple[str, str], int] = {}
        self._overheads: deque[int] = deque(maxlen=WINDOW)
        self._misses: deque[Miss] = deque(maxlen=2 * WINDOW)
        self._last_ns = 0
        self._starved = 0
        self.overhead_ns = 0
        self.margin_ns = 0

    def ratio(self, model: str, mode: str) -> float:
        """Return seen over expected latency of `mode`; that of the whole model while too little was seen."""
        overall = self._overall.get(model)
        if overall is None:
            return 1.0
        own = self._modes.get((model, mode))
        outdated = overall.count - self._seen_at.get((model, mode), 0) > OUTDATED
        return overall.value if own is None or not own.known or outdated else own.value

    def observe(
        self,
        model: str,
        mode: str,
        profiled_ns: int,
        took_ns: int,
        occupied_ns: int,
        predicted_ns: int,
        now_ns: int,
    ) -> None:
        """Take in a finished batch.

        Args:
            model: its model.
            mode: its mode.
            profiled_ns: what the profile says it takes on the device.
            took_ns: what it took on the device.
            occupied_ns: how long it kept its worker from the next batch, as seen from here.
            predicted_ns: what was predicted for that.
            now_ns: when it was reported.
        """
        self._last_ns, self._starved = now_ns, 0
        if profiled_ns > 0:
            ratio = max(took_ns, 1) / profiled_ns  # never 0: strategies of no cost would follow
            overall = self._overall.setdefault(model, Ratio())
            overall.observe(ratio)
            if overall.count - self._seen_at.get((model, mode), 0) > OUTDATED:
                self._modes.pop((model, mode), None)
            self._seen_at[model, mode] = overall.count
            self._modes.setdefault((model, mode), Ratio()).observe(ratio)
        self._overheads.append(max(0, occupied_ns - took_ns))
        self._misses.append(Miss(model, mode, profiled_ns, occupied_ns, predicted_ns))
        self.overhead_ns = int(np.median(self._overheads))
        self._set_margin()

    def forgive(self, corrected: Callable[[str, str, int], int]) -> None:
        """Hold past batches against what would be predicted for them now, where that is longer.

        Args:
            corrected: (model, mode, profiled latency in ns) → what is predicted now, in ns.
        """
        for index, miss in enumerate(self._misses):
            predicted_ns = max(miss.predicted_ns, corrected(miss.model, miss.mode, miss.profiled_ns))
            self._misses[index] = replace(miss, predicted_ns=predicted_ns)
        self._set_margin()

    def starved(self, now_ns: int) -> None:
        """Note that a job was given up for want of time while no batch was with a worker."""
        self._starved += 1
        if self._starved >= FEWEST and now_ns - self._last_ns > STALE_NS:
            self._modes.clear()
            self._overall.clear()
            self._seen_at.clear()
            self._overheads.clear()
            self._misses.clear()
            self.overhead_ns = self.margin_ns = 0

    def _set_margin(self) -> None:
        if len(self._misses) >= 2 * FEWEST:
            errors_ns = [miss.occupied_ns - miss.predicted_ns for miss in self._misses]
            self.margin_ns = max(0, int(np.quantile(errors_ns, MARGIN_QUANTILE)))
