import asyncio
import gc
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop

from mosel.core.clock import to_ns
from mosel.core.errors import ExecutionError
from mosel.core.states import OUTCOMES, Reason, State
from mosel.core.types import Job
from mosel.online import process_channel
from mosel.online.channel import ChannelFactory
from mosel.online.engine import Answer, Engine
from mosel.online.events import Entry, WorkerLost
from mosel.online.process_channel import ProcessChannel
from mosel.online.scheduler import Scheduler
from mosel.online.serving import EngineConfig, ServedModel
from mosel.online.watched_channel import Patience
from tests.process import served_models
from tests.process.served_models import CORRUPT, DIE, HANG, LEAVE, QUIT, RAISE

pytestmark = pytest.mark.process

LIMIT_S = 60
QUICK = Patience(pause_s=0.01)

numbers = itertools.count()


def served(name: str = "obedient") -> ServedModel:
    """Return one of the models in `served_models`."""
    model = getattr(served_models, name)
    return ServedModel(f"tests.process.served_models:{name}", model, served_models.profile(model))


@asynccontextmanager
async def engine(
    config: EngineConfig | None = None,
    *,
    journal: list[Entry] | None = None,
    models: Sequence[ServedModel] = (),
    channels: ChannelFactory | None = None,
) -> AsyncIterator[Engine]:
    """Run an engine, by default with worker processes."""
    config = config or EngineConfig(patience=QUICK)
    found = Engine(models or [served()], config, journal=journal, channels=channels)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def ask(
    to: Engine, *plain: float, checked: float | None = None, slo_s: float = 30, accuracy: float = 0.75
) -> "asyncio.Future[Answer]":
    """Hand in a job with one request for each number in `plain`."""
    now_ns = to.now_ns()
    modalities = ("plain",) if checked is None else ("checked", "plain")
    name, deadline_ns = f"j{next(numbers)}", now_ns + to_ns(slo_s)
    job = Job(name, "obedient", len(plain), accuracy, now_ns, deadline_ns, modalities)
    inputs = {"plain": np.array(plain, np.float32)[:, None]}
    if checked is not None:
        inputs["raw"] = np.full((len(plain), 1), checked, np.float32)
    return to.post(job, inputs)


async def outcome(answer: "asyncio.Future[Answer]") -> tuple[State, Reason]:
    """Return how a job ended, waiting for it if need be."""
    async with asyncio.timeout(LIMIT_S):
        receipt = (await answer).receipt
    return receipt.outcome, receipt.reason


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  (what is waited for is outside this process)
            await asyncio.sleep(0.005)


def pids(of: Engine) -> list[int]:
    """Return the process ids of the workers that live."""
    channels = [channel for channel in of.staff.channels if isinstance(channel, ProcessChannel)]
    return [channel.pid for channel in channels if channel.pid is not None]


def has_ended(pid: int) -> bool:
    """Say whether a process is gone or only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def descriptors() -> Counter[str]:
    """Return what this process has open, by what it is."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            found[os.readlink(f"/proc/self/fd/{name}").split(":")[0]] += 1  # noqa: PTH115
        except FileNotFoundError:
            continue  # the listing's own
    return found


async def test_jobs_come_back_from_a_process_with_their_outputs() -> None:
    """Jobs of several requests, many at once: each gets twice its own numbers, in order."""
    async with engine() as running:
        answers = [ask(running, *(i + k / 8 for k in range(1 + i % 6))) for i in range(20)]
        for i, answer in enumerate(answers):
            async with asyncio.timeout(LIMIT_S):
                outputs = (await answer).outputs
            assert outputs is not None
            assert outputs["doubled"][:, 0].tolist() == [2 * (i + k / 8) for k in range(1 + i % 6)]


def test_it_runs_on_uvloop() -> None:
    """The same engine serves on the event loop that the HTTP server brings."""

    async def main() -> State:
        async with engine() as running:
            return (await outcome(ask(running, 1, 2, 3)))[0]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) is State.SERVED


async def test_the_scheduler_decides_the_same_when_a_live_run_is_told_to_it_again() -> None:
    """The journal of a live engine, a death included, told to a fresh scheduler gives the same actions."""
    journal: list[Entry] = []
    config = EngineConfig(workers=2, patience=QUICK)
    async with engine(config, journal=journal) as running:
        answers = [ask(running, *range(1 + i % 4), checked=1.0, slo_s=0.2, accuracy=0.85) for i in range(30)]
        await asyncio.sleep(0.01)
        os.kill(pids(running)[0], signal.SIGKILL)
        answers += [ask(running, *range(1 + i % 4)) for i in range(30)]
        assert {(await outcome(answer))[0] for answer in answers} <= set(OUTCOMES)
    assert any(isinstance(event, WorkerLost) for entry in journal for event in entry.events)
    again = Scheduler(
        {"obedient": served().profile},
        workers=2,
        policy=config.policy,
        seed=config.seed,
        options=config.options,
    )
    for entry in journal:
        assert tuple(again.handle(entry.events, entry.now_ns)) == entry.actions


async def test_a_worker_killed_under_load_is_replaced_and_no_job_is_lost() -> None:
    """`kill -9` in the middle: every job has one outcome, and later ones are served by the new process."""
    async with engine() as running:
        [old] = pids(running)
        answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(40)]
        await until(lambda: running.snapshot().batches > 2)
        os.kill(old, signal.SIGKILL)
        outcomes = [await outcome(answer) for answer in answers]
        assert {state for state, _ in outcomes} == {State.SERVED}
        [new] = pids(running)
        assert new != old
        assert (await outcome(ask(running, 5)))[0] is State.SERVED
        assert running.snapshot().lost_workers == 1
    assert has_ended(old)
    assert has_ended(new)


@pytest.mark.parametrize(
    ("number", "reason", "says"),
    [
        (RAISE, Reason.MODEL_FAILED, "unlucky number"),
        (DIE, Reason.WORKER_LOST, "signal 9 (Killed)"),
        (QUIT, Reason.WORKER_LOST, "status 3: the last words"),
        (LEAVE, Reason.WORKER_LOST, "status 1: SystemExit: I had enough"),
    ],
)
async def test_a_request_that_ruins_its_batch_fails_and_the_server_goes_on(
    number: float, reason: Reason, says: str
) -> None:
    """A model that raises, and inputs that kill the worker: the job is told why, the next one is served."""
    async with engine() as running:
        bad = ask(running, number)
        assert await outcome(bad) == (State.FAILED, reason)
        assert says in bad.result().receipt.detail
        assert (await outcome(ask(running, 4)))[0] is State.SERVED


def test_a_batch_for_a_worker_that_was_just_lost_breaks_nothing() -> None:
    """The connection is gone before the worker's end is known: the batch is lost with it, and run again."""

    async def main() -> State:
        async with engine() as running:
            [channel] = running.staff.channels
            assert isinstance(channel, ProcessChannel)
            assert isinstance(channel._life, process_channel._Life)
            assert channel._life._transport is not None
            channel._life._transport.abort()
            return (await outcome(ask(running, 1, 2)))[0]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) is State.SERVED


async def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    """A batch that is never answered ends as one whose worker was lost, and the next job is served."""
    patience = replace(QUICK, hang_least_s=0.3)
    async with engine(EngineConfig(patience=patience)) as running:
        bad = ask(running, HANG)
        assert await outcome(bad) == (State.FAILED, Reason.WORKER_LOST)
        assert "was not answered within 0.3 s" in bad.result().receipt.detail
        assert (await outcome(ask(running, 4)))[0] is State.SERVED


async def test_a_corrupt_modality_falls_back_to_another_mode() -> None:
    """A job with one modality that cannot be decoded runs without it; its neighbours are untouched."""
    async with engine() as running:
        jobs = [ask(running, 3, checked=value, accuracy=0.75) for value in (1.0, CORRUPT, 2.0)]
        needy = ask(running, 3, checked=CORRUPT, accuracy=0.85)
        expected = {0: (8.0, 6.0), 1: (6.0,), 2: (10.0, 6.0)}
        for i, answer in enumerate(jobs):
            assert (await outcome(answer))[0] is State.SERVED
            outputs = answer.result().outputs
            assert outputs is not None
            assert float(outputs["doubled"][0, 0]) in expected[i]
        assert await outcome(needy) == (State.FAILED, Reason.BAD_INPUT)


async def test_cancelled_jobs_leave_and_others_stay() -> None:
    """Of jobs that wait, half are cancelled: the others are served, and nothing is left over."""
    async with engine() as running:
        answers = [ask(running, i) for i in range(30)]
        await until(lambda: running.snapshot().batches > 0)
        for answer in answers[::2]:
            answer.cancel()
        assert {(await outcome(answer))[0] for answer in answers[1::2]} == {State.SERVED}
        await until(lambda: running.snapshot().queued_jobs == 0)


async def test_a_drain_serves_what_was_accepted() -> None:
    """Jobs handed in before the drain are served; the engine is then empty."""
    async with engine() as running:
        answers = [ask(running, i) for i in range(20)]
        await running.drain(LIMIT_S)
        assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}


async def test_a_drain_that_is_too_short_ends_the_rest() -> None:
    """A job whose worker hangs is told at the limit of the drain that the server stops."""
    async with engine() as running:
        stuck = ask(running, HANG)
        await running.drain(0.05)
        assert await outcome(stuck) == (State.DROPPED, Reason.SHUTDOWN)


async def test_nothing_is_left_after_a_stop() -> None:
    """No process, no open file and no memory of the workers outlives the engine, a killed worker's included."""
    async with engine():
        pass  # what asyncio itself opens on first use is not counted
    gc.collect()
    before = descriptors()
    async with engine(EngineConfig(workers=2, patience=QUICK)) as running:
        workers = pids(running)
        answers = [ask(running, *range(6), slo_s=60) for _ in range(10)]
        os.kill(workers[0], signal.SIGKILL)
        assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
        workers += pids(running)
    gc.collect()
    assert descriptors() == before
    assert all(has_ended(pid) for pid in workers)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("not_loading", "weights are missing"),
        ("dying", "exited with status 4: out of cheese"),
        ("absent", "absent"),
    ],
)
async def test_a_worker_that_cannot_start_says_why(name: str, says: str) -> None:
    """The engine does not start; its error carries the worker's own last line; nothing stays behind."""
    model = served_models.obedient
    word = f"tests.process.served_models:{name}"
    cannot = Engine(
        [ServedModel(word, model, served_models.profile(model))],
        EngineConfig(patience=replace(QUICK, attempts=2)),
    )
    with pytest.raises(ExecutionError, match=f"worker 0 cannot be started: .*{says}"):
        await cannot.start()
    assert not pids(cannot)


async def test_a_worker_that_takes_too_long_to_start_is_given_up() -> None:
    """The message names the limit."""
    patience = replace(QUICK, start_limit_s=0.01, attempts=2)
    slow = Engine([served()], EngineConfig(patience=patience))
    with pytest.raises(ExecutionError, match=r"was not ready after 0\.01 s"):
        await slow.start()


async def test_stopping_while_workers_start_leaves_nothing() -> None:
    """A start that is interrupted, as by Ctrl-C, leaves no process."""
    others = set(children())  # that tests before left, as the one that tracks resources
    slow = Engine([served()], EngineConfig(workers=2, patience=QUICK))
    starting = asyncio.create_task(slow.start())
    await until(lambda: len(set(children()) - others) == 2)
    workers = set(children()) - others
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await slow.stop()
    assert all(has_ended(pid) for pid in workers)


async def test_large_inputs_pass_through_growing_memory() -> None:
    """Batches that outgrow the shared memory, then small ones again, arrive unchanged."""
    running = Engine([served("mirror")], EngineConfig(patience=QUICK))
    await running.start()
    for size in (10, 500_000, 3, 1_000_000, 10):
        now_ns = running.now_ns()
        job = Job(f"j{size}", "obedient", 1, 0.5, now_ns, now_ns + to_ns(30))
        values = np.arange(size, dtype=np.float32)[None] / size
        answer = await running.submit(job, {"plain": values})
        assert answer.outputs is not None
        np.testing.assert_array_equal(answer.outputs["doubled"], values * 2)
    await running.stop()


def children() -> list[int]:
    """Return the processes that this one started, however far they have come."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found
