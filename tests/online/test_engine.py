import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.errors import ExecutionError, InputError, UnknownModelError, UsageError
from mosel.core.states import State
from mosel.core.types import Batch, Job
from mosel.online import virtual
from mosel.online.channel import Outputs, Work
from mosel.online.events import (
    Action,
    Arrived,
    Cancelled,
    Complete,
    Corrupt,
    Dispatch,
    Entry,
    Event,
    Finished,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.serving import ServedModel
from tests.conformance.worlds import inputs, model, profile
from tests.online.engine_world import MS, Scripted, World, batch, in_virtual_time, job, receipt, whole


@in_virtual_time
async def test_a_job_is_answered_with_its_outputs_in_the_order_of_its_requests() -> None:
    """Requests that ran in several batches, the later ones first, come back in order."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        match events[0]:
            case Arrived():
                return [Dispatch(batch(0, ("j", (2, 3)))), Dispatch(batch(1, ("j", (0, 1))))]
            case Finished(1):
                return [Complete(receipt(job(requests=4)))]
        return []

    world = World(Scripted(reply))
    await world.engine.start()
    answer = await world.engine.submit(job(requests=4), inputs(4))
    assert answer.outputs is not None
    assert answer.outputs["scores"].tolist() == [[0.0], [1.0], [2.0], [3.0]]
    assert world.engine.snapshot().batches == 2


@in_virtual_time
async def test_decisions_can_be_watched() -> None:
    """Whoever watches is handed each call of the scheduler, and how long it took."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        return [Complete(receipt(job()))] if isinstance(events[0], Arrived) else []

    world = World(Scripted(reply))
    seen: list[tuple[Entry, int]] = []
    world.engine.watch_decisions(lambda entry, took_ns: seen.append((entry, took_ns)))
    await world.engine.start()
    await world.engine.submit(job(), inputs(1))
    assert [entry for entry, _ in seen] == world.journal
    assert all(took_ns > 0 for _, took_ns in seen)
    assert len(seen) > 1


@in_virtual_time
async def test_each_job_of_a_batch_gets_its_own_rows() -> None:
    """A batch of two jobs' requests is taken apart, and undone requests leave no hole in the others' rows."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        if isinstance(events[0], Arrived):
            return [Dispatch(batch(0, ("a", (0,)), ("b", (0, 1)), ("c", (2,))))]
        if isinstance(events[0], Finished):
            return [Complete(receipt(job("a"))), Complete(receipt(job("c", 3)))]
        return []

    def corrupt(of: Batch) -> tuple[int, Finished]:
        return MS, Finished(of.id, MS, tuple(Corrupt("b", i, "audio", "noise") for i in (0, 1)))

    rows = {"scores": np.array([[10.0], [12.0]])}
    world = World(Scripted(reply), behaviour=corrupt, outputs=lambda _: rows)
    await world.engine.start()
    a, _, c = (world.engine.post(job(name, n), inputs(n)) for name, n in (("a", 1), ("b", 2), ("c", 3)))
    assert (await a).outputs == {"scores": np.array([[10.0]])}
    outputs = (await c).outputs
    assert outputs is not None
    assert outputs["scores"][2].tolist() == [12.0]


@in_virtual_time
async def test_events_of_one_turn_go_to_one_call_in_the_simulators_order() -> None:
    """What happens at the same time is told together: batches, workers, arrivals, cancellations, tick."""
    scheduler = Scripted(lambda events, _: [WakeAt(MS)] if isinstance(events[0], WorkerReady) else [])
    world = World(scheduler, workers=2)
    await world.engine.start()
    loop = asyncio.get_running_loop()

    def everything() -> None:
        first = world.engine.post(job("a"), inputs(1))
        first.cancel()
        world.engine.post(job("b"), inputs(1))
        world.channels[1].lose("gone")

    await asyncio.sleep(0)
    loop.call_at(1e-3, everything)
    await asyncio.sleep(2e-3)
    (ready, _), *rest = scheduler.calls
    assert ready == [WorkerReady(0), WorkerReady(1)]
    told = [event for events, at in rest if at == MS for event in events]
    assert told[:3] == [WorkerLost(1, "gone"), Arrived(job("a")), Arrived(job("b"))]
    assert sorted(map(repr, told[3:])) == ["Cancelled(job='a')", "Tick()"]
    assert len(rest) <= 2  # a cancellation is told one turn later, still at the same time


@in_virtual_time
async def test_only_the_last_wake_counts() -> None:
    """A later `WakeAt` replaces an earlier one, also one that would have come sooner."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        return [WakeAt(2 * MS), WakeAt(5 * MS)] if isinstance(events[0], WorkerReady) else []

    scheduler = Scripted(reply)
    world = World(scheduler)
    await world.engine.start()
    await asyncio.sleep(0.1)
    assert [at for events, at in scheduler.calls if Tick() in events] == [5 * MS]


@in_virtual_time
async def test_cancelling_the_waiting_task_cancels_the_job_once() -> None:
    """The scheduler hears of it, its receipt goes nowhere, and the id is free again."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        return [Complete(receipt(job(), State.DROPPED)) for e in events if isinstance(e, Cancelled)]

    scheduler = Scripted(reply)
    world = World(scheduler)
    await world.engine.start()
    task = asyncio.create_task(world.engine.submit(job(), inputs(1)))
    await asyncio.sleep(1e-3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1e-3)
    assert sum(events.count(Cancelled("j")) for events, _ in scheduler.calls) == 1
    assert world.engine.snapshot().queued_jobs == 0
    world.engine.post(job(), inputs(1))


@in_virtual_time
async def test_outputs_of_a_batch_never_reach_a_later_job_of_the_same_id() -> None:
    """A job that was cancelled while its batch ran, and another of its name: the old outputs are dropped."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        actions: list[Action] = []
        for event in events:
            match event:
                case Arrived():
                    actions.append(Dispatch(batch(len(numbers), ("j", (0,)))))
                    numbers.append(0)
                case Cancelled() | Finished(1):
                    actions.append(Complete(receipt(job())))
        return actions

    numbers: list[int] = []
    made = iter(({"scores": np.array([[111.0]])}, {"scores": np.array([[222.0]])}))
    world = World(Scripted(reply), outputs=lambda _: next(made))
    await world.engine.start()
    first = world.engine.post(job(), inputs(1))
    await asyncio.sleep(5e-4)
    first.cancel()
    await asyncio.sleep(1e-4)
    answer = await world.engine.submit(job(), inputs(1))
    assert answer.outputs == {"scores": np.array([[222.0]])}


@in_virtual_time
async def test_what_does_not_fit_is_refused_and_harms_nothing() -> None:
    """An unknown model, a taken id and wrong tensors raise; the job that waits is still answered."""
    world = World(Scripted(whole))
    await world.engine.start()
    waiting = world.engine.post(job("j1"), inputs(1))
    with pytest.raises(InputError, match="'j1' is being served already"):
        world.engine.post(job("j1"), inputs(1))
    with pytest.raises(UnknownModelError, match="'other' is not served; expected m"):
        world.engine.post(Job("j2", "other", 1, 0.5, 0, 1), inputs(1))
    with pytest.raises(InputError, match="'wave' is float32 of shape"):
        world.engine.post(job("j3", 2), inputs(1))
    assert (await waiting).receipt.outcome is State.SERVED


@in_virtual_time
async def test_outputs_that_do_not_fit_together_fail_their_job_alone() -> None:
    """The job gets an `ExecutionError`, the engine goes on."""

    def reply(events: Sequence[Event], now_ns: int) -> list[Action]:
        match events[0]:
            case Arrived(found) if found.id == "j":
                return [Dispatch(batch(0, ("j", (0,)))), Dispatch(batch(1, ("j", (1,))))]
            case Finished(1):
                return [Complete(receipt(job(requests=2)))]
            case Finished(0):
                return []
        return whole(events, now_ns)

    def ragged(work: Work) -> dict[str, NDArray[Any]]:
        return {"scores": np.zeros((1, 1 + work.batch.id))}

    world = World(Scripted(reply), outputs=ragged)
    await world.engine.start()
    with pytest.raises(ExecutionError, match="came in shapes"):
        await world.engine.submit(job(requests=2), inputs(2))
    assert (await world.engine.submit(job("j5"), inputs(1))).receipt.outcome is State.SERVED


@in_virtual_time
async def test_a_timer_that_goes_off_early_is_set_again() -> None:
    """On a loop whose timers are coarser than the clock no tick comes before its time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual.VirtualLoop)
    ticks: list[int] = []

    def reply(events: Sequence[Event], now_ns: int) -> list[Action]:
        if Tick() in events:
            ticks.append(now_ns)
        return [WakeAt(10 * MS)] if isinstance(events[0], WorkerReady) else []

    world = World(Scripted(reply))
    world.engine.now_ns = lambda: max(0, loop.now_ns() - 3 * MS)  # the clock lags behind the loop
    await world.engine.start()
    await asyncio.sleep(1)
    assert ticks == [10 * MS]


def test_a_profile_of_another_model_is_refused() -> None:
    """The message says what was given and how to make the right one."""
    with pytest.raises(UsageError, match="'other' was given for 'm'; make one with: mosel profile no:where"):
        ServedModel("no:where", model("m"), profile("other"))


@in_virtual_time
async def test_outputs_do_not_stand_on_the_workers_memory() -> None:
    """What a worker wrote is copied before it writes the next batch's there."""
    shared, numbers = np.zeros((1, 1), np.float32), itertools.count(1)

    def outputs(_: Work) -> Outputs:
        shared[...] = next(numbers)
        return {"scores": shared}

    world = World(outputs=outputs)
    await world.engine.start()
    answers = [await world.engine.submit(job(name), inputs(1)) for name in "ab"]
    await world.engine.stop()
    assert [answer.outputs["scores"].tolist() for answer in answers if answer.outputs] == [[[1.0]], [[2.0]]]
