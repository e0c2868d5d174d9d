"""A campaign: seed after seed of load with faults in it, on one server as long as it lives, and the tally."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from mosel.evaluation.chaos.faults import ENDS, Scene, faults_of
from mosel.evaluation.chaos.jobs import Sender, Tally
from mosel.evaluation.chaos.server import DEFAULT, Server, Setup, read_metrics
from mosel.models import faulty

LOAD_S = 0.5
"""How long a seed's load lasts at least."""

PER_SEED = 2
LAST_LINES = 5


@dataclass(slots=True)
class Campaign:
    """What a campaign found.

    Attributes:
        seeds: how many were run.
        sent: jobs.
        outcomes: what became of them.
        broken: how many of the failed ones lost their connection with a server that was ended.
        injected: how often each fault was.
        observed: how often the server noticed.
        problems: what did not come out even, with the seed.
        server_starts: how many servers it took.
        took_s: wall time.
    """

    seeds: int = 0
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    server_starts: int = 0
    took_s: float = 0.0

    def take(self, tally: Tally) -> None:
        """Add what became of the jobs that one server was sent."""
        self.sent += tally.sent
        self.outcomes += tally.outcomes()
        self.broken += tally.broken


def draw(seeds: int, seed: int, setup: Setup = DEFAULT) -> list[tuple[str, ...]]:
    """Return each seed's faults, in order: all kinds equally often, one that ends the server last.

    So they do over several campaigns of one length too whose seeds follow one another.
    """
    rng = np.random.default_rng(seed)
    names = list(faults_of(setup))
    count = seeds * PER_SEED
    deck = [names[(seed * count + i) % len(names)] for i in range(count)]
    first, second = (list(rng.permutation(np.array(deck[half::PER_SEED]))) for half in range(PER_SEED))
    found = []
    for pair in zip(first, second, strict=True):
        faults = sorted((str(name) for name in pair), key=lambda name: name in ENDS)
        found.append(tuple(faults[:1] if all(name in ENDS for name in faults) else faults))
    return found


async def run_campaign(
    seeds: int,
    seed: int,
    rate: float,
    setup: Setup,
    on_seed: Callable[[Campaign], None],
) -> Campaign:
    """Run so many seeds.

    Args:
        seeds: how many.
        seed: which faults, when, and what load.
        rate: jobs a second.
        setup: of the server.
        on_seed: is told after each.

    Raises:
        NotReadyError: a server does not start.
    """
    found, began_s = Campaign(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mosel-chaos-") as folder:
        server = Server(Path(folder), setup)
        runner = _Runner(server, found, rate)
        try:
            for number, faults in enumerate(draw(seeds, seed, setup)):
                await runner.run(number, faults, np.random.default_rng([seed, number]))
                found.seeds += 1
                found.took_s, found.server_starts = time.monotonic() - began_s, server.starts
                on_seed(found)
            await runner.finish()
        finally:
            await runner.close()
            await server.close()
    return found


class _Runner:
    """Runs seeds, starting a server whenever there is none."""

    def __init__(self, server: Server, found: Campaign, rate: float) -> None:
        self._server = server
        self._found = found
        self._rate = rate
        self._faults = faults_of(server.setup)
        self._scene: Scene | None = None

    async def run(self, number: int, faults: tuple[str, ...], rng: np.random.Generator) -> None:
        """Run one seed."""
        scene = await self._ready(rng)
        if "out_of_memory" in faults and not scene.room:
            await self.finish()
            scene = await self._ready(rng)
        scene.rng = rng
        async with self._load(scene):
            for fault in faults:
                await asyncio.sleep(LOAD_S / PER_SEED * rng.random())
                self._found.injected[fault] += 1
                try:
                    self._found.observed[fault] += await self._faults[fault](scene)
                except (aiohttp.ClientError, TimeoutError):  # no fault but two may end it
                    faults = (*faults, await self._ended_by_itself(scene))
                    break
        await self._check(number, faults, scene)

    async def finish(self) -> None:
        """End the server that there is, as a seed that terminates it does."""
        if self._scene is not None:
            await self._server.end(signal.SIGTERM)
            await self._check(self._found.seeds, ("terminated",), self._scene)

    async def close(self) -> None:
        """Close the connections."""
        if self._scene is not None:
            await self._scene.session.close()

    async def _ended_by_itself(self, scene: Scene) -> str:
        """Note that the server is gone or silent, with its last words; returns what that counts as."""
        status = await self._server.end(signal.SIGKILL)
        said = " / ".join(self._server.last_words.splitlines()[-LAST_LINES:])
        scene.problems.append(f"the server ended by itself, with status {status}: {said}")
        return "server_killed"

    async def _ready(self, rng: np.random.Generator) -> Scene:
        if self._scene is None:
            await self._server.start()
            limit = aiohttp.ClientTimeout(total=self._server.limits.answer)
            session = aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0))
            room = [size for size in (8, 4, 2, 1) if size < faulty.MAX_BATCH]
            self._scene = Scene(self._server, session, Sender(session, self._server.url), rng, room)
        return self._scene

    @contextlib.asynccontextmanager
    async def _load(self, scene: Scene) -> AsyncIterator[None]:
        """Send jobs at random times; ends when what happens meanwhile has ended and all are answered."""
        stop = asyncio.Event()
        jobs: set[asyncio.Task[object]] = set()
        load = asyncio.create_task(_send_jobs(scene, self._rate, np.random.default_rng(scene.rng), stop, jobs))
        began_s = time.monotonic()
        try:
            yield
            if self._scene is not None and self._server.workers():
                await asyncio.sleep(max(0.0, LOAD_S - (time.monotonic() - began_s)))
        finally:
            stop.set()
            await load
            await asyncio.gather(*jobs)

    async def _check(self, number: int, faults: tuple[str, ...], scene: Scene) -> None:
        """Compare the client's count with the server's, and let go of a server that ended."""
        tally = scene.sender.tally
        if "server_killed" in faults:
            problems = tally.problems(None)
        elif "terminated" in faults:
            told = self._server.final_tally()
            problems = (
                tally.problems(told, torn=scene.torn)
                if told is not None
                else ["the server did not say its tally"]
            )
        else:
            try:
                problems = await _settled(scene)
            except (aiohttp.ClientError, TimeoutError):
                faults = (*faults, await self._ended_by_itself(scene))
                problems = tally.problems(None)
        problems += scene.problems
        scene.problems.clear()
        self._found.problems += [f"seed {number} ({', '.join(faults)}): {problem}" for problem in problems]
        if any(fault in ENDS for fault in faults):
            self._found.take(tally)
            await scene.session.close()
            self._scene = None


async def _send_jobs(
    scene: Scene,
    rate: float,
    rng: np.random.Generator,
    stop: asyncio.Event,
    jobs: set[asyncio.Task[object]],
) -> None:
    while not stop.is_set():
        send = scene.sender.send(
            int(rng.integers(1, 5)),
            accuracy_slo=float(rng.choice([0.6, 0.7, 0.9])),
            slo_ms=float(rng.choice([40.0, 100.0, 400.0])),
        )
        jobs.add(asyncio.create_task(send))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), float(rng.exponential(1 / rate)))


async def _settled(scene: Scene) -> list[str]:
    """Return what does not come out even once the server has noticed everything."""
    until_s = time.monotonic() + scene.server.limits.settle
    while True:
        metrics = await read_metrics(scene.session, scene.server)
        problems = scene.sender.tally.problems(metrics.tally(), torn=scene.torn)
        if metrics.total("mosel_queued_jobs"):
            problems.append(f"{metrics.total('mosel_queued_jobs')} jobs are left in the queue")
        if not problems or time.monotonic() > until_s:
            return problems
        await asyncio.sleep(0.02)
