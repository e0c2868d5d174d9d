"""Estimates: the profile's latencies, corrected by what the workers report.

Per mode the ratio of seen to expected latency is tracked as the median of the last few batches, so that a
device that is slower or faster than its profile is found within a few batches and one outlier moves nothing.
What a batch costs beyond the device (sending it, reporting back) is tracked apart, as an addend; how far
predictions miss upwards is tracked as a margin that deadlines are held with; a miss that the estimates in
force now would not make is forgiven. In a simulation in which latencies are the profile's, all three stay
exactly 1, 0 and 0.

Workers with the same profiles share an estimator; what sets one of them apart is its pace (`paces.py`), which
is taken out before a batch is noted here. Estimates so high that every job is refused would never be
corrected, because nothing runs any more: `starved` forgets them after a while.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

WINDOW = 24
"""How many batches an estimate looks back."""

FEWEST = 3
"""From how many batches on a mode's own ratio is believed."""

OUTDATED = 4 * WINDOW
"""After how many batches of its model a mode that none of them ran in has no ratio of its own any more."""

MARGIN_QUANTILE = 0.9

STALE_NS = 1_000_000_000
"""How old the last report is when estimates under which nothing runs are forgotten."""


class Miss(NamedTuple):
    """How long a batch occupied its worker, and what the best prediction of that is or was."""

    model: str
    mode: str
    profiled_ns: int
    occupied_ns: int
    predicted_ns: int
    worker: int

    @property
    def is_late(self) -> bool:
        """Whether the batch took longer than predicted."""
        return self.occupied_ns > self.predicted_ns


class Window:
    """The last few of a series, in order of size as well, so that a quantile costs no sorting."""

    __slots__ = ("_recent", "_sorted")

    def __init__(self, length: int) -> None:
        self._recent: deque[float] = deque(maxlen=length)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: float) -> None:
        """Take in a value; the oldest makes room."""
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(value)
        insort(self._sorted, value)

    def clear(self) -> None:
        """Forget everything."""
        self._recent.clear()
        self._sorted.clear()

    def quantile(self, share: float) -> float:
        """Return a quantile; between two values it lies in proportion. There is at least one value."""
        return _quantile(self._sorted, share)


class Ratio:
    """The ratio of seen to expected latency of one mode, or of all modes together."""

    __slots__ = ("_seen", "count", "value")

    def __init__(self) -> None:
        self.value = 1.0
        self.count = 0
        self._seen = Window(WINDOW)

    @property
    def known(self) -> bool:
        """Whether enough batches were seen."""
        return self.count >= FEWEST

    def observe(self, ratio: float) -> bool:
        """Take in one batch; whether the ratio may be another now."""
        before = self.value
        self.count += 1
        self._seen.add(ratio)
        if self.known:
            self.value = self._seen.quantile(0.5)
        return self.value != before or self.count == FEWEST


class Estimator:
    """Corrects expected latencies from reported ones; one for all workers with the same profiles.

    `changes` grows whenever a ratio or the overhead may be another than before.
    """

    __slots__ = (
        "_last_ns",
        "_late",
        "_misses",
        "_modes",
        "_overall",
        "_overheads",
        "_seen_at",
        "_starved",
        "changes",
        "margin_ns",
        "overhead_ns",
    )

    def __init__(self) -> None:
        self._modes: dict[str, dict[str, Ratio]] = {}
        self._overall: dict[str, Ratio] = {}
        self._seen_at: dict[str, dict[str, int]] = {}
        self._overheads = Window(WINDOW)
        self._misses: deque[Miss] = deque(maxlen=2 * WINDOW)
        self._late = 0
        self._last_ns = 0
        self._starved = 0
        self.overhead_ns = 0
        self.margin_ns = 0
        self.changes = 0

    def ratio(self, model: str, mode: str) -> float:
        """Return seen over expected latency of `mode`; that of the whole model while too little was seen."""
        overall = self._overall.get(model)
        if overall is None:
            return 1.0
        own = self._modes[model].get(mode)
        outdated = overall.count - self._seen_at[model].get(mode, 0) > OUTDATED
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
        worker: int = 0,
    ) -> None:
        """Take in a finished batch.

        Args:
            model: its model.
            mode: its mode.
            profiled_ns: what the profile, and the worker's pace, say it takes on the device.
            took_ns: what it took on the device.
            occupied_ns: how long it kept its worker from the next batch, as seen from here.
            predicted_ns: what was predicted for that.
            now_ns: when it was reported.
            worker: which ran it.
        """
        self._last_ns, self._starved = now_ns, 0
        if profiled_ns > 0:
            ratio = max(took_ns, 1) / profiled_ns  # never 0: strategies of no cost would follow
            self.changes += self._observe_ratio(model, mode, ratio)
        self._overheads.add(max(0, occupied_ns - took_ns))
        before_ns, self.overhead_ns = self.overhead_ns, int(self._overheads.quantile(0.5))
        self.changes += self.overhead_ns != before_ns
        self._observe_miss(Miss(model, mode, profiled_ns, occupied_ns, predicted_ns, worker))

    def forgive(self, corrected: Callable[[str, str, int], int]) -> None:
        """Hold past batches against what would be predicted for them now, where that is longer.

        Args:
            corrected: (model, mode, profiled latency in ns) → what is predicted now, in ns.
        """
        for index, miss in enumerate(self._misses):
            predicted_ns = max(miss.predicted_ns, corrected(miss.model, miss.mode, miss.profiled_ns))
            self._misses[index] = miss._replace(predicted_ns=predicted_ns)
        self._set_margin()

    def forget(self, worker: int) -> None:
        """Hold no miss of `worker` against anyone any more: another pace is expected of it now."""
        self._misses = deque((miss for miss in self._misses if miss.worker != worker), self._misses.maxlen)
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
            self.overhead_ns = self.margin_ns = self._late = 0
            self.changes += 1

    def _observe_ratio(self, model: str, mode: str, ratio: float) -> bool:
        """Take in a ratio; whether that of any mode of the model may be another now."""
        overall = self._overall.get(model)
        if overall is None:
            overall = self._overall[model] = Ratio()
        modes = self._modes.setdefault(model, {})
        seen_at = self._seen_at.setdefault(model, {})
        changed = overall.observe(ratio)
        if overall.count - seen_at.get(mode, 0) > OUTDATED:
            modes.pop(mode, None)
            changed = True
        seen_at[mode] = overall.count
        own = modes.get(mode)
        if own is None:
            own = modes[mode] = Ratio()
        changed |= own.observe(ratio)
        return changed or overall.count - OUTDATED - 1 in seen_at.values()

    def _observe_miss(self, miss: Miss) -> None:
        if len(self._misses) == self._misses.maxlen:
            self._late -= self._misses[0].is_late
        self._misses.append(miss)
        self._late += miss.is_late
        if self._late or self.margin_ns:
            self._set_margin()

    def _set_margin(self) -> None:
        self.margin_ns = 0
        errors_ns = sorted([miss.occupied_ns - miss.predicted_ns for miss in self._misses])
        self._late = len(errors_ns) - bisect_right(errors_ns, 0)
        if len(errors_ns) >= 2 * FEWEST:
            self.margin_ns = max(0, int(_quantile(errors_ns, MARGIN_QUANTILE)))


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of ascending values, of which there is at least one."""
    position = share * (len(values) - 1)
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)
