"""The workers of an engine: those that run, and the places for more. They come and go under load.

Rules:
1. A worker that is added takes work as soon as it is warm. One that cannot be started leaves its place free.
2. A worker that is removed drains first: the scheduler sends it nothing more, and when it has ended what it
   holds (`Retired`) it is stopped. If it dies before, it is not started anew. To add one while it drains keeps
   it.
3. The last worker stays.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from mosel.core.errors import MoselError
from mosel.core.tables import Profile
from mosel.online.channel import Channel, ChannelFactory, News, Report, Work, WorkerState
from mosel.online.events import Event, WorkerLost, WorkerReady, WorkerRetiring

log = logging.getLogger(__name__)


class Staff:
    """Channels by worker number, and which of them are in use.

    Args:
        make: makes them.
        most: how many places there are.
        first: how many workers there are at first.
        report: where channels report.
        tell: tells the scheduler of an event.
        put: notes what `make` is to make a worker with, from then on.
    """

    def __init__(
        self,
        make: ChannelFactory,
        most: int,
        first: int,
        report: Report,
        tell: Callable[[Event], None],
        put: Callable[[int, Mapping[str, Profile]], None] = lambda _worker, _profiles: None,
    ) -> None:
        self.channels: list[Channel] = [make(worker, report) for worker in range(most)]
        self._make, self._report, self._put = make, report, put
        self._here = set(range(first))
        self._retiring: set[int] = set()
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """How many workers there are, less those that drain."""
        return len(self._here) - len(self._retiring)

    @property
    def ready(self) -> int:
        """How many of these are warm."""
        staying = self._here - self._retiring
        return sum(self.channels[worker].state is WorkerState.READY for worker in staying)

    @property
    def states(self) -> tuple[str, ...]:
        """Where each worker stands, in a word."""
        return tuple(self.channels[worker].state.value for worker in sorted(self._here))

    @property
    def given_up(self) -> bool:
        """Whether no worker can be started any more."""
        return all(self.channels[worker].state is WorkerState.GIVEN_UP for worker in self._here)

    async def start(self) -> list[BaseException]:
        """Start the first workers; return what went wrong when each is warm or given up."""
        starts = (self.channels[worker].start() for worker in sorted(self._here))
        found = await asyncio.gather(*starts, return_exceptions=True)
        return [failure for failure in found if failure is not None]

    async def close(self) -> None:
        """End all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self.channels))

    def send(self, work: Work) -> None:
        """Hand a batch to its worker."""
        self.channels[work.batch.worker].send(work)

    def forget(self, worker: int, job: str) -> None:
        """Let a worker let go of what it keeps of a job."""
        self.channels[worker].forget(job)

    def grow(self) -> bool:
        """Add a worker (rules 1 and 2); whether there was a place for it."""
        for worker in sorted(self._retiring):
            if self.channels[worker].state is WorkerState.READY:
                self._retiring.discard(worker)
                self._tell(WorkerReady(worker))
                return True
        free = [worker for worker in range(len(self.channels)) if worker not in self._here]
        if not free:
            return False
        self._here.add(free[0])
        self._keep(self._start(free[0]))
        return True

    def shrink(self) -> bool:
        """Remove a worker, one that is not warm yet if there is one (rules 2 and 3); whether it will go."""
        staying = sorted(self._here - self._retiring)
        warm = [worker for worker in staying if self.channels[worker].state is WorkerState.READY]
        cold = [worker for worker in staying if worker not in warm]
        if len(staying) < 2 or not (warm or cold):
            return False
        worker = cold[-1] if cold else warm[-1]
        self._retiring.add(worker)
        if worker in warm:
            self._tell(WorkerRetiring(worker))
        else:
            self.retired(worker)
        return True

    def heard(self, news: News) -> None:
        """Note what a channel reported: a worker that dies while it drains is gone."""
        if isinstance(news, WorkerLost) and news.worker in self._retiring:
            self.retired(news.worker)

    def retired(self, worker: int) -> None:
        """Stop a worker that has drained."""
        if worker in self._retiring and worker in self._here:
            self._here.discard(worker)
            self._keep(self._close(worker))

    def reload(self, worker: int, profiles: Mapping[str, Profile]) -> None:
        """End a worker that has drained, and start one in its place that has other models."""
        log.info("worker %d is loaded with %s", worker, ", ".join(profiles) or "nothing")
        self._put(worker, profiles)
        self._keep(self._reload(worker))

    async def _reload(self, worker: int) -> None:
        await self.channels[worker].close()
        self.channels[worker] = self._make(worker, self._report)
        try:
            await self.channels[worker].start()
        except MoselError as error:
            log.error("worker %d could not be loaded with other models: %s", worker, error)
            self._tell(WorkerLost(worker, str(error)))

    async def _start(self, worker: int) -> None:
        try:
            await self.channels[worker].start()
        except MoselError as error:
            log.warning("a worker could not be added: %s", error)
            self._here.discard(worker)

    async def _close(self, worker: int) -> None:
        self._here.add(worker)  # its place is taken until it is gone
        await self.channels[worker].close()
        self._here.discard(worker)
        self._retiring.discard(worker)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
