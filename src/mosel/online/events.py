"""What the scheduler is told (events) and what it asks for (actions). Frozen values, nothing else.

`Scheduler.handle(events, now_ns) -> list[Action]` is the whole interface; the live engine and the simulator
are two drivers of it. Neither knows more than what stands here.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from mosel.core.tables import Profile
from mosel.core.types import Batch, Job, Receipt


class Arrived(Struct, frozen=True):
    """A job's headers were received and its parameters checked."""

    job: Job


class Cancelled(Struct, frozen=True):
    """The client of a job went away; nobody waits for its answer."""

    job: str


class WorkerReady(Struct, frozen=True):
    """A worker is warm and can take batches (again); with `profiles`, it has other models than before."""

    worker: int
    profiles: Mapping[str, Profile] | None = None


class WorkerRetiring(Struct, frozen=True):
    """A worker is to be stopped: it gets no more batches; `Retired` tells when it has ended those it holds."""

    worker: int


class WorkerLost(Struct, frozen=True):
    """A worker died or was given up; every batch that it held is lost."""

    worker: int
    detail: str


class Corrupt(Struct, frozen=True):
    """One request of a batch did not run, because `modality` could not be decoded; `detail` says why."""

    job: str
    request: int
    modality: str
    detail: str


class Finished(Struct, frozen=True):
    """A batch ran: each of its requests is done, except those that `undone` names.

    `took_ns` is how long the batch occupied the device, as the worker measured it. Of a batch that is `judged`,
    `confidence` has one number for each request that ran, in the order of the parts: one that is unsure by its
    cascade's threshold is not done, but waits for the next stage. It counts as unsure if the number is missing.
    `fits` is 0, unless the device had no memory for the whole batch: then it ran in pieces of at most so many.
    `kept` says, as `confidence`, of which requests the worker keeps features for the next stage; `whole` that
    it ran requests of a `resumed` batch without, because they were gone.
    """

    batch: int
    took_ns: int
    undone: tuple[Corrupt, ...] = ()
    confidence: tuple[float, ...] = ()
    fits: int = 0
    kept: tuple[bool, ...] = ()
    whole: bool = False

    def kept_of(self, batch: Batch) -> set[tuple[str, int]]:
        """Return of which requests the worker keeps features, by job and index."""
        if not self.kept:
            return set()
        return {one for one, kept in zip(self._ran(batch), self.kept, strict=False) if kept}

    def confidences(self, batch: Batch) -> dict[tuple[str, int], float]:
        """Return the confidence in each request that ran, by job and index, as far as it is known."""
        if not self.confidence:
            return {}
        return dict(zip(self._ran(batch), self.confidence, strict=False))

    def _ran(self, batch: Batch) -> list[tuple[str, int]]:
        undone = {(corrupt.job, corrupt.request) for corrupt in self.undone}
        every = [(part.job, request) for part in batch.parts for request in part.requests]
        return [one for one in every if one not in undone]


class BatchFailed(Struct, frozen=True):
    """The model raised on a batch; the worker lives. `detail` is one line."""

    batch: int
    detail: str


class Tick(Struct, frozen=True):
    """The time of a `WakeAt` has come."""


class Shutdown(Struct, frozen=True):
    """The drain's limit is over: every job that is left ends now."""


Event = (
    Arrived | Cancelled | WorkerReady | WorkerRetiring | WorkerLost | Finished | BatchFailed | Tick | Shutdown
)


class Dispatch(Struct, frozen=True):
    """Send this batch to its worker. It starts when the worker's batch in hand, if any, is done."""

    batch: Batch


class Complete(Struct, frozen=True):
    """The job has its one outcome; tell its client."""

    receipt: Receipt


class WakeAt(Struct, frozen=True):
    """Send a `Tick` at this time; a later `WakeAt` replaces an earlier one."""

    at_ns: int


class Retired(Struct, frozen=True):
    """A worker that was retiring has nothing in hand and gets nothing: it may be stopped."""

    worker: int


class Reload(Struct, frozen=True):
    """A worker that has drained is to be loaded with other models; `WorkerReady` tells when it has been."""

    worker: int
    profiles: Mapping[str, Profile]


Action = Dispatch | Complete | WakeAt | Retired | Reload


class Entry(Struct, frozen=True):
    """One call of the scheduler: what it was told, when, and what it asked for."""

    events: tuple[Event, ...]
    now_ns: int
    actions: tuple[Action, ...]


class Scheduling(Protocol):
    """What drivers drive: `scheduler.Scheduler`, `fleet.Fleet`, or a stand-in in tests."""

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened until `now_ns` and return what is to be done."""
