"""The faults: how each is brought about, and by what it is seen that the server noticed.

Each is a function that injects its fault once, under load, and returns whether it was observed: in a receipt,
in the server's own metrics or in how its processes end. None of them knows which seed it is.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import numpy as np

from mosel.core.states import State
from mosel.evaluation.chaos.jobs import Sender
from mosel.evaluation.chaos.server import (
    DOOR,
    GROUP,
    Metrics,
    Server,
    Setup,
    all_gone,
    descendants,
    read_metrics,
)
from mosel.models import faulty
from mosel.models.faulty import Fault

SLOW_S = 0.4


@dataclass(slots=True)
class Scene:
    """What a fault has to work with.

    Attributes:
        server: the process.
        session: to ask it.
        sender: sends jobs and counts.
        rng: for what is drawn by lot.
        room: at which batch sizes memory may still be said to run out, largest first; a server that has run
            out at one never again sends a larger batch.
        problems: what went wrong that no tally shows.
        torn: whether a front door was killed, with which its connections end.
    """

    server: Server
    session: aiohttp.ClientSession
    sender: Sender
    rng: np.random.Generator
    room: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    torn: bool = False

    async def metrics(self) -> Metrics:
        """Return the server's counts."""
        return await read_metrics(self.session, self.server)


async def worker_killed(scene: Scene) -> bool:
    """A worker is killed: the server counts it as lost and starts another."""
    before = await _when_ready(scene)
    worker = await _one_of(scene, scene.server.workers)
    if before is None or worker is None:
        return False
    os.kill(worker, signal.SIGKILL)
    return await _grows(scene, "mosel_lost_workers_total", before.total("mosel_lost_workers_total"))


async def group_killed(scene: Scene) -> bool:
    """A group is killed: its jobs go to another, its workers end, and it is started anew."""
    return await _killed(scene, GROUP)


async def door_killed(scene: Scene) -> bool:
    """A front door is killed: its clients lose their connections, and it is started anew."""
    return await _killed(scene, DOOR)


async def group_and_door_killed(scene: Scene) -> bool:
    """One of each at once."""
    return await _killed(scene, GROUP, DOOR)


async def worker_hung(scene: Scene) -> bool:
    """A batch is never done: its worker is killed, and its job's answer says why."""
    return await _told(scene, Fault.HANG, "was not answered within", slo_ms=1500.0)


async def model_raised(scene: Scene) -> bool:
    """The model raises: the job is tried once more, then it has failed."""
    return await _told(scene, Fault.RAISE, "asked to raise")


async def not_a_number(scene: Scene) -> bool:
    """The model answers NaN: that is not served."""
    return await _told(scene, Fault.NAN, "is not a number")


async def wrong_shape(scene: Scene) -> bool:
    """The model answers in another shape than it declares."""
    return await _told(scene, Fault.SHAPE, "of shape")


async def out_of_memory(scene: Scene) -> bool:
    """There is no memory for a batch: it runs in pieces, and its job is answered."""
    before = (await scene.metrics()).total("mosel_split_batches_total")
    if not scene.room:
        return False
    most = scene.room.pop(0)
    until_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < until_s:
        job = scene.sender.send(faulty.MAX_BATCH, Fault.MEMORY, most, accuracy_slo=0.95, slo_ms=2000.0)
        reply = await job
        if (await scene.metrics()).total("mosel_split_batches_total") > before:
            return reply is not None
        await asyncio.sleep(0.05)
    return False


async def device_slowed(scene: Scene) -> bool:
    """The device takes three times as long for a while: receipts show it, and jobs are answered."""
    limit_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < limit_s:
        await scene.sender.send(1, Fault.SLOW, SLOW_S, slo_ms=1000.0)
        if await _slow_batches(scene) >= 3:
            return True
    return False


async def client_gone(scene: Scene) -> bool:
    """Clients go away while their jobs wait: the server counts these as dropped."""
    for _ in range(5):
        jobs = [
            asyncio.create_task(scene.sender.send(faulty.MAX_BATCH, accuracy_slo=0.95, slo_ms=1000.0))
            for _ in range(8)
        ]
        await asyncio.sleep(0.02 + 0.01 * scene.rng.random())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        if await _counts_as_dropped(scene):
            return True
    return False


async def overload(scene: Scene) -> bool:
    """Far more arrives at once than can be served: some of it is refused or given up, all is answered."""
    replies = await asyncio.gather(*(scene.sender.send(8, slo_ms=60.0) for _ in range(150)))
    over = {State.REJECTED.value, State.DROPPED.value}
    return any(reply is not None and reply.receipt.get("outcome") in over for reply in replies)


async def terminated(scene: Scene) -> bool:
    """SIGTERM under load: what was accepted is answered, and the server ends by itself."""
    processes = scene.server.everything()
    status = await scene.server.end(signal.SIGTERM)
    gone = await all_gone(processes, scene.server.limits.gone)
    if status != 0 or not gone:
        scene.problems.append(
            f"after SIGTERM: exit status {status}, processes {'gone' if gone else 'left over'}"
        )
    return status == 0 and gone


async def server_killed(scene: Scene) -> bool:
    """SIGKILL under load: its workers end too, and another server takes its port."""
    processes = scene.server.everything()
    status = await scene.server.end(signal.SIGKILL)
    gone = await all_gone(processes, scene.server.limits.gone)
    if not gone:
        scene.problems.append("after SIGKILL: processes are left over")
    return status == -signal.SIGKILL and gone


Inject = Callable[[Scene], Awaitable[bool]]

ENDS: dict[str, Inject] = {"terminated": terminated, "server_killed": server_killed}
"""After these there is no server."""

FAULTS: dict[str, Inject] = {
    "worker_killed": worker_killed,
    "worker_hung": worker_hung,
    "out_of_memory": out_of_memory,
    "model_raised": model_raised,
    "not_a_number": not_a_number,
    "wrong_shape": wrong_shape,
    "device_slowed": device_slowed,
    "client_gone": client_gone,
    "overload": overload,
    **ENDS,
}


IN_FLEETS: dict[str, Inject] = {
    "group_killed": group_killed,
    "door_killed": door_killed,
    "group_and_door_killed": group_and_door_killed,
}
"""What is brought upon servers with front doors besides."""


def faults_of(setup: Setup) -> dict[str, Inject]:
    """Return what can be brought upon a server."""
    return {**IN_FLEETS, **FAULTS} if setup.front_doors else FAULTS


async def _one_of(scene: Scene, processes: Callable[[], list[int]]) -> int | None:
    """Return one process as soon as there is any; a worker may be starting."""
    until_s = time.monotonic() + scene.server.limits.noticed
    while not (found := processes()):
        if time.monotonic() > until_s:
            return None
        await asyncio.sleep(0.02)
    return found[int(scene.rng.integers(len(found)))]


async def _when_ready(scene: Scene) -> Metrics | None:
    """Return the server's counts once every worker is ready: one that only starts does not count as lost."""
    until_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < until_s:
        found = await scene.metrics()
        if found.ready_workers() >= scene.server.setup.workers:
            return found
        await asyncio.sleep(0.02)
    return None


async def _killed(scene: Scene, *modules: str) -> bool:
    """Kill one process that runs each of these modules; whether all is there again."""
    scene.torn |= DOOR in modules
    lost = [await _one_of(scene, partial(scene.server.kin, module)) for module in modules]
    theirs = [pid for one in lost if one is not None for pid in descendants(one)]
    for one in lost:
        if one is None:
            return False
        os.kill(one, signal.SIGKILL)
    if not await all_gone(theirs, scene.server.limits.gone):
        scene.problems.append(f"after {' and '.join(modules)} was killed: its workers are left over")
    until_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < until_s:
        if await _is_whole(scene):
            return True
        await asyncio.sleep(0.1)
    return False


async def _is_whole(scene: Scene) -> bool:
    """Whether every front door and every group is there, and a door has heard of each group."""
    setup, server = scene.server.setup, scene.server
    if len(server.kin(GROUP)) < setup.groups or len(server.kin(DOOR)) < setup.front_doors:
        return False
    return (await scene.metrics()).samples("mosel_queued_jobs") == setup.groups


async def _told(scene: Scene, fault: Fault, words: str, slo_ms: float = 500.0) -> bool:
    """Send a job that does harm; whether its answer says so."""
    until_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < until_s:
        reply = await scene.sender.send(int(scene.rng.integers(1, 4)), fault, slo_ms=slo_ms)
        if reply is not None and words in reply.error:
            return True
        await asyncio.sleep(0.05)  # a worker may be starting
    return False


async def _slow_batches(scene: Scene) -> int:
    """Send jobs while the device is slow, and count those whose receipts show it."""
    slow, until_s = 0, time.monotonic() + SLOW_S
    while time.monotonic() < until_s and slow < 3:
        reply = await scene.sender.send(1, slo_ms=1000.0)
        batches = json.loads(reply.receipt.get("batches", "[]")) if reply else []
        slow += any(
            one["finish"] - one["start"] > 2.5 * faulty.latency_s(one["mode"], one["size"]) for one in batches
        )
    return slow


async def _counts_as_dropped(scene: Scene) -> bool:
    """Whether the server counts more jobs as dropped than it told clients."""
    until_s = time.monotonic() + scene.server.limits.noticed / 5
    while time.monotonic() < until_s:
        if (await scene.metrics()).tally()["dropped"] > scene.sender.tally.answered["dropped"]:
            return True
        await asyncio.sleep(0.02)
    return False


async def _grows(scene: Scene, name: str, before: int) -> bool:
    until_s = time.monotonic() + scene.server.limits.noticed
    while time.monotonic() < until_s:
        if (await scene.metrics()).total(name) > before:
            return True
        await asyncio.sleep(0.02)
    return False
