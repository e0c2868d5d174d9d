"""A scheduler on a machine of its own: the wall time of its decisions passes in virtual time, for it alone.

`simulate.py` charges a lone scheduler's decisions by letting the world wait. The groups of a fleet decide
beside each other, so each waits only for itself: what happens to a group while it decides goes to its next
decision, and what it asks for is done when the decision is over.
"""

from array import array
from collections.abc import Callable, Sequence

from mosel.core.clock import monotonic_ns
from mosel.online.events import Action, Dispatch, Event, Scheduling, Tick, WakeAt, WorkerLost


class Charged:
    """A scheduler whose actions come when it has decided on them.

    Args:
        scheduler: what decides.
        took_ns: the time of each decision is added to it.
        clock: by which a decision is timed, in nanoseconds.
        from_ns: earlier decisions cost nothing, so that what is computed once does not count.
    """

    def __init__(
        self,
        scheduler: Scheduling,
        took_ns: "array[int]",
        clock: Callable[[], int] = monotonic_ns,
        from_ns: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._took_ns = took_ns
        self._clock = clock
        self._from_ns = from_ns
        self._inbox: list[Event] = []
        self._held: list[Action] = []
        self._free_ns = 0
        self._wake_ns: int | None = None

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened and return what has been decided by now."""
        for event in events:
            self._take(event)
        if now_ns < self._free_ns:
            return [WakeAt(self._free_ns)]
        done, self._held = self._held, []
        if self._wake_ns is not None and self._wake_ns <= now_ns:
            self._inbox.append(Tick())
            self._wake_ns = None
        if self._inbox:
            self._decide(now_ns)
        if now_ns >= self._free_ns:
            done, self._held = [*done, *self._held], []
        times = [time for time in (self._wake_ns, self._free_ns if self._held else None) if time is not None]
        return [*done, *([WakeAt(min(times))] if times else [])]

    def _take(self, event: Event) -> None:
        if isinstance(event, Tick):
            return  # it may be this wrapper's own; the scheduler's is known by its time
        if isinstance(event, WorkerLost):  # what was meant for it is never sent: the scheduler will hear why
            self._held = [
                action
                for action in self._held
                if not (isinstance(action, Dispatch) and action.batch.worker == event.worker)
            ]
        self._inbox.append(event)

    def _decide(self, now_ns: int) -> None:
        events, self._inbox = self._inbox, []
        began_ns = self._clock()
        actions = self._scheduler.handle(events, now_ns)
        took_ns = self._clock() - began_ns
        if now_ns >= self._from_ns:
            self._took_ns.append(took_ns)
            self._free_ns = now_ns + took_ns
        self._held = [action for action in actions if not isinstance(action, WakeAt)]
        for action in actions:
            if isinstance(action, WakeAt):
                self._wake_ns = action.at_ns
