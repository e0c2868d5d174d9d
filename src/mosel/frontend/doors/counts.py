"""What front doors count, where every one of them can read it: a small file that all map into memory.

Each door adds to a row of its own, so that nothing is locked; one that is started anew goes on where the last
one ended.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

NAMES = ("sent", "passed", "moved", "lost", "turned", "refused")
"""In this order: calls sent to groups; of these passed on, and moved since their group was lost; jobs that
failed since it was lost, and those that the next group refused then; calls that were refused here.
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

    def exposition(self) -> str:
        """Return them as metrics in Prometheus' text format."""
        lines = []
        for name, count in self.totals().items():
            lines += [f"# HELP {_METRICS[name][0]} {_METRICS[name][1]}", f"# TYPE {_METRICS[name][0]} counter"]
            lines.append(f"{_METRICS[name][0]} {float(count)}")
        return "\n".join(lines) + "\n"


_METRICS = {
    "sent": ("mosel_door_sent_total", "Calls that front doors sent to groups, each time counted."),
    "passed": ("mosel_door_passed_total", "Of these, passed on by a group that was behind."),
    "moved": ("mosel_door_moved_total", "Of these, moved from a group that was lost."),
    "lost": ("mosel_door_lost_total", "Jobs that failed since their group was lost."),
    "turned": ("mosel_door_turned_total", "Jobs that failed since their group was lost and the next refused."),
    "refused": ("mosel_door_refused_total", "Calls that a front door refused itself."),
}
