"""A worker that is an actor of a Ray cluster; `watched_channel.py` says when the next one is started.

`ray_worker.py` is the other side. Tensors travel through Ray's object store, which a node's processes share.
Ray itself restarts and repeats nothing: what becomes of a lost batch is the scheduler's to decide.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mosel.core.errors import UsageError
from mosel.core.types import Batch
from mosel.online import wire
from mosel.online.autoscaling import Ask
from mosel.online.channel import Channel, ChannelFactory, Report, Work, finished
from mosel.online.events import BatchFailed
from mosel.online.execution import one_line
from mosel.online.ray_worker import RayWorker
from mosel.online.serving import EngineConfig, Holdings, ServedModel, patience_of, start_message
from mosel.online.tasks import Result
from mosel.online.watched_channel import HangWatch, Patience, WatchedChannel

try:
    import ray
    from ray.autoscaler.sdk import request_resources
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayActorError, RayError, RayTaskError
except ImportError as error:
    raise UsageError("engine ray needs the package ray: pip install 'mosel[ray]'") from error

log = logging.getLogger(__name__)

EMBEDDED = "local"

ANSWER_LIMIT_S = 5.0
"""How long the head of a cluster is waited for."""

NO_ROOM = (ObjectStoreFullError, OutOfDiskError)
"""What a batch fails with, and no worker: another batch may well fit."""

Demands = Mapping[str, float]
"""What Ray has to hold ready for a worker, as options of an actor."""


@contextmanager
def cluster(address: str, config: EngineConfig) -> Iterator[str]:
    """Be connected to a Ray cluster inside the block, and yield its address.

    Args:
        address: of a cluster that runs already; empty starts one on this machine, which ends with the block.
        config: says how many workers there have to be room for.

    Raises:
        UsageError: there is no cluster at that address, or it has too few devices.
    """
    if address:
        _check_answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    most = max(config.workers, config.most)
    room = {"num_cpus": max(os.cpu_count() or 1, most * config.threads), "include_dashboard": False}
    try:
        ray.init(address or EMBEDDED, log_to_driver=False, configure_logging=False, **({} if address else room))
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        where = f"no Ray cluster answers at {address!r}" if address else "Ray does not start here"
        raise UsageError(f"{where}: {one_line(error)}") from error
    try:
        check_room(config)
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Look whether anything listens there: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(
            f"ray address {address!r}: expected HOST:PORT of a cluster's head, as `ray start` prints it"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_LIMIT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"no Ray cluster answers at {address!r}: {error}") from error


def check_room(config: EngineConfig) -> None:
    """Check that the cluster has devices for the workers asked for.

    Raises:
        UsageError: it has too few of them.
    """
    held = ray.cluster_resources()
    for kind, each in demands(config).items():
        wanted, there = each * config.workers, held.get("CPU" if kind == "num_cpus" else "GPU", 0)
        if wanted > there:
            raise UsageError(
                f"{config.workers} workers need {wanted:g} {'CPUs' if kind == 'num_cpus' else 'GPUs'}; "
                f"the Ray cluster has {there:g}: add nodes, or ask for fewer workers"
            )


def demands(config: EngineConfig) -> Demands:
    """Return what Ray has to hold ready for each worker."""
    return {"num_gpus": 1.0} if config.device.startswith("cuda") else {"num_cpus": float(config.threads)}


def ask_for_nodes(config: EngineConfig) -> Ask:
    """Return what asks Ray's own autoscaler for as many devices as so many workers need.

    A cluster that has no autoscaler, such as one of `ray start`, notes the wish and stays as it is.
    """
    each = {"CPU" if kind == "num_cpus" else "GPU": number for kind, number in demands(config).items()}

    def ask(workers: int) -> None:
        request_resources(bundles=[each] * workers)

    return ask


def ray_channels(
    models: Sequence[ServedModel], config: EngineConfig, holdings: Holdings | None = None, *, embedded: bool
) -> ChannelFactory:
    """Return what makes workers of Ray actors; in an embedded cluster they keep to cores as processes do."""
    patience = patience_of(models, config)
    held = holdings or Holdings(models)

    def make(worker: int, report: Report) -> Channel:
        start = start_message(worker, held.of(worker), config)
        if not embedded:
            start = _anywhere(start)
        return RayChannel(report, start, patience, demands(config))

    return make


class RayChannel(WatchedChannel):
    """One actor after the other.

    Args:
        report: where to report.
        start: what each of them is told first.
        patience: how long to wait for it.
        demands: what Ray holds ready for it.
    """

    def __init__(self, report: Report, start: wire.Start, patience: Patience, demands: Demands) -> None:
        super().__init__(start.worker, report, patience, lambda: _Life(start, report, patience, demands))

    @property
    def pid(self) -> int | None:
        """The id of the process of the actor that lives now, on its node, if one does."""
        return self._life.pid if isinstance(self._life, _Life) else None


class _Life:
    """One actor from its start to its end."""

    def __init__(self, start: wire.Start, report: Report, patience: Patience, demands: Demands) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pid: int | None = None
        self._start = start
        self._report = report
        self._demands = demands
        self._actor: Any = None
        self._over = False
        self._why_killed = ""
        self._held: deque[Batch] = deque()
        self._answers: asyncio.Queue[tuple[Batch, Any]] = asyncio.Queue()
        self._hang = HangWatch(patience, self._kill)
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> wire.StartFailed | None:
        """Place the actor and wait until it is warm; return why it will not be, if so."""
        try:
            self._actor = await asyncio.to_thread(self._place)  # it waits for the head, which may be away
            self.pid = await self._actor.pid.remote()
            problem: wire.StartFailed | None = await self._actor.warm_up.remote()
        except RayError as error:
            return wire.StartFailed(epitaph(error), final=False)
        self._keep(self._wait_for_end())
        self._keep(self._listen())
        return problem

    def _place(self) -> Any:
        options = {"max_restarts": 0, "max_task_retries": 0, "num_cpus": 0, **self._demands}
        return ray.remote(RayWorker).options(**options).remote(self._start)

    def send(self, work: Work) -> None:
        """Put the tensors where the actor finds them and ask it to run the batch."""
        batch = work.batch
        tensors = {name: list(parts) for name, parts in work.tensors.items()}
        try:
            what = batch.model, work.modalities, work.precision, tensors, batch.judged
            answer = self._actor.run.remote(*what)
        except RayError as error:  # the object store is full, say
            self._report(
                BatchFailed(batch.id, f"no room in Ray's object store for the batch: {one_line(error)}")
            )
            return
        self._held.append(batch)
        if len(self._held) == 1:
            self._hang.watch(batch)
        self._answers.put_nowait((batch, answer))

    def forget(self, job: str) -> None:
        """Nothing is kept: an actor runs each stage of a cascade whole."""

    async def end(self, limit_s: float) -> None:
        """Kill the actor: it holds nothing that would have to be saved."""
        del limit_s
        self._over = True
        self._hang.end()
        if self._actor is not None:
            ray.kill(self._actor)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        """Take the answers in the order in which the batches were sent, in which the device gives them."""
        while True:
            batch, answer = await self._answers.get()
            try:
                result: Result = await answer
            except RayTaskError as error:
                cause = error.cause if isinstance(error.cause, Exception) else error
                if not isinstance(cause, NO_ROOM):  # the device is of no use: a model's error is in the result
                    self._kill(one_line(cause))
                    return
                result = Result(failure=f"no room in Ray's object store for the outputs: {one_line(cause)}")
            except RayActorError:
                return  # `ended` tells of it
            except RayError as error:  # an object was lost with its node, or there is no room for it
                result = Result(failure=one_line(error))
            self._answered()
            if result.failure is not None:
                self._report(BatchFailed(batch.id, result.failure))
            else:
                told = finished(batch, result.took_ns, result.undone, result.confidence, result.fits)
                self._report(told, result.outputs)

    def _answered(self) -> None:
        self._held.popleft()
        self._hang.watch(self._held[0] if self._held else None)

    async def _wait_for_end(self) -> None:
        try:
            await self._actor.live.remote()
        except RayError as error:
            if not self._over:
                self.ended.set_result(self._why_killed or epitaph(error))

    def _kill(self, why: str) -> None:
        self._why_killed = self._why_killed or why
        ray.kill(self._actor)

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def epitaph(error: BaseException) -> str:
    """Return in one line how an actor ended, less what Ray repeats in each of its messages."""
    return f"Ray actor ended: {one_line(error)}"


def _anywhere(start: wire.Start) -> wire.Start:
    """Return the message for a worker on whatever node: Ray chose its device, and it keeps to no core."""
    device = "cuda:0" if start.device.startswith("cuda") else start.device
    return wire.Start(start.worker, device, start.threads, (), (), start.models)
