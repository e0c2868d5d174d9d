"""Many groups of workers behind front doors: two levels of scheduling with the interface of one scheduler.

Rules:
1. `handle(events, now_ns) -> actions` is all there is, as in `scheduler.py`, and as pure.
2. A job arrives at one of the front doors, in turn. The door sends it to a group (`front_door.py`); which, it
   decides by what it knows, which is stale. No door knows what another one does.
3. The group looks again: if by its own present backlog the job would be late, it passes the job on to another
   group, if the door expects it to be less late there. A job that was passed on stays.
4. From then on the group's scheduler has the job, and decides everything as if there were no other.
5. When the last worker of a group is lost, its jobs of which nothing is done go to other groups; one that was
   with a worker does so once.
6. Every job that arrives leaves in exactly one `Complete`.

Every group is a `Scheduler` with workers and profiles of its own; so groups of unlike devices are the usual
case. What one group does takes nothing from another: on many machines each would run on its own.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Event,
    Finished,
    Scheduling,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)
from mosel.online.expected import SharedCosts
from mosel.online.front_door import Asked, Choices, FrontDoor
from mosel.online.group import Group, Load, Place
from mosel.online.layout import Layout
from mosel.online.policies import DEFAULT, Options
from mosel.online.scheduler import Scheduler

Profiles = Mapping[str, Profile]
MakeScheduler = Callable[..., Scheduling]


@dataclass(frozen=True, slots=True)
class _Way:
    """A job on its way to a group: through which door, and whether a group passed it on."""

    asked: Asked
    door: FrontDoor
    to: int
    passed: bool = False


class Fleet:
    """Replica groups behind front doors.

    Args:
        profiles: 𝒟 by model name, the same for all workers if `workers` is their number.
        workers: how many there are, or the profiles of each by model name.
        layout: how they are divided.
        policy: a name in `POLICIES`.
        seed: of what front doors draw, and of policies that draw lots.
        options: see `Options`.
        make: makes a group's scheduler; called as `Scheduler` is.

    Attributes:
        passed: how many jobs a group passed on.
        moved: how many jobs left a group that had lost its last worker.

    Raises:
        UsageError: as `Scheduler`, or there are fewer workers than groups.
    """

    def __init__(
        self,
        profiles: Profiles,
        *,
        workers: int | Sequence[Profiles] = 1,
        layout: Layout | None = None,
        policy: str = DEFAULT,
        seed: int = 0,
        options: Options | None = None,
        make: MakeScheduler = Scheduler,
    ) -> None:
        self._layout = layout = layout or Layout()
        self._crew = crew = [profiles] * workers if isinstance(workers, int) else list(workers)
        self.passed = self.moved = 0
        self._groups: list[Group] = []
        self._shared = SharedCosts()
        for index, own in enumerate(layout.shares(len(crew))):
            members = [crew[worker] for worker in own]
            decides = make(profiles, workers=members, policy=policy, seed=seed + index, options=options)
            self._groups.append(Group(Place(index, layout.groups, own), decides, self._shared.of(members)))
        self._doors = [
            FrontDoor(
                self._groups,
                layout.report_ns,
                layout.report_ns * door // layout.front_doors,
                layout.choice_ns,
                random.Random(f"{seed} {door}"),
            )
            for door in range(layout.front_doors)
        ]
        self._choices = Choices(self._groups)
        self._models = {model for each in (profiles, *crew) for model in each}
        self._group_of = [group for group in self._groups for _ in group.place.workers]
        self._homes: dict[str, Group | None] = {}
        self._gone: set[str] = set()
        self._arrivals = self._sent = 0
        self._ways: list[tuple[int, int, _Way]] = []
        self._wakes: list[tuple[int, int]] = []
        self._inbox: dict[int, list[Event]] = {}
        self._wake_ns: int | None = None
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            Arrived: self._arrived,
            Cancelled: self._cancelled,
            WorkerReady: self._worker_ready,
            WorkerRetiring: self._worker_retiring,
            WorkerLost: self._worker_lost,
            Finished: self._of_batch,
            BatchFailed: self._of_batch,
            Tick: self._tick,
            Shutdown: self._shutdown,
        }

    @property
    def live(self) -> int:
        """How many jobs have no outcome yet."""
        return len(self._homes)

    def loads(self, now_ns: int) -> list[Load]:
        """Return how each group stands."""
        return [group.load(now_ns) for group in self._groups]

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened up to `now_ns` and return what is to be done, in order.

        Raises:
            UsageError: a job of an unknown model, or with the id of a job that has no outcome yet.
        """
        for door in self._doors:
            if door.due_ns <= now_ns:
                door.listen(self._groups, now_ns)
        for event in events:
            self._handlers[type(event)](event, now_ns)
        while self._ways and self._ways[0][0] <= now_ns:
            self._arrive(heapq.heappop(self._ways)[2], now_ns)
        self._wake_groups(now_ns)
        actions: list[Action] = []
        for number in sorted(self._inbox):
            actions += self._handle(number, now_ns)
            if (last := self._groups[number].closing) and not len(self._groups[number]):
                self._handlers[WorkerRetiring](last, now_ns)
                actions += self._handle(number, now_ns)
        self._set_wake(actions)
        return actions

    # Events

    def _arrived(self, event: Arrived, now_ns: int) -> None:
        job = event.job
        if job.model not in self._models or job.id in self._homes:
            known = ", ".join(sorted(self._models))
            raise UsageError(f"job {job.id!r} of model {job.model!r}: the id is taken, or not one of {known}")
        door = self._doors[self._arrivals % len(self._doors)]
        self._arrivals += 1
        self._homes[job.id] = None
        asked = self._choices.asked(job)
        number = door.choose(asked, now_ns)
        assert number is not None, "some group comes nearest"
        self._send(_Way(asked, door, number), door.chosen_ns(now_ns) + self._layout.hop_ns, now_ns)

    def _cancelled(self, event: Cancelled, _now_ns: int) -> None:
        if event.job not in self._homes:
            return
        group = self._homes[event.job]
        if group is None:
            self._gone.add(event.job)
        else:
            self._tell(group, event)

    def _worker_ready(self, event: WorkerReady, _now_ns: int) -> None:
        group = self._group_of[event.worker]
        if event.profiles is not None:
            self._crew[event.worker] = event.profiles
            group.costs = self._shared.of([self._crew[worker] for worker in group.place.workers])
            self._choices.look()
        group.closing = None
        group.set_up(event.worker, up=True)
        self._tell(group, event)

    def _worker_retiring(self, event: WorkerRetiring, _now_ns: int) -> None:
        group = self._group_of[event.worker]
        if group.up == 1 and len(group):  # it ends what it has before its last worker goes
            group.closing = event
        else:
            group.set_up(event.worker, up=False)
            self._tell(group, event)

    def _worker_lost(self, event: WorkerLost, now_ns: int) -> None:
        group = self._group_of[event.worker]
        group.closing = None
        was_up = group.up
        group.set_up(event.worker, up=False)
        self._tell(group, event)
        if was_up and not group.up:
            self._empty(group, now_ns)

    def _of_batch(self, event: Finished | BatchFailed, _now_ns: int) -> None:
        self._tell(self._groups[event.batch % len(self._groups)], event)

    def _tick(self, _event: Tick, _now_ns: int) -> None:
        """What is due is found by its time; a tick that came early is asked for again."""
        self._wake_ns = None

    def _shutdown(self, event: Shutdown, now_ns: int) -> None:
        while self._ways:
            self._arrive(heapq.heappop(self._ways)[2], now_ns)
        for group in self._groups:
            self._tell(group, event)

    # Jobs on their way

    def _send(self, way: _Way, at_ns: int, now_ns: int) -> None:
        """Send a job to a group, which it reaches at a time."""
        way.door.sent(way.to, self._work_ns(way), now_ns)
        if at_ns <= now_ns:
            self._arrive(way, now_ns)
        else:
            self._sent += 1
            heapq.heappush(self._ways, (at_ns, self._sent, way))

    def _arrive(self, way: _Way, now_ns: int) -> None:
        """Let a group look again at a job that reached it (rule 3), and take it or pass it on."""
        group = self._groups[way.to]
        if group.costs not in way.asked.costs:  # its workers have been given other models on the way
            way = _Way(self._choices.asked(way.asked.job), way.door, way.to, way.passed)
        if group.costs not in way.asked.costs:
            to = way.door.choose(way.asked, now_ns)
            assert to is not None, "some group comes nearest"
            way = _Way(way.asked, way.door, to, passed=True)
            group = self._groups[to]
        if not way.passed and (other := self._better(way, group, now_ns)) is not None:
            self.passed += 1
            onward = _Way(way.asked, way.door, other, passed=True)
            self._send(onward, now_ns + self._layout.hop_ns, now_ns)
        else:
            self._hand_over(way, group)

    def _better(self, way: _Way, group: Group, now_ns: int) -> int | None:
        """Return the group that a job is passed on to; None if it stays."""
        late_ns = group.late_ns(way.asked.job, way.asked.cost(group), now_ns)
        if late_ns <= 0:
            return None
        other = way.door.choose(way.asked, now_ns, (way.to,))
        better = other is not None and way.door.late_ns(way.asked, other, now_ns) < late_ns
        return other if better else None

    def _hand_over(self, way: _Way, group: Group, *, moved: bool = False, tried: bool = False) -> None:
        job = way.asked.job
        group.take(job, way.asked.cost(group), moved=moved, tried=tried)
        self._homes[job.id] = group
        self._tell(group, Arrived(job))
        if job.id in self._gone:
            self._gone.discard(job.id)
            self._tell(group, Cancelled(job.id))

    def _work_ns(self, way: _Way) -> float:
        return way.asked.cost(self._groups[way.to]).request_ns * way.asked.job.requests

    def _empty(self, group: Group, now_ns: int) -> None:
        """Rule 5."""
        down = [other.place.index for other in self._groups if not other.up]
        for job, tried in group.movable() if len(down) < len(self._groups) else ():
            door = self._doors[self.moved % len(self._doors)]
            asked = self._choices.asked(job)
            number = door.choose(asked, now_ns, down)
            if number is not None:
                self.moved += 1
                self._tell(group, group.withdraw(job.id))
                way = _Way(asked, door, number)
                door.sent(number, self._work_ns(way), now_ns)
                self._hand_over(way, self._groups[number], moved=True, tried=tried)

    # Groups

    def _tell(self, group: Group, event: Event) -> None:
        self._inbox.setdefault(group.place.index, []).append(event)

    def _wake_groups(self, now_ns: int) -> None:
        """Tick the groups whose time has come."""
        while self._wakes and self._wakes[0][0] <= now_ns:
            at_ns, number = heapq.heappop(self._wakes)
            group = self._groups[number]
            if group.wake_ns == at_ns:
                group.wake_ns = None
                self._tell(group, Tick())

    def _handle(self, number: int, now_ns: int) -> list[Action]:
        group = self._groups[number]
        before_ns = group.wake_ns
        actions = group.handle(self._inbox.pop(number), now_ns)
        if group.wake_ns is not None and group.wake_ns != before_ns:
            heapq.heappush(self._wakes, (group.wake_ns, number))
        for action in actions:
            if isinstance(action, Complete):
                del self._homes[action.receipt.job.id]
        return actions

    def _set_wake(self, actions: list[Action]) -> None:
        """Ask to be woken when the first group has to be, or the first job reaches one."""
        while self._wakes and self._groups[self._wakes[0][1]].wake_ns != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        times = [first[0][0] for first in (self._wakes, self._ways) if first]
        if times and min(times) != self._wake_ns:
            self._wake_ns = min(times)
            actions.append(WakeAt(self._wake_ns))
