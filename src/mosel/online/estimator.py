"""Estimates: the profile's latencies, corrected by what the workers report.

Per mode the ratio of seen to expected latency is tracked as the median of the last few batches, so that a
device that is slower or faster than its profile is found within a few batches and one outlier moves nothing.
What a batch costs beyond the device (sending it, reporting back) is tracked apart, as an addend; how far
predictions miss upwards is tracked as a margin that deadlines are held with. In a simulation in which
latencies are the profile's, all three stay exactly 1, 0 and 0.
"""

from collections import deque

import numpy as np

WINDOW = 24
"""How many batches an estimate looks back."""

FEWEST = 3
"""From how many batches on a mode's own ratio is believed."""

MARGIN_QUANTILE = 0.9


class Ratio:
    """The ratio of seen to expected latency of one mode, or of all modes together."""

    __slots__ = ("_seen", "value")

    def __init__(self) -> None:
        self.value = 1.0
        self._seen: deque[float] = deque(maxlen=WINDOW)

    @property
    def known(self) -> bool:
        """Whether enough batches were seen."""
        return len(self._seen) >= FEWEST

    def observe(self, ratio: float) -> None:
        """Take in one batch."""
        self._seen.append(ratio)
        if self.known:
            self.value = float(np.median(self._seen))


class Estimator:
    """Corrects expected latencies from reported ones; one for each scheduler."""

    __slots__ = ("_errors", "_modes", "_overall", "_overheads", "margin_ns", "overhead_ns")

    def __init__(self) -> None:
        self._modes: dict[tuple[str, str], Ratio] = {}
        self._overall: dict[str, Ratio] = {}
        self._overheads: deque[int] = deque(maxlen=WINDOW)
        self._errors: deque[int] = deque(maxlen=2 * WINDOW)
        self.overhead_ns = 0
        self.margin_ns = 0

    def ratio(self, model: str, mode: str) -> float:
        """Return seen over expected latency of `mode`; that of the whole model while too little was seen."""
        own = self._modes.get((model, mode))
        if own is not None and own.known:
            return own.value
        overall = self._overall.get(model)
        return overall.value if overall is not None else 1.0

    def observe(
        self, model: str, mode: str, profiled_ns: int, took_ns: int, occupied_ns: int, predicted_ns: int
    ) -> None:
        """Take in a finished batch.

        Args:
            model: its model.
            mode: its mode.
            profiled_ns: what the profile says it takes on the device.
            took_ns: what it took on the device.
            occupied_ns: how long it kept its worker from the next batch, as seen from here.
            predicted_ns: what was predicted for that when the batch was sent.
        """
        if profiled_ns > 0:
            ratio = max(took_ns, 1) / profiled_ns  # never 0: strategies of no cost would follow
            self._modes.setdefault((model, mode), Ratio()).observe(ratio)
            self._overall.setdefault(model, Ratio()).observe(ratio)
        self._overheads.append(max(0, occupied_ns - took_ns))
        self._errors.append(occupied_ns - predicted_ns)
        self.overhead_ns = int(np.median(self._overheads))
        if len(self._errors) >= 2 * FEWEST:
            self.margin_ns = max(0, int(np.quantile(self._errors, MARGIN_QUANTILE)))
