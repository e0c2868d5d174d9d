"""Whether latencies have left the profile for good: then a new one is due, though estimates follow meanwhile.

The estimator (`estimator.py`) corrects within a few batches and forgets as fast; what is asked here is slower:
of the last `LOOK_BACK` batches of a mode, is the median off by more than `TOLERANCE`? A person is told once,
and again only after latencies were back within half of that.
"""

import logging
from collections.abc import Iterable, Mapping

from mosel.core.arrays import latency_table
from mosel.core.tables import Profile
from mosel.core.types import Batch
from mosel.online.estimator import Window

log = logging.getLogger(__name__)

LOOK_BACK = 200
TOLERANCE = 0.20
LEAST_NS = 100_000
"""Batches that take less by the profile say little: what is seen is mostly the clock and the system."""


class Drift:
    """Compares what batches took with the profile.

    Args:
        profiles: of the models that are served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._tables = {profile.model: (latency_table(profile), profile.mode_names) for profile in profiles}
        self._seen: dict[tuple[str, str], Window] = {}
        self._told: set[tuple[str, str]] = set()

    def note(self, batch: Batch, took_ns: int) -> None:
        """Take in a batch that ran whole."""
        table, modes = self._tables[batch.model]
        profiled_ns = int(table[modes.index(batch.mode), batch.bucket, batch.size])
        if profiled_ns < LEAST_NS:
            return
        key = batch.model, batch.mode
        window = self._seen.setdefault(key, Window(LOOK_BACK))
        window.add(took_ns / profiled_ns)
        if len(window) == LOOK_BACK:
            self._tell(key, window.quantile(0.5))

    def ratios(self) -> Mapping[tuple[str, str], float]:
        """Return the median of seen over profiled latency by model and mode, once enough batches were seen."""
        return {key: seen.quantile(0.5) for key, seen in self._seen.items() if len(seen) == LOOK_BACK}

    def _tell(self, key: tuple[str, str], ratio: float) -> None:
        off = max(ratio, 1 / max(ratio, 1e-9)) - 1
        if off > TOLERANCE and key not in self._told:
            self._told.add(key)
            model, mode = key
            log.warning(
                "model %s in mode %s takes %.2f times what its profile says, over the last %d batches; "
                "measure it anew with: mosel profile %s --update",
                *(model, mode, ratio, LOOK_BACK, model),
            )
        elif off < TOLERANCE / 2:
            self._told.discard(key)
