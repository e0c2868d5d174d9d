import itertools
import time

import pytest

from mosel.core.states import Reason, State
from tests.process.test_engine import ask, engine, outcome

pytestmark = pytest.mark.process


async def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the wall clock jumps years back and forth with each look, every job is served in time."""
    wall_s = itertools.cycle([1.0, 1e9, 3e9])
    monkeypatch.setattr(time, "time", lambda: next(wall_s))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * next(wall_s)))
    async with engine() as running:
        for answer in [ask(running, *range(1, 1 + i)) for i in (1, 2, 3, 4) * 4]:
            assert await outcome(answer) == (State.SERVED, Reason.ON_TIME)
