import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from mosel.core.errors import ExecutionError, RefusedError
from mosel.core.states import State
from mosel.online.channel import GivenUp, Report, Work, WorkerState
from mosel.online.engine import Engine
from mosel.online.events import (
    Action,
    Arrived,
    Complete,
    Dispatch,
    Event,
    Finished,
    Shutdown,
    Tick,
    WorkerLost,
    WorkerReady,
)
from mosel.online.serving import EngineConfig, ServedModel
from tests.conformance.worlds import inputs, model, profile
from tests.online.engine_world import MS, Scripted, World, batch, in_virtual_time, job, receipt, whole


@in_virtual_time
async def test_jobs_are_refused_before_the_start_while_draining_and_after_the_stop() -> None:
    """Each refusal says which it is, and that one may try again."""
    world = World(Scripted(whole))
    with pytest.raises(RefusedError, match="it is starting"):
        world.engine.post(job("j1"), inputs(1))
    await world.engine.start()
    running = world.engine.post(job("j1"), inputs(1))
    draining = asyncio.create_task(world.engine.drain(10))
    await asyncio.sleep(0)
    assert not world.engine.ready
    with pytest.raises(RefusedError, match="it is draining"):
        world.engine.post(job("j2"), inputs(1))
    await draining
    assert (await running).receipt.outcome is State.SERVED
    await world.engine.stop()
    with pytest.raises(RefusedError, match="it has stopped"):
        world.engine.post(job("j2"), inputs(1))
    assert all(channel.closed for channel in world.channels)


@in_virtual_time
async def test_a_drain_ends_what_is_left_at_its_limit() -> None:
    """A job that takes longer than the drain may gets its outcome at the limit, not later."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        if isinstance(events[0], Arrived):
            return [Dispatch(batch(0, ("j1", (0,))))]
        return [Complete(receipt(job("j1"), State.DROPPED))] if Shutdown() in events else []

    world = World(Scripted(reply), behaviour=lambda of: (10_000 * MS, Finished(of.id, 0)))
    await world.engine.start()
    answer = world.engine.post(job("j1"), inputs(1))
    await world.engine.drain(2.0)
    assert (await answer).receipt.outcome is State.DROPPED
    assert world.engine.now_ns() == 2000 * MS


@in_virtual_time
async def test_a_scheduler_that_raises_breaks_the_engine_aloud() -> None:
    """Every waiting job and every later one gets an `ExecutionError`; `until_broken` returns it."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        if any(isinstance(event, Arrived) and event.job.id == "bad" for event in events):
            raise ZeroDivisionError("by design")
        return []

    world = World(Scripted(reply))
    await world.engine.start()
    waiting = world.engine.post(job("good"), inputs(1))
    await asyncio.sleep(1)
    bad = world.engine.post(job("bad"), inputs(1))
    failure = await world.engine.until_broken()
    for found in (waiting, bad):
        with pytest.raises(ExecutionError, match="ZeroDivisionError: by design"):
            await found
    assert "ZeroDivisionError: by design" in str(failure)
    assert not world.engine.ready
    with pytest.raises(ExecutionError, match="by design"):
        world.engine.post(job("late"), inputs(1))
    await world.engine.stop()


@in_virtual_time
async def test_an_action_that_cannot_be_carried_out_breaks_the_engine_too() -> None:
    """A batch of a job that nobody handed in is a bug of the scheduler, and no silence."""
    world = World(Scripted(lambda events, _: [Dispatch(batch(0, ("ghost", (0,))))] if Tick() in events else []))
    await world.engine.start()
    waiting = world.engine.post(job(), inputs(1))
    world.engine._tell(Tick())
    with pytest.raises(ExecutionError, match="KeyError: 'ghost'"):
        await waiting


@in_virtual_time
async def test_a_scheduler_that_forgets_a_job_at_the_end_is_found_out() -> None:
    """A job without an outcome after `Shutdown` is answered with an error instead of never."""
    world = World(Scripted(lambda _events, _now: []))
    await world.engine.start()
    waiting = world.engine.post(job(), inputs(1))
    await world.engine.stop()
    with pytest.raises(ExecutionError, match="left jobs without an outcome"):
        await waiting


@in_virtual_time
async def test_an_engine_without_any_worker_does_not_start() -> None:
    """The error is the worker's own."""
    world = World(Scripted(whole), workers=2, start=lambda worker: f"no GPU {worker}")
    with pytest.raises(ExecutionError, match="no GPU 0"):
        await world.engine.start()
    assert not world.engine.ready
    assert all(channel.closed for channel in world.channels)


@in_virtual_time
async def test_an_engine_serves_with_the_workers_that_it_has() -> None:
    """One of two workers cannot start: jobs are served all the same."""
    world = World(Scripted(whole), workers=2, start=lambda worker: "no GPU" if worker else "")
    await world.engine.start()
    assert (await world.engine.submit(job("j1"), inputs(1))).receipt.outcome is State.SERVED
    assert world.engine.snapshot().workers == ("ready", "given_up")


@in_virtual_time
async def test_the_loss_of_the_last_worker_for_good_breaks_the_engine() -> None:
    """While another worker may come back jobs wait; when none will, they are told."""
    world = World(Scripted(lambda _events, _now: []), workers=2)
    await world.engine.start()
    waiting = world.engine.post(job(), inputs(1))
    world.channels[0].give_up()
    await asyncio.sleep(1)
    assert not waiting.done()
    world.channels[1].give_up()
    with pytest.raises(ExecutionError, match="no worker can be started any more: no more"):
        await waiting


@in_virtual_time
async def test_a_lost_workers_batches_are_forgotten() -> None:
    """After the loss the batch can be sent again under another number and its outputs arrive once."""

    def reply(events: Sequence[Event], _: int) -> list[Action]:
        actions: list[Action] = []
        for event in events:
            match event:
                case Arrived():
                    actions.append(Dispatch(batch(0, ("j", (0,)))))
                case WorkerLost():
                    actions.append(Dispatch(batch(1, ("j", (0,)), worker=1)))
                case Finished(1):
                    actions.append(Complete(receipt(job())))
        return actions

    world = World(Scripted(reply), workers=2)
    await world.engine.start()
    waiting = world.engine.post(job(), inputs(1))
    await asyncio.sleep(5e-4)
    world.channels[0].lose("killed")
    assert (await waiting).outputs == {"scores": np.zeros((1, 1))}
    snapshot = world.engine.snapshot()
    assert (snapshot.batches, snapshot.lost_workers) == (1, 1)


class Doomed:
    """A worker that is given up: one fails to start, the other had been ready for a moment."""

    def __init__(self, worker: int, report: Report) -> None:
        self.state = WorkerState.STARTING
        self._worker, self._report = worker, report

    async def start(self) -> None:
        """Be ready and be given up at once, or only the latter."""
        if self._worker == 0:
            self._report(WorkerReady(0))
            self._report(WorkerLost(0, "gone"))
        self.state = WorkerState.GIVEN_UP
        self._report(GivenUp(self._worker, "gone"))
        if self._worker:
            raise ExecutionError("worker 1 cannot be started: gone")

    def send(self, work: Work) -> None:
        """Take nothing."""
        raise AssertionError(work)

    def forget(self, job: str) -> None:
        """Have nothing to forget."""

    async def close(self) -> None:
        """Have nothing to free."""


@in_virtual_time
async def test_an_engine_whose_workers_are_all_given_up_does_not_start() -> None:
    """Though one of them had been ready for a moment: nothing would ever run."""
    served = ServedModel("no:where", model(), profile())
    engine = Engine([served], EngineConfig(workers=2), channels=Doomed)
    with pytest.raises(ExecutionError, match="worker 1 cannot be started"):
        await engine.start()
    assert not engine.ready
