"""What a front door's protocols share: whether calls are taken, what is under way, and the way of a job."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from mosel.core.errors import RefusedError
from mosel.core.types import Job
from mosel.frontend import codes
from mosel.frontend.bodies import Bodies
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.glimpse import Glimpse
from mosel.frontend.doors.router import Call, Router
from mosel.frontend.doors.wire import outcome_of
from mosel.frontend.keys import Keys
from mosel.frontend.replies import Reply

GROUP = re.compile(r"g(\d{1,6})j")
"""What the id of an offer begins with: the group that holds its place."""

HEARING_S = 1.0
"""So long a call waits at a door that was started just now, and has not heard of any group yet."""


class Desk:
    """A front door behind its protocols.

    Args:
        router: delivers calls.
        glimpses: read calls, by model.
        bodies: counts what is held.
        counts: of all front doors.
        keys: who may call.
        now_ns: the clock.

    Attributes:
        heard: is set once a group has told that it is up.
        closed: no calls are taken any more.
    """

    def __init__(
        self,
        router: Router,
        glimpses: Mapping[str, Glimpse],
        bodies: Bodies,
        counts: Counts,
        keys: Keys,
        now_ns: Callable[[], int],
    ) -> None:
        self.router, self.glimpses, self.bodies = router, glimpses, bodies
        self.counts, self.keys, self.now_ns = counts, keys, now_ns
        self.heard = asyncio.Event()
        self.closed = False
        self._live = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether calls are taken, and some group could serve them."""
        return not self.closed and bool(self.router.up)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a call as under way inside the block."""
        self._live += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._live -= 1
            if not self._live:
                self._idle.set()

    async def until_idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    async def admit(self) -> None:
        """Return when calls are taken; a door that was started just now hears of groups first.

        Raises:
            RefusedError: none are taken any more.
        """
        if not self.heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARING_S):
                    await self.heard.wait()
        if self.closed:
            raise RefusedError("the server takes no jobs: it is draining; try again later")

    def ended(self, reply: Reply) -> Reply:
        """Count the end of a call for a job, an offer or feedback; return its reply as the client gets it."""
        outcome, reply = outcome_of(reply)
        if outcome or reply.status != codes.OK:
            self.counts.add(outcome or "refused")
        return reply

    async def infer(self, call: Call, job: Job | None, offer: str) -> Reply:
        """Return what becomes of an inference call: of a job as far as it could be read, or for an offer.

        Raises:
            RefusedError, GoneError: as the router.
        """
        try:
            return await self._delivered(call, job, offer)
        except asyncio.CancelledError:
            self.counts.add("gone")
            raise

    async def _delivered(self, call: Call, job: Job | None, offer: str) -> Reply:
        if (found := GROUP.match(offer)) and int(found[1]) < self.router.groups:
            return await self.router.deliver_to(int(found[1]), call, f"offer {offer[:80]!r}")
        return await self.router.deliver(replace(call, job=job))


def worst(replies: Mapping[int, Reply]) -> Reply:
    """Return one reply of several: the one that went worst."""
    return max(replies.values(), key=lambda reply: reply.status)


def is_held(reply: Reply) -> bool:
    """Whether a group has what it was asked for."""
    return reply.status != codes.GONE
