"""What front doors count, where every one of them can read it: a small file that all map into memory.

Each door adds to a row of its own, so that nothing is locked; one that is started anew goes on where the last
one ended.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mosel.core.states import OUTCOMES, State

NAMES = ("sent", "passed", "moved", "lost", "turned", "refused", "gone", *OUTCOMES)
"""In this order: calls sent to groups; of these passed on, and moved since their group was lost; jobs that
failed since it was lost, and those that the next group refused then; calls that became no job; those whose
client went away; and jobs that were answered, by outcome. What a group that is lost had counted is lost, but
not what is counted here.
"""


class Counts:
    """The counters of all doors.

    Args:
        path: of the file; made if it is not there.
        doors: how many there are.
        own: which one adds here.
    """

    def __init__(self, path: Path, doors: int, own: int = 0) -> None:
        shape = doors, len(NAMES)
        self._all = np.memmap(path, np.int64, "r+" if path.exists() else "w+", shape=shape)
        self._own = self._all[own]

    def add(self, name: str) -> None:
        """Count one."""
        self._own[NAMES.index(name)] += 1

    def totals(self) -> Mapping[str, int]:
        """Return the sums over all doors."""
        return dict(zip(NAMES, map(int, self._all.sum(axis=0)), strict=True))

    def ended(self) -> dict[str, int]:
        """Return what became of jobs and calls, as `Metrics.ended`; a client that went away dropped its job."""
        found = self.totals()
        counts = {outcome.value: found[outcome] for outcome in OUTCOMES}
        counts[State.DROPPED] += found["gone"]
        return {**counts, "refused": found["refused"]}

    def exposition(self) -> str:
        """Return them as metrics in Prometheus' text format."""
        lines, found = [], self.totals()
        for name, (metric, text) in _METRICS.items():
            lines += [*_head(metric, text), f"{metric} {float(found[name])}"]
        lines += _head(*_ANSWERED)
        lines += [f'{_ANSWERED[0]}{{outcome="{outcome}"}} {float(found[outcome])}' for outcome in OUTCOMES]
        return "\n".join(lines) + "\n"


def _head(metric: str, text: str) -> tuple[str, str]:
    return f"# HELP {metric} {text}", f"# TYPE {metric} counter"


_ANSWERED = "mosel_door_answered_total", "Jobs that were answered, by outcome."
_METRICS = {
    "sent": ("mosel_door_sent_total", "Calls that front doors sent to groups, each time counted."),
    "passed": ("mosel_door_passed_total", "Of these, passed on by a group that was behind."),
    "moved": ("mosel_door_moved_total", "Of these, moved from a group that was lost."),
    "lost": ("mosel_door_lost_total", "Jobs that failed since their group was lost."),
    "turned": ("mosel_door_turned_total", "Jobs that failed since their group was lost and the next refused."),
    "refused": ("mosel_door_refused_total", "Calls that became no job."),
    "gone": ("mosel_door_gone_total", "Calls for a job whose client went away before the answer."),
}
