"""Workers that are Ray actors; what holds of worker processes (`test_engine.py`) holds of them."""

import asyncio
import os
import signal
import unittest.mock
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import ExecutionError, UsageError
from mosel.core.states import OUTCOMES, Reason, State
from mosel.core.types import Job
from mosel.online import ray_channel
from mosel.online.engine import Engine
from mosel.online.events import Dispatch, Entry, WorkerLost
from mosel.online.ray_channel import RayChannel, ask_for_nodes, check_room, cluster, ray_channels
from mosel.online.scheduler import Scheduler
from mosel.online.serving import EngineConfig, ServedModel
from tests.process import served_models, test_engine
from tests.process.served_models import CORRUPT, DIE, HANG, QUIT, RAISE
from tests.process.test_engine import LIMIT_S, QUICK, ask, has_ended, outcome, served, until

pytestmark = [
    pytest.mark.process,
    # Ray's own: it leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TWO = EngineConfig(workers=2, patience=QUICK)


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    """Hold an embedded cluster of two workers' size."""
    with cluster("", TWO):
        yield


@asynccontextmanager
async def engine(
    config: EngineConfig | None = None, journal: list[Entry] | None = None, model: ServedModel | None = None
) -> AsyncIterator[Engine]:
    """Run an engine whose workers are actors."""
    config = config or EngineConfig(patience=QUICK)
    models = [model or served()]
    channels = ray_channels(models, config, embedded=True)
    async with test_engine.engine(config, journal=journal, models=models, channels=channels) as running:
        yield running


def pids(of: Engine) -> list[int]:
    """Return the process ids of the actors that live."""
    channels = [channel for channel in of.staff.channels if isinstance(channel, RayChannel)]
    return [channel.pid for channel in channels if channel.pid is not None]


async def test_jobs_come_back_from_actors_with_their_outputs() -> None:
    """Jobs of several requests on two workers: each gets twice its own numbers, in order."""
    async with engine(TWO) as running:
        answers = [ask(running, *(i + k / 8 for k in range(1 + i % 6))) for i in range(40)]
        for i, answer in enumerate(answers):
            async with asyncio.timeout(LIMIT_S):
                found = await answer
            assert found.outputs is not None
            assert found.outputs["doubled"][:, 0].tolist() == [2 * (i + k / 8) for k in range(1 + i % 6)]
        assert {batch.worker for answer in answers for batch in answer.result().receipt.batches} == {0, 1}


async def test_the_scheduler_decides_the_same_when_a_live_run_is_told_to_it_again() -> None:
    """The journal of a run on actors, a death included, told to a fresh scheduler gives the same actions."""
    journal: list[Entry] = []
    async with engine(TWO, journal) as running:
        answers = [ask(running, *range(1 + i % 4), checked=1.0, slo_s=0.2, accuracy=0.85) for i in range(30)]
        await asyncio.sleep(0.01)
        os.kill(pids(running)[0], signal.SIGKILL)
        answers += [ask(running, *range(1 + i % 4)) for i in range(30)]
        assert {(await outcome(answer))[0] for answer in answers} <= set(OUTCOMES)
        await until(lambda: running.snapshot().lost_workers == 1)
    assert any(isinstance(event, WorkerLost) for entry in journal for event in entry.events)
    again = Scheduler(
        {"obedient": served().profile}, workers=2, policy=TWO.policy, seed=TWO.seed, options=TWO.options
    )
    for entry in journal:
        assert tuple(again.handle(entry.events, entry.now_ns)) == entry.actions


async def test_an_actor_killed_under_load_is_replaced_and_no_job_is_lost() -> None:
    """`kill -9` in the middle: every job has one outcome, and later ones are served by the new actor."""
    async with engine() as running:
        [old] = pids(running)
        answers = [ask(running, 1, 2, 3, slo_s=60) for _ in range(40)]
        await until(lambda: running.snapshot().batches > 2)
        os.kill(old, signal.SIGKILL)
        assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
        [new] = pids(running)
        assert new != old
        assert running.snapshot().lost_workers == 1
    await until(lambda: has_ended(new))


@pytest.mark.parametrize(
    ("number", "reason", "says"),
    [
        (RAISE, Reason.MODEL_FAILED, "unlucky number"),
        (DIE, Reason.WORKER_LOST, "died"),
        (QUIT, Reason.WORKER_LOST, "died"),
    ],
)
async def test_a_request_that_ruins_its_batch_fails_and_the_server_goes_on(
    number: float, reason: Reason, says: str
) -> None:
    """A model that raises, and inputs that end the actor: the job is told why, the next one is served."""
    async with engine() as running:
        bad = ask(running, number)
        assert await outcome(bad) == (State.FAILED, reason)
        assert says in bad.result().receipt.detail
        assert (await outcome(ask(running, 4)))[0] is State.SERVED


async def test_an_actor_that_hangs_is_killed_and_replaced() -> None:
    """A batch that is never answered ends as one whose worker was lost, and the next job is served."""
    async with engine(EngineConfig(patience=replace(QUICK, hang_least_s=3.0))) as running:
        bad = ask(running, HANG)
        assert await outcome(bad) == (State.FAILED, Reason.WORKER_LOST)
        assert "was not answered within 3 s" in bad.result().receipt.detail
        assert (await outcome(ask(running, 4)))[0] is State.SERVED


async def test_a_straggler_gets_less_and_no_expired_work_runs() -> None:
    """An actor that is stopped four fifths of the time: the other one takes over, each job has one outcome."""
    journal: list[Entry] = []
    async with engine(TWO, journal) as running:
        [slow, _] = pids(running)
        over = asyncio.Event()
        stopping = asyncio.create_task(_hold_up(slow, over))
        answers = []
        for i in range(150):
            answers.append(ask(running, *range(1 + i % 4), slo_s=0.5))
            await asyncio.sleep(0.005)
        found = [(await outcome(answer))[0] for answer in answers]
        over.set()
        await stopping
    assert set(found) <= {State.SERVED, State.LATE, State.DROPPED, State.REJECTED}
    assert found.count(State.SERVED) > 30
    due_ns = {answer.result().receipt.job.id: answer.result().receipt.job.deadline_ns for answer in answers}
    sent = [(e.now_ns, action.batch) for e in journal for action in e.actions if isinstance(action, Dispatch)]
    assert all(now_ns <= due_ns[part.job] for now_ns, batch in sent for part in batch.parts)
    assert sum(batch.worker == 0 for _, batch in sent) < sum(batch.worker == 1 for _, batch in sent)


async def _hold_up(pid: int, over: asyncio.Event) -> None:
    """Let a process run a fifth of the time."""
    while not over.is_set():
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.005)


async def test_actors_are_added_and_removed_under_load() -> None:
    """A second actor serves as soon as it is warm; removed, it drains, and no job is lost."""
    async with engine(EngineConfig(workers=1, most=2, patience=QUICK)) as running:
        answers = [ask(running, *range(1 + i % 4), slo_s=60) for i in range(200)]
        assert running.staff.grow()
        await until(lambda: running.staff.ready == 2)
        answers += [ask(running, *range(1 + i % 4), slo_s=60) for i in range(200)]
        await asyncio.sleep(0.05)
        [_, second] = pids(running)
        assert running.staff.shrink()
        assert {(await outcome(answer))[0] for answer in answers} == {State.SERVED}
        await until(lambda: running.snapshot().workers == ("ready",))
        await until(lambda: has_ended(second))
        assert {run.worker for answer in answers for run in answer.result().receipt.batches} == {0, 1}
        assert running.snapshot().lost_workers == 0


def test_ray_is_asked_for_as_many_devices_as_workers_need() -> None:
    """Its autoscaler hears of each worker's demands."""
    with unittest.mock.patch.object(ray_channel, "request_resources") as heard:
        ask_for_nodes(EngineConfig(device="cuda"))(3)
        ask_for_nodes(EngineConfig(threads=2))(1)
    assert [call.kwargs["bundles"] for call in heard.call_args_list] == [[{"GPU": 1.0}] * 3, [{"CPU": 2.0}]]


async def test_a_corrupt_modality_falls_back_to_another_mode() -> None:
    """What a modality's preprocessing refuses in an actor is told like in a worker process."""
    async with engine() as running:
        jobs = [ask(running, 3, checked=value, accuracy=0.75) for value in (1.0, CORRUPT, 2.0)]
        needy = ask(running, 3, checked=CORRUPT, accuracy=0.85)
        assert {(await outcome(answer))[0] for answer in jobs} == {State.SERVED}
        assert await outcome(needy) == (State.FAILED, Reason.BAD_INPUT)


async def test_large_tensors_pass_through_the_object_store() -> None:
    """Batches beyond what Ray sends inline, then small ones again, arrive unchanged."""
    model = served("mirror")
    async with engine(model=model) as running:
        for size in (10, 500_000, 3, 1_000_000, 10):
            now_ns = running.now_ns()
            job = Job(f"j{size}", "obedient", 1, 0.5, now_ns, now_ns + to_ns(30))
            values = np.arange(size, dtype=np.float32)[None] / size
            answer = await running.submit(job, {"plain": values})
            assert answer.outputs is not None
            np.testing.assert_array_equal(answer.outputs["doubled"], values * 2)


async def test_an_actor_that_cannot_start_says_why() -> None:
    """The engine does not start; its error carries the model's own."""
    model = served_models.obedient
    word = "tests.process.served_models:not_loading"
    config = EngineConfig(patience=replace(QUICK, attempts=2))
    one = ServedModel(word, model, served_models.profile(model))
    cannot = Engine([one], config, channels=ray_channels([one], config, embedded=True))
    with pytest.raises(ExecutionError, match=r"worker 0 cannot be started: .*weights are missing"):
        await cannot.start()


def test_more_workers_than_devices_are_refused() -> None:
    """The message says what is asked for, and what there is."""
    with pytest.raises(UsageError, match="3 workers need 3 GPUs; the Ray cluster has 0"):
        check_room(EngineConfig(workers=3, device="cuda"))
