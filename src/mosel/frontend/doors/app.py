"""A front door's application: it reads of a call what it takes to choose a group, and hands it on as bytes.

What a group answers is what the client gets, byte for byte. What concerns all groups is asked of each
(`gather.py`); a lazy upload goes to the group that holds its place, feedback to the one that had the job.
"""

import logging
from collections.abc import Callable, Mapping

import orjson
from starlette.types import Receive, Scope, Send

from mosel.core.errors import MoselError
from mosel.frontend import codes
from mosel.frontend.bodies import ClientGoneError
from mosel.frontend.doors import gather
from mosel.frontend.doors.desk import Desk, is_held, worst
from mosel.frontend.doors.router import Call
from mosel.frontend.doors.wire import head_of
from mosel.frontend.heads import Target, Told, read_headers, target_of
from mosel.frontend.http import unless_gone
from mosel.frontend.replies import Reply, refused, told
from mosel.frontend.rest import FAULT, OPEN_PATHS

_LOG = logging.getLogger("mosel.door")


class DoorApp:
    """The application.

    Args:
        desk: what is behind it.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        arrival_ns = self._desk.now_ns()
        with self._desk.under_way():
            try:
                reply = await self._answered(scope, receive, arrival_ns)
            except ClientGoneError:
                return
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await send({"type": "http.response.body", "body": reply.content})

    async def _answered(self, scope: Scope, receive: Receive, arrival_ns: int) -> Reply:
        try:
            return await self._reply(scope, receive, arrival_ns)
        except MoselError as error:
            if target_of(scope["path"]) is not None:
                self._desk.counts.add("refused")
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
        if path == "/v2/health/ready" and not self._desk.ready:
            return told({"ready": False})._replace(status=codes.UNAVAILABLE)
        await self._desk.admit()
        if self._desk.keys.needed and path not in OPEN_PATHS:
            self._desk.keys.tenant_of(scope["headers"])
        lengths = read_headers(scope["headers"])
        body = await self._desk.bodies.read(receive, lengths.content_length)
        try:
            call = self._call(scope, body, arrival_ns)
            return await unless_gone(self._delivered(scope, call, lengths), receive)
        finally:
            self._desk.bodies.release(len(body))

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
            return self._desk.ended(await self._inference(target, call, lengths))
        if path == "/metrics":
            return self._metrics(await self._desk.router.every(call))
        if path.startswith("/v2/repository/models/"):
            return worst(await self._desk.router.every(call))
        for end, gathered in gather.GATHERED.items():
            if path.endswith(end):
                replies = await self._desk.router.every(call)
                return _gathered(replies, gathered)
        return await self._desk.router.any_of(call)

    async def _inference(self, target: Target, call: Call, lengths: Told) -> Reply:
        if target.action == "feedback":
            return await self._desk.router.any_of(call, is_held)
        glimpse = self._desk.glimpses.get(target.model)
        if glimpse is None:
            return await self._desk.router.any_of(call)
        if target.action == "offer":
            return await self._desk.infer(call, glimpse.offer(call.body, call.arrival_ns), "")
        end = len(call.body) if lengths.json_length is None else lengths.json_length
        return await self._desk.infer(call, *glimpse.infer(memoryview(call.body)[:end], call.arrival_ns))

    def _metrics(self, replies: Mapping[int, Reply]) -> Reply:
        one = worst(replies)
        if one.status != codes.OK:
            return one
        texts = {number: reply.content for number, reply in replies.items()}
        return _with(one, gather.metrics(texts, self._desk.counts.exposition()))


def _gathered(replies: Mapping[int, Reply], gathered: Callable[[gather.Told], bytes]) -> Reply:
    one = worst(replies)
    if one.status != codes.OK:
        return one
    return _with(one, gathered({number: orjson.loads(reply.content) for number, reply in replies.items()}))


def _with(reply: Reply, content: bytes) -> Reply:
    """Return a reply with other content."""
    headers = [(name, value) for name, value in reply.headers if name != b"content-length"]
    return Reply(reply.status, [*headers, (b"content-length", b"%d" % len(content))], content)
