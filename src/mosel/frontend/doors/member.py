"""What a group makes of a call that a front door hands on.

The arrival is the one at the door. A job that would be late by the backlog as it is now is passed on, if the
door allows it, whatever stands in its body.
"""

import math
from collections.abc import Callable

from mosel.core.states import State
from mosel.frontend.doors.wire import on_its_way, times_of, with_outcome
from mosel.frontend.heads import Headers
from mosel.frontend.replies import Reply
from mosel.online.group import Load

NEVER_NS = 1 << 62


class SecondLook:
    """Looks at calls again: `http.Forwarded`.

    Args:
        load: says how the group stands now.
        now_ns: the clock.
    """

    def __init__(self, load: Callable[[], Load], now_ns: Callable[[], int]) -> None:
        self._load, self._now_ns = load, now_ns

    def arrived(self, headers: Headers, came_ns: int) -> int | Reply:
        """Return when the call arrived, or that it is passed on."""
        told_ns, start_ns = times_of(headers)
        if start_ns is not None and (late_ns := self._late_ns(start_ns)) > 0:
            return on_its_way(late_ns)
        return came_ns if told_ns is None else told_ns

    def ended(self, reply: Reply, outcome: State) -> Reply:
        """Return the reply to a job as it goes to the door, which counts it."""
        return with_outcome(reply, outcome)

    def _late_ns(self, start_ns: int) -> int:
        """Return by how much a job is expected to begin too late here."""
        load = self._load()
        if not load.up:
            return NEVER_NS
        return math.ceil(self._now_ns() + load.work_ns / load.up - start_ns)
