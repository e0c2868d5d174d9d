"""Models move between workers while jobs run, and no job is dropped for it: drain, load, switch.

A driver's scheduler inside another one, as pure. What it adds:
1. Every interval it counts the jobs that came. If they differ from those that models are placed for, they are
   placed anew, off the path of any job.
2. A worker whose models change drains: it gets nothing more and ends what it has (`WorkerRetiring`, `Retired`).
   Then it loads for a while, and is ready with other profiles.
3. No worker drains while it is the last that is up and has one of its models at one of its precisions, unless
   it keeps that; nor while a quarter of all workers, or one, are on the move.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.online.events import (
    Action,
    Arrived,
    Event,
    Reload,
    Retired,
    Scheduling,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)

Profiles = Mapping[str, Profile]
Resolve = Callable[[Sequence[Job], float], Sequence[Profiles] | None]
"""Each worker's profiles, for jobs like these, so many of which come in so many seconds.

None as long as these are not worked out: it is asked again with the same jobs.
"""

AGAIN_NS = 50_000_000
"""After so long."""

MOVED_AT = 0.2
"""Models are placed anew when this part of the requests would have to be of another model."""

AT_ONCE = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """How often loads are looked at, and how long a worker takes to load other models; in nanoseconds.

    Without `load_ns` the driver is asked to load (`Reload`), and tells when that is done.
    """

    every_ns: int
    load_ns: int | None


class Moving:
    """A scheduler or a fleet whose workers are given other models as the load changes.

    Args:
        scheduler: what decides; with the workers of `start`.
        start: each worker's profiles at first.
        resolve: places models.
        pace: see `Pace`.

    Attributes:
        moves: how many workers were given other models.
    """

    def __init__(self, scheduler: Scheduling, start: Sequence[Profiles], resolve: Resolve, pace: Pace) -> None:
        self.moves = 0
        self._scheduler = scheduler
        self._has, self._known = list(start), list(start)
        self._resolve = resolve
        self._pace = pace
        self._up: set[int] = set()
        self._draining: dict[int, Profiles] = {}
        self._loading: dict[int, int | None] = {}
        self._queue: deque[tuple[int, Profiles]] = deque()
        self._jobs: list[Job] = []
        self._working_on: list[Job] = []
        self._placed_for: Counter[str] = Counter()
        self._due_ns = pace.every_ns
        self._wake_ns: int | None = None
        self._asked_ns: int | None = None

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened up to `now_ns` and return what is to be done."""
        own = [kept for event in events if (kept := self._take(event)) is not None]
        own += self._loaded(now_ns)
        if now_ns >= self._due_ns:
            self._look(now_ns)
        own += self._drain()
        if self._wake_ns is not None and self._wake_ns <= now_ns:
            self._wake_ns = None
            own.append(Tick())
        actions: list[Action] = []
        for action in self._scheduler.handle(own, now_ns) if own else ():
            if isinstance(action, WakeAt):
                self._wake_ns = action.at_ns
            elif not (isinstance(action, Retired) and action.worker in self._draining):
                actions.append(action)
            else:
                actions += self._switch(action.worker, now_ns)
        self._set_wake(actions)
        return actions

    def _take(self, event: Event) -> Event | None:
        """Note an event; None if the scheduler is not to hear of it now."""
        match event:
            case Tick():
                self._asked_ns = None
                return None  # the scheduler's own is known by its time
            case Arrived(job):
                self._jobs.append(job)
            case WorkerReady(worker):
                if self._loading.get(worker) is not None:
                    return None
                self.moves += self._loading.pop(worker, 0) is None
                self._up.add(worker)
                return self._ready(worker)
            case WorkerLost(worker):
                self._up.discard(worker)
                if worker in self._draining:  # it is loaded with what it was to have when it is back
                    self._queue.appendleft((worker, self._draining.pop(worker)))
                self._loading.pop(worker, None)
        return event

    def _look(self, now_ns: int) -> None:
        """Rule 1."""
        self._due_ns = now_ns + self._pace.every_ns
        jobs = self._working_on or self._jobs
        if jobs is self._jobs:
            self._jobs = []
        asked = Counter[str]()
        for job in jobs:
            asked[job.model] += job.requests
        if not asked or self._draining or self._loading or not _differ(asked, self._placed_for):
            return
        wanted = self._resolve(jobs, self._pace.every_ns / 1e9)
        self._working_on = jobs if wanted is None else []
        if wanted is None:
            self._due_ns = now_ns + AGAIN_NS
            return
        self._placed_for = asked
        self._queue.clear()
        self._queue.extend(
            (worker, profiles)
            for worker, (profiles, has) in enumerate(zip(wanted, self._has, strict=True))
            if profiles != has
        )

    def _drain(self) -> list[Event]:
        """Let workers begin to move, as far as rule 3 allows."""
        found: list[Event] = []
        most = max(1, math.floor(AT_ONCE * len(self._has)))
        for worker, profiles in list(self._queue):
            if len(self._draining) + len(self._loading) >= most:
                break
            if worker in self._up and self._can_go(worker, profiles):
                self._queue.remove((worker, profiles))
                self._draining[worker] = profiles
                self._up.discard(worker)
                found.append(WorkerRetiring(worker))
        return found

    def _can_go(self, worker: int, wanted: Profiles) -> bool:
        """Whether what only this worker has, it keeps."""
        rest = [self._has[other] for other in self._up if other != worker]
        there = {mode for has in rest for mode in _modes(has)}
        return (_modes(self._has[worker]) - _modes(wanted)) <= there and bool(rest)

    def _switch(self, worker: int, now_ns: int) -> list[Action]:
        """Begin to load a worker that has drained for it."""
        profiles = self._has[worker] = self._draining.pop(worker)
        if self._pace.load_ns is None:
            self._loading[worker] = None
            return [Reload(worker, profiles)]
        self._loading[worker] = now_ns + self._pace.load_ns
        return []

    def _loaded(self, now_ns: int) -> list[Event]:
        """Let workers that have loaded be ready."""
        ready = [worker for worker, at_ns in self._loading.items() if at_ns is not None and at_ns <= now_ns]
        for worker in ready:
            del self._loading[worker]
            self._up.add(worker)
            self.moves += 1
        return [self._ready(worker) for worker in ready]

    def _ready(self, worker: int) -> WorkerReady:
        """The event that a worker is ready, with what it has where the scheduler does not know of that."""
        if self._known[worker] is self._has[worker]:
            return WorkerReady(worker)
        self._known[worker] = self._has[worker]
        return WorkerReady(worker, self._has[worker])

    def _set_wake(self, actions: list[Action]) -> None:
        times = [at_ns for at_ns in (*self._loading.values(), self._wake_ns) if at_ns is not None]
        if self._working_on:
            times.append(self._due_ns)
        if times and min(times) != self._asked_ns:
            self._asked_ns = min(times)
            actions.append(WakeAt(self._asked_ns))


def _modes(profiles: Profiles) -> set[tuple[str, str]]:
    return {(model, mode) for model, profile in profiles.items() for mode in profile.mode_names}


def _differ(one: Counter[str], other: Counter[str]) -> bool:
    """Whether two counts of requests by model are so unlike that it is worth to move models."""
    total, before = one.total(), other.total() or 1
    parts = {model: one[model] / total - other[model] / before for model in {*one, *other}}
    grown = abs(total / before - 1)
    return sum(map(abs, parts.values())) / 2 > MOVED_AT or grown > MOVED_AT
