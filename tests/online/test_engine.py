import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.errors import ExecutionError, InputError, RefusedError, UnknownModelError, UsageError
from mosel.core.states import Reason, State
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.online import virtual
from mosel.online.channel import GivenUp, Outputs, ProfiledChannel, Report, Work, WorkerState
from mosel.online.engine import Engine, Entry
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Corrupt,
    Dispatch,
    Event,
    Finished,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.serving import EngineConfig, ServedModel
from tests.conformance.worlds import inputs, model, profile

MS = 1_000_000
SERVED = [ServedModel("no:where", model(), profile())]


@dataclass
class Scripted:
    """A scheduler that answers each call with what `reply` makes of its events."""

    reply: Callable[[Sequence[Event], int], list[Action]]
    calls: list[tuple[list[Event], int]] = field(default_factory=list)

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Note the call and answer."""
        self.calls.append((list(events), now_ns))
        return self.reply(events, now_ns)


def job(name: str = "j", requests: int = 1, deadline_ns: int = 10**12) -> Job:
    """Return a job."""
    return Job(name, "m", requests, 0.5, 0, deadline_ns)


def receipt(of: Job, outcome: State = State.SERVED) -> Receipt:
    """Return what completes it."""
    done = outcome is State.SERVED
    return Receipt(of, outcome, Reason.ON_TIME, "", 0, 0 if done else None, 0.9 if done else None)


def batch(number: int, *parts: tuple[str, tuple[int, ...]], worker: int = 0) -> Batch:
    """Return a batch in the mode audio."""
    return Batch(number, worker, "m", "audio", 0, tuple(Part(*part) for part in parts), MS)


def echo(work: Work) -> Outputs:
    """Return the first number of every request's wave, which is its index in its job."""
    return {"scores": np.concatenate([part[:, :1] for part in work.tensors["wave"]])}


def served(of: Batch) -> tuple[int, Finished]:
    """Let every batch take a millisecond and succeed."""
    return MS, Finished(of.id, MS)


class World:
    """An engine in virtual time with its channels at hand."""

    def __init__(
        self,
        scheduler: Scripted | None = None,
        *,
        workers: int = 1,
        behaviour: Callable[[Batch], tuple[int, Finished | BatchFailed]] = served,
        outputs: Callable[[Work], Outputs] = echo,
        start: Callable[[int], str] = lambda _: "",
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual.VirtualLoop)
        self.channels: list[StubbornChannel] = []
        self.journal: list[Entry] = []

        def make(worker: int, report: Report) -> StubbornChannel:
            self.channels.append(StubbornChannel(worker, report, behaviour, outputs, start(worker)))
            return self.channels[-1]

        self.engine = Engine(
            SERVED,
            EngineConfig(workers=workers),
            scheduler=scheduler,
            channels=make,
            now_ns=loop.now_ns,
            journal=self.journal,
        )


class StubbornChannel(ProfiledChannel):
    """A `ProfiledChannel` that may refuse to start, and may be given up."""

    def __init__(
        self,
        worker: int,
        report: Report,
        behaviour: Callable[[Batch], tuple[int, Finished | BatchFailed]],
        outputs: Callable[[Work], Outputs],
        problem: str,
    ) -> None:
        super().__init__(worker, report, behaviour, outputs)
        self.report, self.worker, self.problem, self.closed = report, worker, problem, False

    async def start(self) -> None:
        """Start, or say why not."""
        if self.problem:
            self.give_up()
            raise ExecutionError(self.problem)
        await super().start()

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
        await super().close()

    def give_up(self) -> None:
        """Report that the worker will not come back."""
        self.state = WorkerState.GIVEN_UP
        self.report(GivenUp(self.worker, "no more"))


def in_virtual_time(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run a test's coroutine on the virtual loop."""

    def run() -> None:
        virtual.run(test())

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


def whole(events: Sequence[Event], _now_ns: int) -> list[Action]:
    """Run each job as one batch as soon as it comes, and complete it when that is done."""
    actions: list[Action] = []
    for event in events:
        match event:
            case Arrived(found):
                number = int(found.id[1:] or 0)
                actions.append(Dispatch(batch(number, (found.id, tuple(range(found.requests))))))
            case Finished(number):
                actions.append(Complete(receipt(job(f"j{number}"))))
    return actions


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
