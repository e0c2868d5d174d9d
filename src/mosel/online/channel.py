"""The seam between the engine and whatever runs its batches: a `Channel` for each worker.

`ProcessChannel` (`process_channel.py`) is the real one. It has two stand-ins: `ProfiledChannel`, here, runs
nothing and answers when the profile says that the batch would be done, in virtual time if need be;
`ThreadChannel` (`thread_channel.py`) runs the models in a thread of this process. A channel decides nothing and
knows no deadlines.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct
from numpy.typing import NDArray

from mosel.core.clock import to_ns, to_s
from mosel.core.types import Batch
from mosel.online.events import BatchFailed, Corrupt, Finished, WorkerLost, WorkerReady
from mosel.online.wire import Undone

Outputs = Mapping[str, NDArray[Any]]


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    GIVEN_UP = "given_up"


class Work(Struct, frozen=True):
    """A batch and what it runs on.

    Attributes:
        batch: as the scheduler sent it.
        modalities: of its mode, in the model's order.
        precision: of its mode.
        tensors: the chosen modalities' tensors as they arrived: for each name one array (requests, *shape) for
            every part of the batch.
        first: the modalities of the stage that it resumes, if it does.
    """

    batch: Batch
    modalities: tuple[str, ...]
    precision: str
    tensors: Mapping[str, Sequence[NDArray[Any]]]
    first: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[Any, ...]:
        """What is said of features: `keep_below`, `first`, `resumes` and `parts` of `wire.Run`."""
        batch = self.batch
        if batch.keep_below is None and not batch.resumed:
            return None, (), (), ()
        parts = tuple((part.job, part.requests) for part in batch.parts)
        return batch.keep_below, self.first, batch.resumes, parts


class GivenUp(Struct, frozen=True):
    """The worker will not come back; `detail` is the last that was heard of it."""

    worker: int
    detail: str


News = WorkerReady | WorkerLost | Finished | BatchFailed | GivenUp


class Report(Protocol):
    """How a channel tells the engine, on the event loop, what came of things.

    With `Finished` come the outputs: for each name one array over the requests that ran, in the order of the
    batch's parts. They are valid during the call only; who keeps them copies them.
    """

    def __call__(self, news: News, outputs: Outputs | None = None, /) -> None:
        """Take the news."""


class Channel(Protocol):
    """One worker as the engine sees it. It holds at most one batch running and one waiting."""

    @property
    def state(self) -> WorkerState:
        """Where the worker stands."""

    async def start(self) -> None:
        """Return when the worker is warm, having reported `WorkerReady`.

        Raises:
            ExecutionError: it cannot be started, for the reason that the message gives.
        """

    def send(self, work: Work) -> None:
        """Hand over a batch. Exactly one of `Finished`, `BatchFailed` and `WorkerLost` will be reported."""

    def forget(self, job: str) -> None:
        """Let the worker let go of what it keeps of a job, if it is there."""

    async def close(self) -> None:
        """End the worker and free everything; nothing is reported any more."""


ChannelFactory = Callable[[int, Report], Channel]
"""Makes the channel of a worker, given its number and where to report."""

Behaviour = Callable[[Batch], tuple[int, Finished | BatchFailed]]
"""How long a batch occupies the worker, in nanoseconds, and what then comes of it."""


class ProfiledChannel:
    """A worker that runs nothing: each batch takes as long as `behaviour` says. Made for virtual time.

    Args:
        worker: its number.
        report: where to report.
        behaviour: see `Behaviour`.
        outputs: what a finished batch returns, given its work; nothing by default.
    """

    def __init__(
        self,
        worker: int,
        report: Report,
        behaviour: Behaviour,
        outputs: Callable[[Work], Outputs] = lambda _: {},
    ) -> None:
        self.state = WorkerState.STARTING
        self._worker = worker
        self._report = report
        self._behaviour = behaviour
        self._outputs = outputs
        self._waiting: deque[Work] = deque()
        self._running: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Report the worker ready."""
        self.recover()

    def send(self, work: Work) -> None:
        """Run the batch when those before it are done."""
        if self.state is not WorkerState.READY:
            return  # lost meanwhile: `WorkerLost` speaks for this batch too
        self._waiting.append(work)
        if self._running is None:
            self._begin(to_ns(asyncio.get_running_loop().time()))

    def forget(self, job: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Forget what is running."""
        self._forget()

    def lose(self, detail: str) -> None:
        """Let the worker die with everything it holds."""
        self._forget()
        self.state = WorkerState.LOST
        self._report(WorkerLost(self._worker, detail))

    def recover(self) -> None:
        """Let the worker be ready (again)."""
        self.state = WorkerState.READY
        self._report(WorkerReady(self._worker))

    def _begin(self, at_ns: int) -> None:
        work = self._waiting.popleft()
        took_ns, news = self._behaviour(work.batch)
        finish_ns = at_ns + took_ns
        loop = asyncio.get_running_loop()
        self._running = loop.call_at(to_s(finish_ns), self._finish, finish_ns, work, news)

    def _finish(self, finish_ns: int, work: Work, news: Finished | BatchFailed) -> None:
        self._running = None
        if self._waiting:
            self._begin(finish_ns)
        self._report(news, self._outputs(work) if isinstance(news, Finished) else None)

    def _forget(self) -> None:
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()
            self._running = None


def finished(batch: Batch, took_ns: int, undone: Sequence[Undone], *told: Any) -> Finished:
    """Return the event for a batch that ran; an undone part is undone in every one of its requests.

    What else was `told` of it stands in the order of `Finished`.
    """
    corrupt = tuple(
        Corrupt(batch.parts[u.part].job, request, u.modality, u.detail)
        for u in undone
        for request in batch.parts[u.part].requests
    )
    return Finished(batch.id, took_ns, corrupt, *told)
