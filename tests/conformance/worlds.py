"""Scenarios, and two drivers that run them: a plain loop over a heap, and the live engine in virtual time."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mosel.core.clock import to_ns, to_s
from mosel.core.tables import Device, Mode, Profile
from mosel.core.types import Batch, Job
from mosel.models.base import Modality, Model, Tensor
from mosel.online import virtual
from mosel.online.channel import ProfiledChannel, Report
from mosel.online.engine import Answer, Engine
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Corrupt,
    Dispatch,
    Entry,
    Event,
    Finished,
    Scheduling,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler
from mosel.online.serving import EngineConfig, ServedModel
from mosel.online.turns import LONG_NS

Outcome = tuple[int, Finished | BatchFailed]


def profile(name: str = "m", scale: float = 1.0) -> Profile:
    """Return a profile of two modalities, the dear one three times the cheap one."""
    sizes = (1, 2, 3, 4, 8)
    modes = (
        _mode(("audio",), 0.7, [scale * (2e-3 + 1e-3 * size) for size in sizes]),
        _mode(("video",), 0.8, [scale * (4e-3 + 3e-3 * size) for size in sizes]),
        _mode(("audio", "video"), 0.9, [scale * (6e-3 + 4e-3 * size) for size in sizes]),
    )
    return Profile(
        format="mosel.profile/1",
        model=name,
        modalities=("audio", "video"),
        metric="accuracy",
        batch_sizes=sizes,
        modes=modes,
        device=Device("chosen", "host"),
        precision="float32",
        software={},
        measured_at="2026-01-01T00:00:00Z",
    )


def model(name: str = "m") -> Model:
    """Return the model that goes with `profile`; in virtual time nobody runs it."""
    return Model(
        name=name,
        modalities=(
            Modality("audio", (Tensor("wave", "FP32", (2,)),)),
            Modality("video", (Tensor("frames", "FP32", (3,)),)),
        ),
        outputs=(Tensor("scores", "FP32", (1,)),),
        load=lambda _device, _precision: lambda **tensors: next(iter(tensors.values()))[:, :1],
        framework="numpy",
    )


def inputs(requests: int) -> dict[str, "np.typing.NDArray[np.float32]"]:
    """Return inputs of a job: every request's rows hold its index."""
    index = np.arange(requests, dtype=np.float32)[:, None]
    return {"wave": np.repeat(index, 2, axis=1), "frames": np.repeat(index, 3, axis=1)}


def latency_ns(found: Profile, batch: Batch) -> int:
    """Return what the profile says that a batch takes."""
    mode = found.mode_named(batch.mode)
    return to_ns(dict(zip(found.sizes_of(mode), mode.latency_s, strict=True))[batch.size])


@dataclass(frozen=True)
class Outage:
    """A worker is lost at one time and back at another."""

    worker: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True)
class Scenario:
    """A load and what goes wrong under it."""

    name: str
    jobs: tuple[Job, ...]
    profiles: dict[str, Profile] = field(default_factory=lambda: {"m": profile()})
    policy: str = "optimized"
    workers: int = 1
    layout: Layout | None = None
    lead_ns: int = 1_000_000
    outages: tuple[Outage, ...] = ()
    cancels: tuple[tuple[int, str], ...] = ()
    fails: Callable[[Batch], bool] = lambda _: False
    corrupts: Callable[[Batch], bool] = lambda _: False

    def scheduler(self) -> Scheduling:
        """Return a fresh scheduler for it, or a fleet."""
        options = Options(lead_ns=self.lead_ns)
        if self.layout is not None:
            return Fleet(
                self.profiles,
                workers=self.workers,
                layout=self.layout,
                policy=self.policy,
                seed=7,
                options=options,
            )
        return Scheduler(self.profiles, workers=self.workers, policy=self.policy, seed=7, options=options)

    def behaviour(self, batch: Batch) -> Outcome:
        """Return how long a batch takes and what comes of it."""
        took_ns = latency_ns(self.profiles[batch.model], batch)
        if self.fails(batch):
            return took_ns, BatchFailed(batch.id, "ValueError: no")
        undone = corrupt(batch) if self.corrupts(batch) else ()
        return took_ns, Finished(batch.id, took_ns, undone)


def corrupt(batch: Batch) -> tuple[Corrupt, ...]:
    """Return that the first part's first modality could not be decoded."""
    part = batch.parts[0]
    modality = batch.mode.split("+")[0]
    return tuple(Corrupt(part.job, request, modality, "ValueError: noise") for request in part.requests)


def jobs(
    seed: int,
    count: int,
    rate: float,
    *,
    models: Sequence[str] = ("m",),
    partial: bool = False,
    burst: int = 1,
    latency_slo_s: float = 0.1,
) -> tuple[Job, ...]:
    """Return `count` jobs, `rate` a second and `burst` at a time; some lack a modality if `partial`."""
    rng = np.random.default_rng(seed)
    arrivals_s = np.cumsum(rng.exponential(burst / rate, -(-count // burst)))
    made = []
    for number, at_s in enumerate(np.repeat(arrivals_s, burst)[:count]):
        arrival_ns = to_ns(float(at_s)) + 1
        has = (("audio",), ("video",), ())[rng.integers(3)] if partial else ()
        slo_s = latency_slo_s * float(rng.uniform(0.5, 2))
        made.append(
            Job(
                id=f"j{number}",
                model=models[int(rng.integers(len(models)))],
                requests=int(rng.integers(1, 7)),
                accuracy_slo=float(rng.uniform(0.6, 0.9)),
                arrival_ns=arrival_ns,
                deadline_ns=arrival_ns + to_ns(slo_s),
                modalities=has,
            )
        )
    return tuple(made)


def by_heap(scenario: Scenario) -> list[Entry]:
    """Run a scenario with nothing but a heap, the scheduler and rule 1 of `simulate.py`."""
    return _Heap(scenario).run()


class _Heap:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.scheduler: Scheduling = scenario.scheduler()
        self.counter = itertools.count()
        self.heap: list[tuple[int, int, int, Event]] = []
        self.held: list[list[Batch]] = [[] for _ in range(scenario.workers)]
        self.wake_ns: int | None = None
        self.over: set[str] = set()
        for worker in range(scenario.workers):
            self.push(0, 1, WorkerReady(worker))
        for outage in scenario.outages:
            self.push(outage.from_ns, 1, WorkerLost(outage.worker, "outage"))
            self.push(outage.to_ns, 1, WorkerReady(outage.worker))
        for job in scenario.jobs:
            self.push(job.arrival_ns, 2, Arrived(job))
        for at_ns, job_id in scenario.cancels:
            self.push(at_ns, 3, Cancelled(job_id))

    def push(self, at_ns: int, rank: int, event: Event) -> None:
        heapq.heappush(self.heap, (at_ns, rank, next(self.counter), event))

    def run(self) -> list[Entry]:
        journal: list[Entry] = []
        while self.heap or self.wake_ns is not None:
            times = [at for at in (self.heap[0][0] if self.heap else None, self.wake_ns) if at is not None]
            now_ns = max(min(times), journal[-1].now_ns if journal else 0)
            if events := self.due(now_ns):
                actions = self.scheduler.handle(events, now_ns)
                journal.append(Entry(tuple(events), now_ns, tuple(actions)))
                for action in actions:
                    self.act(action, now_ns)
        return journal

    def due(self, now_ns: int) -> list[Event]:
        events: list[Event] = []
        while self.heap and self.heap[0][0] <= now_ns:
            event = heapq.heappop(self.heap)[3]
            if self.is_news(event, now_ns):
                events.append(event)
            if isinstance(event, WorkerLost):
                self.held[event.worker].clear()
        if self.wake_ns is not None and self.wake_ns <= now_ns:
            self.wake_ns = None
            events.append(Tick())
        return events

    def is_news(self, event: Event, now_ns: int) -> bool:
        if isinstance(event, Finished | BatchFailed):
            return self.end(event, now_ns)
        return not isinstance(event, Cancelled) or event.job not in self.over

    def end(self, event: Finished | BatchFailed, now_ns: int) -> bool:
        held = next((held for held in self.held if held and held[0].id == event.batch), None)
        if held is None:
            return False  # its worker was lost
        held.pop(0)
        if held:
            self.begin(held[0], now_ns)
        return True

    def begin(self, batch: Batch, now_ns: int) -> None:
        took_ns, news = self.scenario.behaviour(batch)
        self.push(now_ns + took_ns, 0, news)

    def act(self, action: Action, now_ns: int) -> None:
        if isinstance(action, Dispatch):
            held = self.held[action.batch.worker]
            held.append(action.batch)
            if len(held) == 1:
                self.begin(action.batch, now_ns)
        elif isinstance(action, WakeAt):
            self.wake_ns = action.at_ns
        elif isinstance(action, Complete):
            self.over.add(action.receipt.job.id)


@dataclass(frozen=True)
class Lived:
    """What came of a scenario in the live engine: its journal, and each job's answer (None if cancelled)."""

    journal: list[Entry]
    answers: dict[str, Answer | None]


def by_engine(scenario: Scenario, long_ns: int = LONG_NS) -> Lived:
    """Run a scenario through the live engine in virtual time; -1 lets it decide beside the event loop only."""
    return virtual.run(_live(scenario, long_ns))


async def _live(scenario: Scenario, long_ns: int) -> Lived:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual.VirtualLoop)
    channels: list[ProfiledChannel] = []

    def make(worker: int, report: Report) -> ProfiledChannel:
        channels.append(ProfiledChannel(worker, report, scenario.behaviour))
        return channels[-1]

    journal: list[Entry] = []
    engine = Engine(
        [ServedModel("no:where", model(name), found) for name, found in scenario.profiles.items()],
        EngineConfig(workers=scenario.workers),
        scheduler=scenario.scheduler(),
        channels=make,
        now_ns=loop.now_ns,
        journal=journal,
        long_ns=long_ns,
    )
    await engine.start()
    futures: dict[str, asyncio.Future[Answer]] = {}

    def post(together: list[Job]) -> None:
        for job in together:
            futures[job.id] = engine.post(job, inputs(job.requests))

    def cancel(job_id: str) -> None:
        futures[job_id].cancel()

    for arrival_ns, together in itertools.groupby(scenario.jobs, key=lambda job: job.arrival_ns):
        loop.call_at(to_s(arrival_ns), post, list(together))
    for at_ns, job_id in scenario.cancels:
        loop.call_at(to_s(at_ns), cancel, job_id)
    for outage in scenario.outages:
        loop.call_at(to_s(outage.from_ns), channels[outage.worker].lose, "outage")
        loop.call_at(to_s(outage.to_ns), channels[outage.worker].recover)
    await asyncio.sleep(to_s(scenario.jobs[-1].arrival_ns) + 5)
    await engine.stop()
    answers = {name: None if found.cancelled() else found.result() for name, found in futures.items()}
    return Lived(journal, answers)


def _mode(modalities: tuple[str, ...], accuracy: float, latency_s: list[float]) -> Mode:
    return Mode(modalities, accuracy, accuracy, 100, latency_s, latency_s, [0] * len(latency_s))


served = model()
"""What workers find under `tests.conformance.worlds:served`."""
