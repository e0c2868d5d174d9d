"""Which group has a call, and what becomes of it if that one is behind, or lost.

Rules, as in `online/fleet.py`:
1. The door chooses one of two groups by what it knows of them (`online/front_door.py`).
2. The group looks again. If by its present backlog the job would be late, it passes it on, and it goes to
   another group if that is expected to do better. That happens once; else it stays.
3. A job whose group is lost goes to another one, once. It was accepted: should that refuse it, it has failed.
4. Whatever happens, one reply comes back.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mosel.core.errors import GoneError, RefusedError
from mosel.core.states import Reason, State
from mosel.core.types import Job, Receipt
from mosel.frontend import codes
from mosel.frontend.codes import Refusal
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.links import Links, LostError
from mosel.frontend.doors.wire import late_ns_of, passed_on, with_outcome, with_times
from mosel.frontend.replies import Reply, refused
from mosel.online.expected import Costs
from mosel.online.front_door import Asked, Choices, FrontDoor
from mosel.online.group import Place


@dataclass(frozen=True, slots=True)
class Peer:
    """A group as front doors know it: where it stands, and what jobs ask of its workers."""

    place: Place
    costs: Costs


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it goes to a group.

    Attributes:
        head: its request line and headers, without the last line's end.
        body: as it came.
        arrival_ns: when its headers were in.
        job: what it asks for, as far as that could be read.
    """

    head: bytes
    body: bytes
    arrival_ns: int
    job: Job | None = None


class Router:
    """Delivers calls.

    Args:
        door: chooses.
        choices: which groups there are to choose from.
        groups: all of them.
        links: to each.
        counts: of what is done here.
        now_ns: the clock.
    """

    def __init__(
        self,
        door: FrontDoor,
        choices: Choices,
        groups: Sequence[Peer],
        links: Sequence[Links],
        counts: Counts,
        now_ns: Callable[[], int],
    ) -> None:
        self._door, self._choices, self._groups, self._links = door, choices, groups, links
        self._counts = counts
        self._now_ns = now_ns
        self._turn = itertools.count()

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    @property
    def up(self) -> list[int]:
        """The groups that have workers up, as far as this door knows."""
        down = set(self._door.down)
        return [number for number in range(len(self._groups)) if number not in down]

    async def deliver(self, call: Call) -> Reply:
        """Return what becomes of a call.

        Raises:
            RefusedError: no group that could take it is up.
        """
        asked = None if call.job is None else self._choices.asked(call.job)
        to = self._choose(asked)
        if to is None:
            raise RefusedError("no group of workers that could take this call is up; try again later")
        try:
            reply = await self._ask(to, call, asked, looks=len(self._groups) > 1)
            if not passed_on(reply):
                return reply
            onward = None if asked is None else self._better(asked, to, late_ns_of(reply))
            if onward is not None:
                self._counts.add("passed")
                to = onward
            return await self._ask(to, call, asked)
        except LostError as error:
            return await self._move(call, asked, to, error)

    async def deliver_to(self, number: int, call: Call, what: str) -> Reply:
        """Return what becomes of a call that one group alone can answer; `what` is what it has.

        Raises:
            GoneError: the group is lost.
        """
        try:
            return await self._ask(number, call, None)
        except LostError as error:
            raise GoneError(f"{what} is not held any more: the group that had it was lost") from error

    async def any_of(self, call: Call, wanted: Callable[[Reply], bool] = lambda _: True) -> Reply:
        """Return the first reply of a group that is `wanted`; else the last one.

        Raises:
            RefusedError: no group is up.
        """
        found = None
        for number in self._in_turn():
            try:
                found = await self._ask(number, call, None)
            except LostError:
                continue
            if wanted(found):
                return found
        if found is None:
            raise RefusedError("no group of workers is up; try again later")
        return found

    async def every(self, call: Call) -> dict[int, Reply]:
        """Return the reply of each group that is up, by its number.

        Raises:
            RefusedError: none is.
        """
        found = {}
        for number in self.up:
            try:
                found[number] = await self._ask(number, call, None)
            except LostError:
                continue
        if not found:
            raise RefusedError("no group of workers is up; try again later")
        return found

    def _choose(self, asked: Asked | None, besides: Sequence[int] = ()) -> int | None:
        out = {*besides, *self._door.down}
        if asked is not None:
            return self._door.choose(asked, self._now_ns(), sorted(out))
        return next((number for number in self._in_turn() if number not in out), None)

    def _in_turn(self) -> list[int]:
        """Return the groups that are up, another one first each time."""
        up = self.up
        first = next(self._turn) % len(up) if up else 0
        return up[first:] + up[:first]

    def _better(self, asked: Asked, than: int, late_ns: float) -> int | None:
        """Return the group that a job is passed on to; None if it stays."""
        other = self._choose(asked, [than])
        better = other is not None and self._door.late_ns(asked, other, self._now_ns()) < late_ns
        return other if better else None

    async def _ask(self, number: int, call: Call, asked: Asked | None, *, looks: bool = False) -> Reply:
        """Send a call to a group; one that `looks` may pass it on."""
        start_ns = None
        if asked is not None:
            cost = asked.cost(self._groups[number])
            self._door.sent(number, cost.request_ns * asked.job.requests, self._now_ns())
            start_ns = asked.job.deadline_ns - cost.alone_ns if looks else None
        self._counts.add("sent")
        return await self._links[number].ask(with_times(call.head, call.arrival_ns, start_ns), call.body)

    async def _move(self, call: Call, asked: Asked | None, lost: int, error: LostError) -> Reply:
        """Rule 3."""
        in_time = call.job is None or self._now_ns() < call.job.deadline_ns
        to = self._choose(asked, [lost]) if in_time else None
        if to is None:
            self._counts.add("lost")
            return self._failed(call, f"{error}, and no other could take it in time")
        self._counts.add("moved")
        try:
            reply = await self._ask(to, call, asked)
        except LostError as again:
            self._counts.add("lost")
            return self._failed(call, f"{again}, after another one")
        if call.job is None or not _rejected(reply):
            return reply
        self._counts.add("turned")
        return self._failed(call, f"{error}, and another could not take it in time")

    def _failed(self, call: Call, detail: str) -> Reply:
        if call.job is None:
            return refused(Refusal(codes.INTERNAL, f"failed ({Reason.WORKER_LOST.value}): {detail}"))
        receipt = Receipt(call.job, State.FAILED, Reason.WORKER_LOST, detail, self._now_ns())
        return with_outcome(refused(codes.refusal_of_receipt(receipt)), receipt.outcome)


def _rejected(reply: Reply) -> bool:
    """Whether a group did not take a job, for reasons that were not there when the first group took it."""
    if reply.status != codes.UNAVAILABLE:
        return False
    told: Any = orjson.loads(reply.content)
    return bool(told.get("parameters", {}).get("outcome") != State.DROPPED.value)
