"""A group's side of gRPC: a front door hands such a call on with its message as the body of a POST.

What answers is what answers a server of gRPC; all that goes between door and group is HTTP over a socket of
this machine (`wire.py`), so that a call is passed on, moved and given up as any other.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from mosel.core.errors import MoselError
from mosel.frontend import codes
from mosel.frontend.bodies import Bodies, ClientGoneError
from mosel.frontend.doors.wire import grpc_of
from mosel.frontend.grpc_calls import Answers, GrpcAnswer, GrpcCall
from mosel.frontend.heads import read_headers
from mosel.frontend.http import Forwarded, unless_gone
from mosel.frontend.replies import Reply, refused

OCTETS = b"application/octet-stream"


class GrpcMember:
    """An application that takes what came over gRPC, and hands everything else to another.

    Args:
        app: the other.
        answers: what calls over gRPC are answered from.
        bodies: reads them.
        forwarded: what is asked of calls that a front door hands on.
    """

    def __init__(self, app: ASGIApp, answers: Answers, bodies: Bodies, forwarded: Forwarded) -> None:
        self._app, self._answers, self._bodies, self._forwarded = app, answers, bodies, forwarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = grpc_of(scope["headers"]) if scope["type"] == "http" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        try:
            reply = await self._reply(*asked, scope, receive)
        except ClientGoneError:
            return
        except MoselError as error:
            reply = refused(codes.refusal_of_error(error))
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.content})

    async def _reply(self, method: str, limit_ns: int | None, scope: Scope, receive: Receive) -> Reply:
        came_ns, headers = self._answers.now_ns(), scope["headers"]
        raw = await self._bodies.read(receive, read_headers(headers).content_length)
        self._bodies.release(len(raw))  # what answers holds it
        arrival_ns = self._forwarded.arrived(headers, came_ns)
        if not isinstance(arrival_ns, int):
            return arrival_ns
        call = GrpcCall(method, raw, headers, arrival_ns, limit_ns)
        answer = await unless_gone(self._answers.answer(call), receive)
        reply = _reply_of(answer)
        return reply if answer.receipt is None else self._forwarded.ended(reply, answer.receipt.outcome)


def _reply_of(answer: GrpcAnswer) -> Reply:
    if answer.refusal is not None:
        return refused(answer.refusal)
    headers = [(b"content-type", OCTETS), (b"content-length", b"%d" % len(answer.content))]
    return Reply(codes.OK, headers, answer.content)
