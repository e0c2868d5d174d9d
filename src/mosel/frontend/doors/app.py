"""A front door's application: it reads of a call what it takes to choose a group, and hands it on as bytes.

What a group answers is what the client gets, byte for byte. What concerns all groups is asked of each
(`gather.py`); a lazy upload goes to the group that holds its place, feedback to the one that had the job.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import orjson
from starlette.types import Receive, Scope, Send

from mosel.core.errors import MoselError, RefusedError
from mosel.core.types import Job
from mosel.frontend import codes
from mosel.frontend.bodies import Bodies, ClientGoneError
from mosel.frontend.doors import gather
from mosel.frontend.doors.counts import Counts
from mosel.frontend.doors.glimpse import Glimpse
from mosel.frontend.doors.router import Call, Router
from mosel.frontend.doors.wire import head_of
from mosel.frontend.heads import Target, Told, read_headers, target_of
from mosel.frontend.http import unless_gone
from mosel.frontend.keys import Keys
from mosel.frontend.replies import Reply, refused, told
from mosel.frontend.rest import FAULT, OPEN_PATHS

GROUP = re.compile(r"g(\d{1,6})j")
"""What the id of an offer begins with: the group that holds its place."""

HEARING_S = 1.0
"""So long a call waits at a door that was started just now, and has not heard of any group yet."""

_LOG = logging.getLogger("mosel.door")


class DoorApp:
    """The application.

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
        self.heard = asyncio.Event()
        self.closed = False
        self._router, self._glimpses, self._bodies = router, glimpses, bodies
        self._counts, self._keys, self._now_ns = counts, keys, now_ns
        self._live = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def until_idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        arrival_ns = self._now_ns()
        self._live += 1
        self._idle.clear()
        try:
            reply = await self._answered(scope, receive, arrival_ns)
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await send({"type": "http.response.body", "body": reply.content})
        except ClientGoneError:
            return
        finally:
            self._live -= 1
            if not self._live:
                self._idle.set()

    async def _answered(self, scope: Scope, receive: Receive, arrival_ns: int) -> Reply:
        try:
            return await self._reply(scope, receive, arrival_ns)
        except MoselError as error:
            self._counts.add("refused")
            return refused(codes.refusal_of_error(error))
        except ClientGoneError:
            raise
        except Exception as error:
            _LOG.error("a request failed in the front door itself", exc_info=error)
            return refused(FAULT)

    async def _reply(self, scope: Scope, receive: Receive, arrival_ns: int) -> Reply:
        path = scope["path"]
        if path == "/v2/health/live":
            return told({"live": True})
        if path == "/v2/health/ready" and (self.closed or not self._router.up):
            return told({"ready": False})._replace(status=codes.UNAVAILABLE)
        if not self.heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARING_S):
                    await self.heard.wait()
        if self.closed:
            raise RefusedError("the server takes no jobs: it is draining; try again later")
        if self._keys.needed and path not in OPEN_PATHS:
            self._keys.tenant_of(scope["headers"])
        lengths = read_headers(scope["headers"])
        body = await self._bodies.read(receive, lengths.content_length)
        try:
            call = self._call(scope, body, arrival_ns)
            return await unless_gone(self._delivered(scope, call, lengths), receive)
        finally:
            self._bodies.release(len(body))

    def _call(self, scope: Scope, body: bytes, arrival_ns: int) -> Call:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        method = (
            "GET" if scope["method"] == "HEAD" else scope["method"]
        )  # whose reply would be without its body
        return Call(head_of(method, target, scope["headers"], len(body)), body, arrival_ns)

    async def _delivered(self, scope: Scope, call: Call, lengths: Told) -> Reply:
        path = scope["path"]
        target = target_of(path) if scope["method"] == "POST" else None
        if target is not None:
            return await self._inference(target, call, lengths)
        if path == "/metrics":
            return self._metrics(await self._router.every(call))
        if path.startswith("/v2/repository/models/"):
            return _worst(await self._router.every(call))
        for end, gathered in gather.GATHERED.items():
            if path.endswith(end):
                replies = await self._router.every(call)
                worst = _worst(replies)
                if worst.status != codes.OK:
                    return worst
                return _with(worst, gathered({n: orjson.loads(reply.content) for n, reply in replies.items()}))
        return await self._router.any_of(call)

    async def _inference(self, target: Target, call: Call, lengths: Told) -> Reply:
        if target.action == "feedback":
            return await self._router.any_of(call, lambda reply: reply.status != codes.GONE)
        glimpse = self._glimpses.get(target.model)
        if glimpse is None:
            return await self._router.any_of(call)
        if target.action == "offer":
            job = glimpse.offer(call.body, call.arrival_ns)
            return await self._router.deliver(_with_job(call, job))
        end = len(call.body) if lengths.json_length is None else lengths.json_length
        job, offer = glimpse.infer(memoryview(call.body)[:end], call.arrival_ns)
        if (found := GROUP.match(offer)) and int(found[1]) < self._router.groups:
            return await self._router.deliver_to(int(found[1]), call, f"offer {offer[:80]!r}")
        return await self._router.deliver(_with_job(call, job))

    def _metrics(self, replies: Mapping[int, Reply]) -> Reply:
        worst = _worst(replies)
        if worst.status != codes.OK:
            return worst
        texts = {number: reply.content for number, reply in replies.items()}
        return _with(worst, gather.metrics(texts, self._counts.exposition()))


def _with_job(call: Call, job: Job | None) -> Call:
    return replace(call, job=job)


def _worst(replies: Mapping[int, Reply]) -> Reply:
    """Return one reply of several: the one that went worst."""
    return max(replies.values(), key=lambda reply: reply.status)


def _with(reply: Reply, content: bytes) -> Reply:
    """Return a reply with other content."""
    headers = [(name, value) for name, value in reply.headers if name != b"content-length"]
    return Reply(reply.status, [*headers, (b"content-length", b"%d" % len(content))], content)
