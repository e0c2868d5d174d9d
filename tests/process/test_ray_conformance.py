"""Scenarios that tie the simulator and the local engine together, on actors of a Ray cluster in real time."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from mosel.core.clock import to_ns, to_s
from mosel.core.states import OUTCOMES
from mosel.core.types import Job
from mosel.online.engine import Answer, Engine
from mosel.online.events import Complete, Dispatch, Entry, WorkerLost
from mosel.online.layout import Layout
from mosel.online.ray_channel import RayChannel, cluster, ray_channels
from mosel.online.serving import EngineConfig, ServedModel
from tests.conformance.worlds import Outage, Scenario, inputs, jobs
from tests.process.scenario_model import model
from tests.process.test_engine import QUICK

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

S = 1_000_000_000
MOST = 3
WORD = "tests.process.scenario_model:model"

SCENARIOS = (
    Scenario("overload", jobs(3, 150, 200)),
    Scenario(
        "missing modalities and cancellations",
        jobs(5, 80, 80, partial=True),
        workers=2,
        cancels=tuple((job.arrival_ns + 9_000_011, job.id) for job in jobs(5, 80, 80, partial=True)[::3]),
    ),
    Scenario(
        "a worker lost and back",
        jobs(6, 120, 100, latency_slo_s=0.3),
        workers=2,
        outages=(Outage(0, S // 4, 0),),
    ),
    Scenario("groups", jobs(12, 150, 150), workers=3, layout=Layout(3, 2)),
)


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    """Hold an embedded cluster."""
    with cluster("", EngineConfig(workers=MOST)):
        yield


async def lived(scenario: Scenario) -> tuple[list[Entry], dict[str, Answer | None], tuple[Job, ...]]:
    """Run a scenario on actors; returns the journal, what clients got, and the jobs as they came."""
    models = [ServedModel(WORD, model, scenario.profiles["m"])]
    config = EngineConfig(workers=scenario.workers, patience=QUICK)
    journal: list[Entry] = []
    channels = ray_channels(models, config, embedded=True)
    engine = Engine(models, config, scheduler=scenario.scheduler(), channels=channels, journal=journal)
    await engine.start()
    began_ns = engine.now_ns() + to_ns(0.05)
    loop, futures, came = asyncio.get_running_loop(), dict[str, asyncio.Future[Answer]](), list[Job]()

    def post(job: Job) -> None:
        now_ns = engine.now_ns()
        slo_ns = job.deadline_ns - job.arrival_ns
        came.append(replace(job, arrival_ns=now_ns, deadline_ns=now_ns + slo_ns))
        futures[job.id] = engine.post(came[-1], inputs(job.requests))

    def cancel(name: str) -> None:
        futures[name].cancel()

    def kill(worker: int) -> None:
        channel = engine.staff.channels[worker]
        assert isinstance(channel, RayChannel)
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGKILL)

    start = to_s(began_ns - engine.now_ns()) + loop.time()
    for job in scenario.jobs:
        loop.call_at(start + to_s(job.arrival_ns), post, job)
    for at_ns, name in scenario.cancels:
        loop.call_at(start + to_s(at_ns), cancel, name)
    for outage in scenario.outages:
        loop.call_at(start + to_s(outage.from_ns), kill, outage.worker)
    await asyncio.sleep(to_s(scenario.jobs[-1].arrival_ns) + 0.2)
    await asyncio.wait(futures.values(), timeout=60)
    await engine.stop()
    answers = {name: None if found.cancelled() else found.result() for name, found in futures.items()}
    return journal, answers, tuple(came)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_scenario_on_actors(scenario: Scenario) -> None:
    """One outcome a job, which its client gets; no expired work; and told again, the same decisions."""
    journal, answers, came = await lived(scenario)
    receipts = [a.receipt for entry in journal for a in entry.actions if isinstance(a, Complete)]
    assert sorted(receipt.job.id for receipt in receipts) == sorted(job.id for job in scenario.jobs)
    cancelled = {name for _, name in scenario.cancels}
    for receipt in receipts:
        answer = answers[receipt.job.id]
        assert receipt.outcome in OUTCOMES
        assert answer.receipt == receipt if answer else receipt.job.id in cancelled
    due_ns = {job.id: job.deadline_ns for job in came}
    sent = [(e.now_ns, a.batch) for e in journal for a in e.actions if isinstance(a, Dispatch)]
    assert all(now_ns <= due_ns[part.job] for now_ns, batch in sent for part in batch.parts)
    lost = [event for entry in journal for event in entry.events if isinstance(event, WorkerLost)]
    assert len(lost) >= len(scenario.outages)
    again = scenario.scheduler()
    for entry in journal:
        assert tuple(again.handle(entry.events, entry.now_ns)) == entry.actions
