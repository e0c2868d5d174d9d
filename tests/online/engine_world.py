"""An engine in virtual time with a scheduler and workers that do as a test says."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mosel.core.clock import monotonic_ns
from mosel.core.errors import ExecutionError
from mosel.core.states import Reason, State
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.online import virtual
from mosel.online.channel import GivenUp, Outputs, ProfiledChannel, Report, Work, WorkerState
from mosel.online.engine import Engine
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Complete,
    Dispatch,
    Entry,
    Event,
    Finished,
    Scheduling,
)
from mosel.online.serving import EngineConfig, ServedModel
from mosel.online.turns import LONG_NS
from tests.conformance.worlds import model, profile

MS = 1_000_000
SERVED = [ServedModel("no:where", model(), profile())]


@dataclass
class Scripted:
    """A scheduler that answers each call with what `reply` makes of its events."""

    reply: Callable[[Sequence[Event], int], list[Action]]
    calls: list[tuple[list[Event], int]] = field(default_factory=list)

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Note the call and answer."""
        self.calls.append((list(events), now_ns))
        return self.reply(events, now_ns)


def job(name: str = "j", requests: int = 1, deadline_ns: int = 10**12) -> Job:
    """Return a job."""
    return Job(name, "m", requests, 0.5, 0, deadline_ns)


def receipt(of: Job, outcome: State = State.SERVED) -> Receipt:
    """Return what completes it."""
    done = outcome is State.SERVED
    return Receipt(of, outcome, Reason.ON_TIME, "", 0, 0 if done else None, 0.9 if done else None)


def batch(number: int, *parts: tuple[str, tuple[int, ...]], worker: int = 0) -> Batch:
    """Return a batch in the mode audio."""
    return Batch(number, worker, "m", "audio", 0, tuple(Part(*part) for part in parts), MS)


def echo(work: Work) -> Outputs:
    """Return the first number of every request, which is its index in its job, in whatever modality runs."""
    parts = next(iter(work.tensors.values()))
    return {"scores": np.concatenate([part[:, :1] for part in parts])}


def served(of: Batch) -> tuple[int, Finished]:
    """Let every batch take a millisecond and succeed."""
    return MS, Finished(of.id, MS)


class World:
    """An engine with its channels at hand, in virtual time if that is what the loop keeps."""

    def __init__(
        self,
        scheduler: Scheduling | None = None,
        *,
        workers: int = 1,
        most: int = 0,
        behaviour: Callable[[Batch], tuple[int, Finished | BatchFailed]] = served,
        outputs: Callable[[Work], Outputs] = echo,
        start: Callable[[int], str] = lambda _: "",
        long_ns: int = LONG_NS,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.channels: list[StubbornChannel] = []
        self.journal: list[Entry] = []

        def make(worker: int, report: Report) -> StubbornChannel:
            self.channels.append(StubbornChannel(worker, report, behaviour, outputs, start(worker)))
            return self.channels[-1]

        self.engine = Engine(
            SERVED,
            EngineConfig(workers=workers, most=most),
            scheduler=scheduler,
            channels=make,
            now_ns=loop.now_ns if isinstance(loop, virtual.VirtualLoop) else monotonic_ns,
            journal=self.journal,
            long_ns=long_ns,
        )


class StubbornChannel(ProfiledChannel):
    """A `ProfiledChannel` that may refuse to start, and may be given up."""

    def __init__(
        self,
        worker: int,
        report: Report,
        behaviour: Callable[[Batch], tuple[int, Finished | BatchFailed]],
        outputs: Callable[[Work], Outputs],
        problem: str,
    ) -> None:
        super().__init__(worker, report, behaviour, outputs)
        self.report, self.worker, self.problem, self.closed = report, worker, problem, False

    async def start(self) -> None:
        """Start, or say why not."""
        if self.problem:
            self.give_up()
            raise ExecutionError(self.problem)
        await super().start()

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
        await super().close()

    def give_up(self) -> None:
        """Report that the worker will not come back."""
        self.state = WorkerState.GIVEN_UP
        self.report(GivenUp(self.worker, "no more"))


def in_virtual_time(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run a test's coroutine on the virtual loop."""

    def run() -> None:
        virtual.run(test())

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


def whole(events: Sequence[Event], _now_ns: int) -> list[Action]:
    """Run each job as one batch as soon as it comes, and complete it when that is done."""
    actions: list[Action] = []
    for event in events:
        match event:
            case Arrived(found):
                number = int(found.id[1:] or 0)
                actions.append(Dispatch(batch(number, (found.id, tuple(range(found.requests))))))
            case Finished(number):
                actions.append(Complete(receipt(job(f"j{number}"))))
    return actions
