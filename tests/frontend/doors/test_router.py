"""Which group has a call; groups are stand-ins that answer as they are told to."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import GoneError, RefusedError
from mosel.core.types import Job
from mosel.frontend import codes
from mosel.frontend.codes import Refusal
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.links import Links, LostError
from mosel.frontend.doors.router import Call, Peer, Router
from mosel.frontend.doors.wire import on_its_way, times_of
from mosel.frontend.replies import Reply, refused, told
from mosel.online.expected import Costs
from mosel.online.front_door import Choices, FrontDoor
from mosel.online.group import Load, Place
from tests.online.driver import profile

Answers = Callable[[int | None], Reply]
"""What a group answers, given the latest start that it was told, if it was."""


class Group:
    """Answers calls; raises if it is lost."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.heads: list[bytes] = []

    async def ask(self, head: bytes, _body: bytes) -> Reply:
        """Answer."""
        self.heads.append(head)
        lines = [line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:]]
        return self.answers(times_of((name, value) for name, value in lines)[1])


class World:
    """A router and its groups, all of which are up and idle at first."""

    def __init__(self, folder: Path, *answers: Answers) -> None:
        self.groups = [Group(each) for each in answers]
        costs = Costs([{"m": profile()}])
        count = len(answers)
        peers = [Peer(Place(index, count, range(index, index + 1)), costs) for index in range(count)]
        self.door = FrontDoor(peers, 1, 0, 0, random.Random(1))
        self.counts = Counts(folder / "counts", 1)
        self.now_ns = 0
        links = cast("list[Links]", self.groups)
        clock = lambda: self.now_ns  # noqa: E731
        self.router = Router(self.door, Choices(peers), peers, links, self.counts, clock)

    def behind(self, group: int, work_s: float, up: int = 1) -> None:
        """Let the door hear how a group stands."""
        self.door.heard(group, Load(work_s * 1e9, up), self.now_ns)

    @property
    def asked(self) -> list[int]:
        """How many calls each group had."""
        return [len(group.heads) for group in self.groups]


def call(slo_s: float = 1.0, job: bool = True) -> Call:
    """Return a call for one request."""
    wanted = Job("", "m", 1, 0.5, 0, to_ns(slo_s)) if job else None
    return Call(b"POST /infer HTTP/1.1\r\nhost: group", b"{}", 0, wanted)


def served(_start_ns: int | None) -> Reply:
    """Serve."""
    return told({"parameters": {"outcome": "served"}})


def lost(_start_ns: int | None) -> Reply:
    """Be lost."""
    raise LostError("the group was lost: it closed the connection")


def turns_away(outcome: str) -> Answers:
    """Refuse with a receipt of this outcome."""
    return lambda _: refused(Refusal(codes.UNAVAILABLE, outcome, 1, {"outcome": outcome}))


def passes(late_s: float) -> Answers:
    """Pass a job on that it may pass on, else serve it."""
    return lambda start_ns: served(None) if start_ns is None else on_its_way(to_ns(late_s))


def body(reply: Reply) -> Any:
    """Return what a reply says."""
    return json.loads(reply.content)


async def test_jobs_go_where_less_waits(tmp_path: Path) -> None:
    """By the last that was heard, and what was sent since."""
    world = World(tmp_path, served, served)
    world.behind(0, 5.0)
    for _ in range(3):
        await world.router.deliver(call())
    assert world.asked == [0, 3]
    world.behind(1, 9.0)
    await world.router.deliver(call())
    assert world.asked == [1, 3]


async def test_a_group_passes_on_once(tmp_path: Path) -> None:
    """To another that is expected to do better, which is told of no latest start and keeps it."""
    world = World(tmp_path, passes(3.0), passes(3.0))
    world.behind(1, 1.5)
    reply = await world.router.deliver(call())
    assert body(reply)["parameters"]["outcome"] == "served"
    assert world.asked == [1, 1]
    assert b"mosel-start-ns" in world.groups[0].heads[0]
    assert b"mosel-start-ns" not in world.groups[1].heads[0]
    assert world.counts.totals()["passed"] == 1


async def test_a_job_stays_where_no_other_does_better(tmp_path: Path) -> None:
    """It goes to the same group again, which keeps it then."""
    world = World(tmp_path, passes(0.5), served)
    world.behind(1, 60.0)
    assert (await world.router.deliver(call())).status == codes.OK
    assert world.asked == [2, 0]
    assert world.counts.totals()["passed"] == 0


async def test_a_lost_group(tmp_path: Path) -> None:
    """Its job goes to another one; its arrival is told as it was."""
    world = World(tmp_path, lost, served)
    world.behind(1, 0.5)
    assert (await world.router.deliver(call())).status == codes.OK
    assert world.asked == [1, 1]
    assert b"mosel-arrival-ns: 0\r\n" in world.groups[1].heads[0]
    assert world.counts.totals()["moved"] == 1


@pytest.mark.parametrize(
    ("other", "status", "outcome"),
    [(turns_away("rejected"), 500, "failed"), (turns_away("dropped"), 503, "dropped"), (lost, 500, "failed")],
)
async def test_a_job_that_was_accepted_is_not_rejected(
    tmp_path: Path, other: Answers, status: int, outcome: str
) -> None:
    """What its second group refuses has failed; what it gives up later is dropped; it is not lost twice."""
    world = World(tmp_path, lost, other)
    world.behind(1, 0.5)
    reply = await world.router.deliver(call())
    assert reply.status == status
    assert body(reply)["parameters"]["outcome"] == outcome
    assert world.asked == [1, 1]


@pytest.mark.parametrize("late", [False, True])
async def test_a_lost_job_that_none_can_take(tmp_path: Path, late: bool) -> None:
    """As all others are down, or its deadline is over: it has failed, and one reply says so."""
    world = World(tmp_path, lost, served)
    world.behind(1, 0.5, up=1 if late else 0)
    original = world.groups[0].answers

    def slow(start_ns: int | None) -> Reply:
        world.now_ns = to_ns(2.0 if late else 0.1)
        return original(start_ns)

    world.groups[0].answers = slow
    reply = await world.router.deliver(call())
    assert (reply.status, body(reply)["parameters"]["reason"]) == (500, "worker_lost")
    assert world.asked == [1, 0]
    assert world.counts.totals()["lost"] == 1


async def test_groups_that_are_down(tmp_path: Path) -> None:
    """None is asked that is known to be down; with none up a call is refused."""
    world = World(tmp_path, served, served)
    world.behind(0, 0, up=0)
    for _ in range(5):
        await world.router.deliver(call())
        await world.router.deliver(call(job=False))
    assert world.asked == [0, 10]
    world.behind(1, 0, up=0)
    for wanted in (call(), call(job=False)):
        with pytest.raises(RefusedError, match="is up; try again later"):
            await world.router.deliver(wanted)


async def test_what_one_group_alone_has(tmp_path: Path) -> None:
    """If it is lost, what it had is gone."""
    world = World(tmp_path, served, lost)
    assert (await world.router.deliver_to(0, call(), "offer 'a'")).status == codes.OK
    with pytest.raises(GoneError, match="offer 'a' is not held any more: the group that had it was lost"):
        await world.router.deliver_to(1, call(), "offer 'a'")


async def test_any_and_every_group(tmp_path: Path) -> None:
    """The first that answers as wanted counts; of all, those that are not lost."""
    world = World(tmp_path, lambda _: told({})._replace(status=codes.GONE), served, lost)
    found = await world.router.any_of(call(), lambda reply: reply.status != codes.GONE)
    assert found.status == codes.OK
    assert (await world.router.any_of(call(), lambda reply: reply.status == codes.NOT_FOUND)).status != 404
    assert set(await world.router.every(call())) == {0, 1}
