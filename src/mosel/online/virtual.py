"""An asyncio event loop whose time is virtual: instead of sleeping it jumps to the next timer.

With it the whole live engine runs through hours of load in a second, and does the same every time. Time stands
on a grid of nanoseconds: what is due at the same nanosecond is due in the same turn of the loop, in the order
in which it was set.
What would run in an executor runs in place. Whatever else waits for the outside world (a process, a socket) has
no place on it.
"""

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from mosel.core.clock import to_ns, to_s

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at time 0 and spends no real time waiting."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        self._jumping = selector
        self._turns = itertools.count()
        self._clock_resolution = 0.5e-9  # what is due goes off, what is due 1 ns later does not

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return to_s(self._jumping.now_ns)

    def now_ns(self) -> int:
        """Return the virtual time in nanoseconds: the engine's clock on this loop."""
        return self._jumping.now_ns

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer, on the nanosecond that is nearest to `when`."""
        moment = _Moment(to_s(to_ns(when)))
        moment.turn = next(self._turns)
        return super().call_at(moment, callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Call at once, here: a thread would take real time, which does not pass on this loop."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time and return its result.

    Raises:
        RuntimeError: every task waits and no timer is set, so that nothing could ever happen again.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class _Moment(float):
    """A time that comes before another of the same value if its timer was set before."""

    turn: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Moment) and float(self) == float(other):
            return self.turn < other.turn
        return float(self) < float(other)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise RuntimeError("virtual time stands still: every task waits and no timer is set")
        self.now_ns += to_ns(timeout)
        return ready
