"""A world of its own for the scheduler's tests: profiles, jobs, and a virtual clock that checks as it goes."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mosel.core.arrays import UNAVAILABLE, latency_table
from mosel.core.clock import NS_PER_MS, to_ns
from mosel.core.states import State
from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.core.types import Batch, Job, Receipt
from mosel.online.events import Action, Arrived, Complete, Dispatch, Event, Finished, Tick, WakeAt, WorkerReady
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler

MS = NS_PER_MS

MODES: Mapping[str, tuple[float, float, float]] = {
    "audio": (0.67, 0, 20),
    "video": (0.70, 0, 30),
    "audio+video": (0.80, 0, 60),
}
"""The paper's Fig. 2: per mode its accuracy, and the fixed and per-request part of its latency in ms."""


def profile(
    modes: Mapping[str, tuple[float, float, float]] | None = None,
    *,
    sizes: Sequence[int] = (1, 2, 3, 4),
    model: str = "m",
    scale: float = 1.0,
    buckets: Sequence[float] = (),
    batch_limit: Mapping[str, int] | None = None,
) -> Profile:
    """A profile whose latencies are linear in the batch size; bucket b is b + 1 times as slow."""
    given = MODES if modes is None else modes
    names = tuple(dict.fromkeys(name for mode in given for name in mode.split("+")))
    limits = batch_limit or {}

    def mode(name: str, accuracy: float, fixed_ms: float, slope_ms: float) -> Mode:
        limit = limits.get(name)
        own = [size for size in sizes if size <= (limit or sizes[-1])]
        row = [scale * (fixed_ms + slope_ms * size) / 1000 for size in own]
        rows = [[(bucket + 1) * value for value in row] for bucket in range(len(buckets))]
        ones = [[1] * len(own) for _ in buckets]
        columns: tuple[Any, Any, Any] = (rows, rows, ones) if buckets else (row, row, [1] * len(own))
        return Mode(tuple(name.split("+")), accuracy, accuracy, 0, *columns, None, limit)

    return Profile(
        PROFILE_FORMAT,
        model,
        names,
        "accuracy",
        tuple(sizes),
        tuple(mode(name, *what) for name, what in given.items()),
        Device("none", "host"),
        "float32",
        {},
        "2026-01-01T00:00:00Z",
        length_buckets=tuple(buckets) or None,
    )


def job(
    name: str = "j",
    requests: int = 1,
    slo: float = 0.67,
    *,
    at: float = 0,
    due: float = 1000,
    model: str = "m",
    modalities: tuple[str, ...] = (),
    weight: float = 1.0,
    length: float | None = None,
) -> Job:
    """A job that arrives at `at` ms and is due at `due` ms."""
    times = to_ns(at / 1000), to_ns(due / 1000)
    return Job(name, model, requests, slo, *times, modalities, weight, length=length)


def dispatched(actions: Sequence[Action]) -> list[Batch]:
    """The batches that were sent."""
    return [action.batch for action in actions if isinstance(action, Dispatch)]


def completed(actions: Sequence[Action]) -> list[Receipt]:
    """The receipts that were given."""
    return [action.receipt for action in actions if isinstance(action, Complete)]


def scheduler(policy: str = "optimized", workers: int = 1, up: bool = True, **options: Any) -> Scheduler:
    """A scheduler of Fig. 2's profile whose workers, if `up`, are ready at 0."""
    found = Scheduler({"m": profile()}, workers=workers, policy=policy, options=Options(**options))
    if up:
        assert found.handle([WorkerReady(worker) for worker in range(workers)], 0) == []
    return found


def told(found: Scheduler, *events: Event, at: float = 0) -> list[Action]:
    """Hand events over at a time in ms."""
    return found.handle(events, round(at * MS))


def receipt_of(actions: Sequence[Action]) -> Receipt:
    """The one receipt among these actions."""
    (receipt,) = completed(actions)
    return receipt


@dataclass(slots=True)
class World:
    """Workers that take what the profile says, or what `took_ns` makes of it.

    Attributes:
        scheduler: what is driven.
        latency_ns: by (model, mode, bucket, size).
        took_ns: (batch, profiled latency) → how long it takes.
        receipts: by job id, in the order in which they came.
        batches: (batch, start, end) in the order in which they were sent.
    """

    scheduler: Scheduler
    latency_ns: dict[tuple[str, str, int, int], int]
    took_ns: Callable[[Batch, int], int] = lambda _batch, profiled_ns: profiled_ns
    receipts: dict[str, Receipt] = field(default_factory=dict)
    batches: list[tuple[Batch, int, int]] = field(default_factory=list)
    now_ns: int = 0
    calls: int = 0
    _wake_ns: int | None = None
    _heap: list[tuple[int, int, int, Event]] = field(default_factory=list)
    _free_ns: dict[int, int] = field(default_factory=dict)

    def at(self, time_ns: int, event: Event, rank: int = 2) -> None:
        """Let something happen; at the same time lower ranks come first."""
        heapq.heappush(self._heap, (time_ns, rank, len(self._heap) + 1000 * self.calls, event))

    def tick_at(self, time_ns: int) -> None:
        """Tick although the scheduler did not ask for it."""
        self.at(time_ns, Tick(), 3)

    def run(self, until_ns: int = 1 << 62) -> "World":
        """Let time pass until nothing is left to happen, or until a time."""
        while (now_ns := self._next_ns()) is not None and now_ns <= until_ns:
            events: list[Event] = []
            while self._heap and self._heap[0][0] == now_ns:
                events.append(heapq.heappop(self._heap)[3])
            if self._wake_ns == now_ns:
                self._wake_ns = None
                events.append(Tick())
            self.now_ns = now_ns
            self.calls += 1
            for action in self.scheduler.handle(events, now_ns):
                self._carry_out(action)
        return self

    def _next_ns(self) -> int | None:
        times = [self._heap[0][0]] if self._heap else []
        return min([*times, *([self._wake_ns] if self._wake_ns is not None else [])], default=None)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Dispatch(batch):
                profiled_ns = self.latency_ns[batch.model, batch.mode, batch.bucket, batch.size]
                start_ns = max(self.now_ns, self._free_ns.get(batch.worker, 0))
                took_ns = self.took_ns(batch, profiled_ns)
                self._free_ns[batch.worker] = start_ns + took_ns
                self.batches.append((batch, start_ns, start_ns + took_ns))
                self.at(start_ns + took_ns, Finished(batch.id, took_ns), 0)
            case Complete(receipt):
                assert receipt.job.id not in self.receipts
                self.receipts[receipt.job.id] = receipt
            case WakeAt(at_ns):
                assert at_ns > self.now_ns, "a wake-up lies ahead"
                self._wake_ns = at_ns

    def share(self, *outcomes: State) -> float:
        """The share of all requests whose jobs ended so."""
        receipts = self.receipts.values()
        total = sum(receipt.job.requests for receipt in receipts)
        return sum(r.job.requests for r in receipts if r.outcome in outcomes) / total


def world(
    scheduler: Scheduler, profiles: Sequence[Profile], jobs: Sequence[Job] = (), workers: int = 1
) -> World:
    """A world with all workers ready at 0 and these jobs to come."""
    found = World(scheduler, latencies(profiles))
    for worker in range(workers):
        found.at(0, WorkerReady(worker), 1)
    for each in jobs:
        found.at(each.arrival_ns, Arrived(each))
    return found


def latencies(profiles: Sequence[Profile]) -> dict[tuple[str, str, int, int], int]:
    """Every profiled latency by (model, mode, bucket, size)."""
    found = {}
    for each in profiles:
        table = latency_table(each)
        for mode, name in enumerate(each.mode_names):
            for bucket in range(each.buckets):
                for size in range(table.shape[2]):
                    if table[mode, bucket, size] < UNAVAILABLE:
                        found[each.model, name, bucket, size] = int(table[mode, bucket, size])
    return found
