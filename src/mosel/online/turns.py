"""When the scheduler is called, and where: on the event loop, or beside it while its decisions take long.

Rules:
1. All events of one turn of the event loop go to one `handle` call, in the order in which the simulator
   (`evaluation/simulate.py`) takes those of one instant: batches, workers, arrivals; then cancellations, tick.
2. There is one call at a time. What happens during a call goes, together, to the next one.
3. A call whose like has lately taken long, or that has many events to take in, runs in a thread: the functions
   that take the time are compiled and release the interpreter, so that clients are heard and refused meanwhile,
   however long the queue. Any other runs on the loop, which spares a job the way to the thread and back.
4. What a call asks for is carried out on the event loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns, thread_time_ns

from mosel.core.clock import NS_PER_MS
from mosel.online.events import (
    Arrived,
    BatchFailed,
    Cancelled,
    Entry,
    Event,
    Finished,
    Scheduling,
    Shutdown,
    Tick,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)

RANK = {
    Finished: 0,
    BatchFailed: 0,
    WorkerLost: 1,
    WorkerReady: 1,
    WorkerRetiring: 1,
    Arrived: 2,
    Cancelled: 3,
    Tick: 4,
    Shutdown: 5,
}
"""The order of events within one `handle` call; those of equal rank keep the order in which they happened."""

LONG_NS = 5 * NS_PER_MS
"""As long as the interpreter lets one thread wait for another: what is shorter gains nothing by a thread."""

MANY_EVENTS = 100
"""To take in so many takes about as long."""

FORGETTING = 0.95
"""By how much the longest call counts less with each call after it."""


class Turns:
    """Gathers events and calls the scheduler.

    Args:
        scheduler: what decides.
        now_ns: the clock.
        carry_out: is handed each call and how long it took, in nanoseconds.
        fail: is handed the events of a call that raised, or whose actions could not be carried out, and why.
        long_ns: calls that have lately taken longer run beside the event loop.
    """

    def __init__(
        self,
        scheduler: Scheduling,
        now_ns: Callable[[], int],
        carry_out: Callable[[Entry, int], None],
        fail: Callable[[Sequence[Event], Exception], None],
        long_ns: int = LONG_NS,
    ) -> None:
        self._scheduler = scheduler
        self._now_ns = now_ns
        self._carry_out = carry_out
        self._fail = fail
        self._long_ns = long_ns
        self._events: list[Event] = []
        self._calling = False
        self._closed = False
        self._lately_ns = 0.0
        self._beside: ThreadPoolExecutor | None = None

    def tell(self, event: Event) -> None:
        """Let the scheduler know of an event."""
        if not self._events and not self._calling:
            asyncio.get_running_loop().call_soon(self._begin)
        self._events.append(event)

    def close(self) -> None:
        """Call no more; what a call under way asks for is not carried out."""
        self._closed = True
        if self._beside is not None:
            self._beside.shutdown(wait=False)

    def _begin(self) -> None:
        events, self._events = self._events, []
        if self._closed:
            return
        if len(events) > 1:
            events.sort(key=lambda event: RANK[type(event)])
        self._calling = True
        if self._lately_ns <= self._long_ns and len(events) <= MANY_EVENTS:
            self._end(events, lambda: self._call(events))
            return
        self._beside = self._beside or ThreadPoolExecutor(1, thread_name_prefix="decisions")
        called = asyncio.get_running_loop().run_in_executor(self._beside, self._call, events)
        if called.done():  # in virtual time
            self._end(events, called.result)
        else:
            called.add_done_callback(lambda done: self._end(events, done.result))

    def _call(self, events: Sequence[Event]) -> tuple[Entry, int]:
        now_ns = self._now_ns()
        began_ns, worked_ns = perf_counter_ns(), thread_time_ns()
        actions = self._scheduler.handle(events, now_ns)
        # What counts is work alone: time for which others had the core, or the interpreter, says nothing of it.
        self._lately_ns = max(float(thread_time_ns() - worked_ns), FORGETTING * self._lately_ns)
        took_ns = perf_counter_ns() - began_ns
        return Entry(tuple(events), now_ns, tuple(actions)), took_ns

    def _end(self, events: Sequence[Event], called: Callable[[], tuple[Entry, int]]) -> None:
        try:
            entry, took_ns = called()
            if not self._closed:
                self._carry_out(entry, took_ns)
        except Exception as error:  # a bug, which the engine makes known
            self._fail(events, error)
        self._calling = False
        if self._events:
            asyncio.get_running_loop().call_soon(self._begin)
