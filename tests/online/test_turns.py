"""Decisions beside the event loop, in a real thread; tests of the engine and of conformance have the rest."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from mosel.core.errors import ExecutionError
from mosel.core.states import State
from mosel.online.events import (
    Action,
    Arrived,
    Cancelled,
    Complete,
    Dispatch,
    Entry,
    Event,
    Finished,
    Shutdown,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.turns import MANY_EVENTS, Turns
from tests.conformance.worlds import inputs
from tests.online.engine_world import Scripted, World, batch, job, receipt

LIMIT_S = 30


class Gate:
    """A scheduler whose calls with an arrival wait for the event loop to let them go on."""

    def __init__(self) -> None:
        self.entered, self.leave, self.back = threading.Event(), threading.Event(), threading.Event()
        self.calls: list[list[Event]] = []
        self.threads: list[int] = []

    def handle(self, events: Sequence[Event], _now_ns: int) -> list[Action]:
        """Wait, then send the first job off and end those that were cancelled."""
        self.calls.append(list(events))
        self.threads.append(threading.get_ident())
        if any(isinstance(event, Arrived) for event in events):
            self.entered.set()
            assert self.leave.wait(LIMIT_S)
        if self.entered.is_set() and WorkerReady(0) in events:
            self.back.set()
        actions: list[Action] = []
        for event in events:
            match event:
                case Arrived(found) if found.id == "a":
                    actions.append(Dispatch(batch(0, ("a", (0,)))))
                case Finished():
                    actions.append(Complete(receipt(job("a"))))
                case Cancelled(name):
                    actions.append(Complete(receipt(job(name), State.DROPPED)))
        return actions


async def test_clients_are_heard_while_a_decision_takes_its_time() -> None:
    """What happens during a call goes together to the next, in the usual order; the first job is served."""
    gate = Gate()
    world = World(gate, workers=2, long_ns=-1)
    await world.engine.start()
    first = world.engine.post(job("a"), inputs(1))
    await asyncio.to_thread(gate.entered.wait, LIMIT_S)
    second, third = (world.engine.post(job(name), inputs(1)) for name in "bc")
    second.cancel()
    await asyncio.sleep(0)
    world.channels[1].lose("gone")
    gate.leave.set()
    assert (await asyncio.wait_for(first, LIMIT_S)).receipt.outcome is State.SERVED
    third.cancel()
    await world.engine.drain(LIMIT_S)
    await world.engine.stop()
    place = next(i for i, events in enumerate(gate.calls) if Arrived(job("a")) in events)
    assert gate.calls[place + 1] == [
        WorkerLost(1, "gone"),
        Arrived(job("b")),
        Arrived(job("c")),
        Cancelled("b"),
    ]
    assert threading.get_ident() not in gate.threads


async def test_a_batch_for_a_worker_that_was_lost_meanwhile_goes_nowhere() -> None:
    """Though it may be back by then: the scheduler hears of the loss next, and sends the batch again."""
    gate = Gate()
    world = World(gate, long_ns=-1)
    await world.engine.start()
    waiting = world.engine.post(job("a"), inputs(1))
    await asyncio.to_thread(gate.entered.wait, LIMIT_S)
    world.channels[0].lose("gone")
    world.channels[0].recover()
    gate.leave.set()
    assert await asyncio.to_thread(gate.back.wait, LIMIT_S)
    assert world.engine.snapshot().batches == 0
    waiting.cancel()
    await world.engine.drain(LIMIT_S)
    await world.engine.stop()
    assert [type(event) for events in gate.calls for event in events].count(Finished) == 0


async def test_a_scheduler_that_raises_beside_the_loop_breaks_the_engine_aloud() -> None:
    """Every waiting job gets the error, as if the decision had been made on the loop."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        return [] if isinstance(events[0], WorkerReady) else [WakeAt(1 // 0)]

    world = World(Scripted(reply), long_ns=-1)
    await world.engine.start()
    with pytest.raises(ExecutionError, match="ZeroDivisionError"):
        await asyncio.wait_for(world.engine.submit(job("a"), inputs(1)), LIMIT_S)
    await world.engine.stop()


async def test_an_engine_that_is_stopped_during_a_decision_ends_its_jobs() -> None:
    """The stop waits for the call, tells the scheduler of the end, and every job has its outcome."""
    gate = Gate()
    ends = gate.handle

    def handle(events: Sequence[Event], now_ns: int) -> list[Action]:
        actions = ends(events, now_ns)
        return [Complete(receipt(job("b"), State.DROPPED))] if Shutdown() in events else actions

    world = World(Scripted(handle), long_ns=-1)
    await world.engine.start()
    waiting = world.engine.post(job("b"), inputs(1))
    await asyncio.to_thread(gate.entered.wait, LIMIT_S)
    stopping = asyncio.create_task(world.engine.stop())
    await asyncio.sleep(0.01)
    gate.leave.set()
    await asyncio.wait_for(stopping, LIMIT_S)
    assert (await waiting).receipt.outcome is State.DROPPED


@pytest.mark.parametrize(("events", "beside"), [(1, False), (MANY_EVENTS, False), (MANY_EVENTS + 1, True)])
async def test_many_events_at_once_are_taken_in_beside_the_loop(events: int, beside: bool) -> None:
    """Short calls stay on the loop, unless there is much to take in."""
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    threads: list[int] = []

    class Quick:
        def handle(self, _events: Sequence[Event], _now_ns: int) -> list[Action]:
            """Note the thread."""
            threads.append(threading.get_ident())
            return []

    def carried_out(entry: Entry, _took_ns: int) -> None:
        done.set_result(len(entry.events))

    turns = Turns(Quick(), lambda: 0, carried_out, lambda *_: None, long_ns=10**12)
    for number in range(events):
        turns.tell(Arrived(job(f"j{number}")))
    assert await asyncio.wait_for(done, LIMIT_S) == events
    assert (threads != [threading.get_ident()]) == beside
    turns.close()
