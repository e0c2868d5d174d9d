"""Schedulers whose decisions take time for themselves alone."""

from array import array
from collections.abc import Sequence
from functools import partial

import pytest

from mosel.evaluation.charged import Charged
from mosel.evaluation.simulate import Conditions, Outage, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import Action, Event, Tick, WakeAt, WorkerLost, WorkerReady
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, profile
from tests.online.test_properties import CURVED, workload


class Clock:
    """A clock by which every second look is `took_ns` after the one before."""

    def __init__(self, took_ns: int) -> None:
        self.now_ns, self.took_ns, self.looks = 0, took_ns, 0

    def __call__(self) -> int:
        """Return the time."""
        self.looks += 1
        self.now_ns += self.took_ns if self.looks % 2 == 0 else 0
        return self.now_ns


class Noting:
    """A scheduler that notes when it is told what, and asks for what it is given."""

    def __init__(self, actions: Sequence[Action] = ()) -> None:
        self.told: list[tuple[int, list[Event]]] = []
        self.actions = list(actions)

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Note it."""
        self.told.append((now_ns, list(events)))
        return self.actions


def test_what_happens_during_a_decision_goes_to_the_next_one() -> None:
    """A decision of 5 ms at 0: what comes at 2 ms is told at 5 ms, when its actions are done too."""
    inner, took_ns = Noting([WakeAt(100 * MS)]), array("q")
    slow = Charged(inner, took_ns, Clock(5 * MS))
    assert slow.handle([WorkerReady(0)], 0) == [WakeAt(100 * MS)]
    assert slow.handle([WorkerLost(0, "")], 2 * MS) == [WakeAt(5 * MS)]
    slow.handle([Tick()], 5 * MS)
    assert inner.told == [(0, [WorkerReady(0)]), (5 * MS, [WorkerLost(0, "")])]
    assert list(took_ns) == [5 * MS, 5 * MS]


@pytest.mark.parametrize("outages", [(), (Outage(0, 100 * MS, 300 * MS), Outage(2, 150 * MS, 200 * MS))])
def test_a_fleet_whose_decisions_take_long_serves_less_and_loses_nothing(
    outages: tuple[Outage, ...],
) -> None:
    """One outcome a job (`simulate` asserts it), also when workers are lost while their groups decide."""
    jobs, served = Workload(tuple(workload(5, 60, 4, True))), []
    for cost_ms in (0, 30):
        clock = partial(Clock, cost_ms * MS)
        fleet = Fleet(
            {"m": CURVED},
            workers=4,
            layout=Layout(2, 2),
            make=lambda *args, clock=clock, **words: Charged(Scheduler(*args, **words), array("q"), clock()),
        )
        done = simulate(fleet, {"m": CURVED}, jobs, Conditions(4, outages=outages))
        assert fleet.live == 0
        served.append(sum(row.finish_ns is not None for row in done.jobs))
    assert served[1] < served[0]


def test_decisions_that_take_no_time_change_nothing() -> None:
    """At a cost of 0 a charged scheduler is the scheduler."""
    jobs, table = Workload(tuple(workload(6, 40, 30, False))), {"m": profile()}
    bare, slow = Scheduler(table, workers=2), Charged(Scheduler(table, workers=2), array("q"), Clock(0))
    once, again = (simulate(found, table, jobs, Conditions(2)) for found in (bare, slow))
    assert once.jobs == again.jobs
