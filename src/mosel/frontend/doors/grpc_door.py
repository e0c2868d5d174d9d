"""A front door's side of gRPC: it reads of a call what it takes to choose a group, and hands its message on.

`grpc_member.py` is the other side.
"""

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson
from google.protobuf.json_format import ParseDict

from mosel.core.errors import MoselError
from mosel.frontend import codes
from mosel.frontend.checks import Limits
from mosel.frontend.codes import Refusal
from mosel.frontend.doors import gather
from mosel.frontend.doors.desk import Desk, worst
from mosel.frontend.doors.router import Call
from mosel.frontend.doors.wire import grpc_head, head_of
from mosel.frontend.grpc_calls import INFER, OPEN_METHODS, GrpcAnswer, GrpcCall, answered, parse
from mosel.frontend.keys import KEY_HEADERS
from mosel.frontend.oip import methods
from mosel.frontend.replies import Reply

EVERYWHERE = ("RepositoryModelLoad", "RepositoryModelUnload")
"""What is done in every group."""

_LOG = logging.getLogger("mosel.door")
_METHODS = methods()


class DoorAnswers:
    """What a front door answers from: `grpc_calls.Answers`.

    Args:
        desk: what is behind it.
        limits: how much a call may carry.
    """

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self._desk = desk
        self.limits = limits
        self.now_ns = desk.now_ns

    async def answer(self, call: GrpcCall) -> GrpcAnswer:
        """Return what a call is answered."""
        with self._desk.under_way():
            return await answered(call, self._answer(call), self._refused, _LOG)

    def _refused(self, _: MoselError) -> None:
        self._desk.counts.add("refused")

    async def _answer(self, call: GrpcCall) -> GrpcAnswer:
        if call.method == "ServerLive":
            return _message(call, {"live": True})
        if call.method == "ServerReady" and not self._desk.ready:
            return _message(call, {"ready": False})
        await self._desk.admit()
        if self._desk.keys.needed and call.method not in OPEN_METHODS:
            self._desk.keys.tenant_of(call.headers)
        self._desk.bodies.hold(len(call.raw))
        try:
            return await self._delivered(call)
        finally:
            self._desk.bodies.release(len(call.raw))

    async def _delivered(self, call: GrpcCall) -> GrpcAnswer:
        head = grpc_head(call.method, call.headers, len(call.raw), call.limit_ns)
        to_group = Call(head, call.raw, call.arrival_ns)
        if call.method == INFER:
            return _answer_of(self._desk.ended(await self._inference(call, to_group)))
        if call.method == "ModelStatistics":
            return await self._statistics(call)
        if call.method in EVERYWHERE:
            return _answer_of(worst(await self._desk.router.every(to_group)))
        return _answer_of(await self._desk.router.any_of(to_group))

    async def _inference(self, call: GrpcCall, to_group: Call) -> Reply:
        request = parse(_METHODS[INFER][0], call.raw)
        glimpse = self._desk.glimpses.get(request.model_name)
        if glimpse is None:
            return await self._desk.router.any_of(to_group)
        return await self._desk.infer(to_group, *glimpse.message(request, call.arrival_ns, call.limit_ns))

    async def _statistics(self, call: GrpcCall) -> GrpcAnswer:
        """Add up what groups say over HTTP, where numbers are numbers."""
        asked = parse(_METHODS[call.method][0], call.raw)
        path = "/v2/models" + "".join(f"/{part}" for part in _parts(asked)) + "/stats"
        own = [(name, value) for name, value in call.headers if name in KEY_HEADERS]
        head = head_of("GET", path.encode(), own, 0)
        replies = await self._desk.router.every(Call(head, b"", call.arrival_ns))
        one = worst(replies)
        if one.status != codes.OK:
            return _answer_of(one)
        told = {number: orjson.loads(reply.content) for number, reply in replies.items()}
        return _message(call, orjson.loads(gather.statistics(told)))


def _parts(asked: Any) -> list[str]:
    parts = [asked.name, *(("versions", asked.version) if asked.version else ())] if asked.name else []
    return [quote(part, safe="") for part in parts]


def _message(call: GrpcCall, told: Mapping[str, Any]) -> GrpcAnswer:
    return GrpcAnswer(bytes(ParseDict(told, _METHODS[call.method][1]()).SerializeToString()))


def _answer_of(reply: Reply) -> GrpcAnswer:
    """Return what a group's reply is over gRPC."""
    if reply.status == codes.OK:
        return GrpcAnswer(reply.content)
    told: Any = orjson.loads(reply.content)
    status = reply.status if reply.status in codes.GRPC else codes.INTERNAL
    after = dict(reply.headers).get(b"retry-after")
    refusal = Refusal(status, told["error"], None if after is None else int(after), told.get("parameters", {}))
    return GrpcAnswer(b"", refusal)
