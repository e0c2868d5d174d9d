"""Workers that come and go, in virtual time."""

import asyncio

import numpy as np

from mosel.core.clock import NS_PER_S, to_ns
from mosel.core.states import State
from mosel.core.types import Batch, Job
from mosel.online.autoscale import Autoscaler, Rules
from mosel.online.channel import Channel, ProfiledChannel, Report, WorkerState
from mosel.online.engine import Answer, Engine
from mosel.online.events import Entry, Finished, Retired, WorkerRetiring
from mosel.online.serving import EngineConfig, ServedModel
from tests.conformance.worlds import inputs, latency_ns, model, profile
from tests.online.engine_world import World, echo, in_virtual_time

TABLE = profile()
SERVED = [ServedModel("no:where", model(), TABLE)]
WARM_S = 2.0


class SlowToWarm(ProfiledChannel):
    """A worker that takes a while to be warm."""

    async def start(self) -> None:
        """Load for a while."""
        self.state = WorkerState.STARTING
        await asyncio.sleep(WARM_S)
        await super().start()


def behaviour(of: Batch) -> tuple[int, Finished]:
    """Let batches take what the profile says."""
    took_ns = latency_ns(TABLE, of)
    return took_ns, Finished(of.id, took_ns)


def elastic(most: int, workers: int = 1, asked: list[int] | None = None) -> tuple[Engine, list[Entry]]:
    """Return an engine in virtual time, and its journal."""
    loop = asyncio.get_running_loop()
    journal: list[Entry] = []

    def make(worker: int, report: Report) -> Channel:
        return SlowToWarm(worker, report, behaviour, echo)

    engine = Engine(
        SERVED,
        EngineConfig(workers=workers, most=most),
        channels=make,
        now_ns=loop.now_ns,  # type: ignore[attr-defined]
        journal=journal,
        ask=(asked if asked is not None else []).append,
    )
    return engine, journal


async def load(engine: Engine, rate: float, seconds: float, name: str) -> list["asyncio.Future[Answer]"]:
    """Send jobs of two requests at a rate for a while."""
    rng = np.random.default_rng(5)
    answers: list[asyncio.Future[Answer]] = []
    until_ns = engine.now_ns() + to_ns(seconds)
    while engine.now_ns() < until_ns:
        await asyncio.sleep(float(rng.exponential(1 / rate)))
        now_ns = engine.now_ns()
        job = Job(f"{name}{len(answers)}", "m", 2, 0.65, now_ns, now_ns + to_ns(0.15))
        answers.append(engine.post(job, inputs(2)))
    await asyncio.gather(*answers)
    return answers


def accuracy(answers: list["asyncio.Future[Answer]"]) -> float:
    """The mean accuracy of those that were served."""
    found = [answer.result().receipt.accuracy for answer in answers]
    return float(np.mean([each for each in found if each is not None]))


def on_time(answers: list["asyncio.Future[Answer]"]) -> float:
    """The share that was served."""
    return sum(answer.result().receipt.outcome is State.SERVED for answer in answers) / len(answers)


@in_virtual_time
async def test_accuracy_gives_first_and_hardware_follows() -> None:
    """In a burst jobs run in cheaper modes until new workers are warm; then accuracy is back; then they go."""
    asked: list[int] = []
    engine, journal = elastic(6, asked=asked)
    await engine.start()
    quiet = await load(engine, 30, 5, "quiet")
    assert engine.staff.size == 1
    burst = await load(engine, 200, 3, "burst")
    later = await load(engine, 200, 8, "later")
    assert engine.staff.ready >= 3
    end = await load(engine, 200, 3, "end")
    assert accuracy(burst) < accuracy(quiet) - 0.05
    assert accuracy(end) > accuracy(burst) + 0.05
    assert min(on_time(quiet), on_time(later), on_time(end)) > 0.98
    assert on_time(burst) > 0.9
    most = engine.staff.size
    after = await load(engine, 5, 70, "after")
    assert engine.staff.size < most
    assert on_time(after) == 1
    assert asked[-1] == engine.staff.size
    told = [event for entry in journal for event in entry.events if isinstance(event, WorkerRetiring)]
    done = [action for entry in journal for action in entry.actions if isinstance(action, Retired)]
    assert [event.worker for event in told] == [action.worker for action in done]
    await engine.stop()


@in_virtual_time
async def test_a_removed_worker_ends_what_it_has_and_its_place_can_be_taken_again() -> None:
    """No batch is lost when it goes, and a new one in its place serves."""
    engine, _ = elastic(2, 2)
    await engine.start()
    answers = [engine.post(_job(engine, n), inputs(4)) for n in range(20)]
    await asyncio.sleep(0.005)
    assert engine.staff.shrink()
    assert not engine.staff.shrink()
    await asyncio.gather(*answers)
    assert {answer.result().receipt.outcome for answer in answers} == {State.SERVED}
    await asyncio.sleep(0.1)
    assert engine.snapshot().workers == ("ready",)
    assert engine.staff.grow()
    assert not engine.staff.grow()
    await asyncio.sleep(WARM_S + 0.1)
    assert engine.snapshot().workers == ("ready", "ready")
    again = [engine.post(_job(engine, 100 + n), inputs(4)) for n in range(20)]
    await asyncio.gather(*again)
    assert {run.worker for answer in again for run in answer.result().receipt.batches} == {0, 1}
    assert engine.snapshot().lost_workers == 0
    await engine.stop()


@in_virtual_time
async def test_growing_keeps_a_worker_that_drains() -> None:
    """It is not stopped, and takes work again."""
    engine, _ = elastic(2, 2)
    await engine.start()
    answers = [engine.post(_job(engine, n), inputs(4)) for n in range(12)]
    await asyncio.sleep(0.005)
    assert engine.staff.shrink()
    assert engine.staff.grow()
    await asyncio.gather(*answers)
    assert engine.staff.size == engine.staff.ready == 2
    await engine.stop()


@in_virtual_time
async def test_a_worker_that_dies_while_it_drains_is_gone() -> None:
    """Its batch is run by the one that is left, and nobody starts it anew."""
    engine, _ = elastic(2, 2)
    await engine.start()
    answers = [engine.post(_job(engine, n), inputs(4)) for n in range(20)]
    await asyncio.sleep(0.005)
    assert engine.staff.shrink()
    channel = engine.staff.channels[1]
    assert isinstance(channel, SlowToWarm)
    channel.lose("killed")
    await asyncio.gather(*answers)
    await asyncio.sleep(0.1)
    assert {answer.result().receipt.outcome for answer in answers} == {State.SERVED}
    assert engine.snapshot().workers == ("ready",)
    await engine.stop()


@in_virtual_time
async def test_a_worker_that_cannot_be_added_leaves_the_others_at_work() -> None:
    """Its place is free again, and the engine goes on."""
    world = World(workers=1, most=2, start=lambda worker: "no such device" if worker else "")
    await world.engine.start()
    assert world.engine.staff.grow()
    await asyncio.sleep(0.01)
    assert world.engine.staff.states == ("ready",)
    assert world.engine.staff.grow()
    await world.engine.stop()


def test_rates_that_rise_count_as_they_will_be_when_workers_are_warm() -> None:
    """A rate that grows is carried on; one that does not is taken as it is."""
    flat, rising = (Autoscaler([TABLE], Rules(1, 50)) for _ in range(2))
    for n in range(1000):
        flat.note(_at(n * 5e-3), to_ns(n * 5e-3))
        rising.note(_at(5 * (n / 1000) ** 0.5), to_ns(5 * (n / 1000) ** 0.5))
    now_ns = 5 * NS_PER_S
    assert rising.rates(now_ns).cheapest > 1.5 * flat.rates(now_ns).cheapest
    assert flat.rates(now_ns).accurate > 2 * flat.rates(now_ns).cheapest
    assert rising.wanted(1, now_ns) > 1


def test_workers_go_one_by_one_when_fewer_have_been_enough_for_long() -> None:
    """Not at once when the load falls, and never below the least."""
    scaler = Autoscaler([TABLE], Rules(2, 8, patience_ns=10 * NS_PER_S))
    assert scaler.wanted(4, 0) == 4
    assert scaler.wanted(4, 9 * NS_PER_S) == 4
    assert scaler.wanted(4, 10 * NS_PER_S) == 3
    assert scaler.wanted(3, 11 * NS_PER_S) == 3
    assert scaler.wanted(3, 20 * NS_PER_S) == 2
    assert scaler.wanted(2, 60 * NS_PER_S) == 2


def _job(engine: Engine, number: int) -> Job:
    now_ns = engine.now_ns()
    return Job(f"j{number}", "m", 4, 0.65, now_ns, now_ns + 10 * NS_PER_S)


def _at(seconds: float) -> Job:
    return Job("j", "m", 2, 0.65, to_ns(seconds), to_ns(seconds + 1))
