"""The Open Inference Protocol over HTTP, as one ASGI application.

Inference is raw ASGI, since it is the path that counts; everything else is Starlette. What the handlers do is
in `service.py`, how bodies look in `protocol.py`, what a status means in `codes.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol, TypeVar

from starlette.types import Message, Receive, Scope, Send

from mosel.core.errors import MoselError
from mosel.core.states import State
from mosel.frontend import codes, protocol
from mosel.frontend.bodies import ClientGoneError
from mosel.frontend.calls import Call, of_tenant
from mosel.frontend.codes import Refusal
from mosel.frontend.feedback_body import decode_feedback
from mosel.frontend.heads import (
    KNOWN_MOST,
    Head,
    Headers,
    Target,
    plain_head,
    read_headers,
    target_of,
)
from mosel.frontend.inference import Request
from mosel.frontend.keys import Keys
from mosel.frontend.receipts import receipt_parameters
from mosel.frontend.replies import Reply, found, refused, told
from mosel.frontend.rest import FAULT, OPEN_PATHS, rest_app
from mosel.frontend.running import Cancellable, Outcome
from mosel.frontend.service import Service

T = TypeVar("T")
Raw = bytes | memoryview

_LOG = logging.getLogger("mosel.http")


class Forwarded(Protocol):
    """What a group makes of calls that a front door hands on."""

    def arrived(self, headers: Headers, came_ns: int) -> int | Reply:
        """Return when a call arrived that came here now; or the reply to one that is not taken here."""

    def ended(self, reply: Reply, outcome: State) -> Reply:
        """Return the reply to a job as it goes to the door."""


class HttpApp:
    """The application that an ASGI server calls once a request, when its headers are in.

    Args:
        service: the handlers.
        keys: who may call.
        forwarded: what calls are asked that a front door hands on; None where there is none.

    Attributes:
        known: heads of inference calls that are known by their bytes.
        hold, release: count bytes of bodies, see `bodies.py`.
        now_ns: the server's clock.
    """

    def __init__(self, service: Service, keys: Keys | None = None, forwarded: Forwarded | None = None) -> None:
        self._service, self._forwarded = service, forwarded
        self._keys = keys or Keys()
        self._rest = rest_app(service, needs_key=self._keys.needed)
        self._bodies = service.bodies
        self.hold, self.release, self.now_ns = self._bodies.hold, self._bodies.release, service.now_ns
        self.known: dict[bytes, Head] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arrival_ns = self._service.now_ns()
        target = target_of(scope["path"]) if scope["type"] == "http" else None
        answered = False

        async def send_once(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            tenant = self._tenant(scope)
            if target is None:
                await self._rest(scope, receive, send_once)
                return
            reply = await self._reply(target, arrival_ns, tenant, scope, receive)
        except ClientGoneError:
            return
        except Exception as error:
            reply = self.failed(error)
            if answered:
                return
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.content})

    def _tenant(self, scope: Scope) -> str | None:
        """Return the tenant whose key the call carries; None where none is needed."""
        if not self._keys.needed or scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return None
        return self._keys.tenant_of(scope["headers"])

    async def _reply(
        self, target: Target, arrival_ns: int, tenant: str | None, scope: Scope, receive: Receive
    ) -> Reply:
        if scope["method"] != "POST":
            return refused(Refusal(codes.NOT_ALLOWED, f"{scope['path']} takes POST, not {scope['method']}"))
        head = self._head(target, tenant, scope["headers"])
        body = await self._bodies.read(receive, head.told.content_length)
        try:
            if self._forwarded is not None:
                came = self._forwarded.arrived(scope["headers"], arrival_ns)
                if not isinstance(came, int):
                    return came
                arrival_ns = came
            return await self._answer(target, head, arrival_ns, body, receive)
        finally:
            self._bodies.release(len(body))

    async def _answer(
        self, target: Target, head: Head, arrival_ns: int, body: bytes, receive: Receive
    ) -> Reply:
        if target.action == "offer":
            offer = protocol.decode_offer(body, head.tenant)
            return told(self._service.offer(target.model, offer, arrival_ns))
        if target.action == "feedback":
            return told(self._service.feedback(target.model, decode_feedback(body, head.tenant)))
        request, call = self._decoded(head, body)
        outcome = await unless_gone(self._service.infer(target.model, call, arrival_ns), receive)
        reply = _inferred(head, request, outcome)
        if self._forwarded is None or outcome.further is not None:
            return reply
        return self._forwarded.ended(reply, outcome.receipt.outcome)

    def _decoded(self, head: Head, body: Raw) -> tuple[Request, Call]:
        request = protocol.decode(body, head.told.json_length, self._service.limits.json_bytes)
        return request, request.call if head.tenant is None else of_tenant(request.call, head.tenant)

    # Calls whose head is known, without a task; `connection.py` has the way there

    def know(self, raw: bytes, scope: Scope) -> None:
        """Know the head of an inference call from now on, if that is what it is, by its bytes."""
        if self._forwarded is not None:
            return  # what a front door says of a call is in its head, so that none comes twice
        target = target_of(scope["path"])
        if target is None or target.action != "infer" or scope["query_string"] or not plain_head(raw, scope):
            return
        try:
            head = self._head(target, self._tenant(scope), scope["headers"])
        except MoselError:
            return  # it is refused each time, by whoever reads it
        if len(self.known) >= KNOWN_MOST:
            self.known.clear()
        self.known[raw] = head

    def begin(
        self, head: Head, body: Raw, arrival_ns: int, send: Callable[[Reply], None], *, held: bool = False
    ) -> Cancellable | None:
        """Do what a call with a known head asks for, and `send` the reply, perhaps at once.

        `held` says that its body is held already. Returns what can be cancelled until the reply is sent.
        """
        size = len(body)
        try:
            if not held:
                self._bodies.hold(size)
        except MoselError as error:
            send(self.failed(error))
            return None
        try:
            request, call = self._decoded(head, body)
            asked = _Asked(self, head, request, size, send)
            return self._service.start(head.model, call, arrival_ns, asked.told)
        except Exception as error:
            self.release(size)
            send(self.failed(error))
            return None

    def failed(self, error: Exception) -> Reply:
        """Return what is sent in answer to a call that failed."""
        if isinstance(error, MoselError):
            self._service.metrics.refused(error)
            return refused(codes.refusal_of_error(error))
        _LOG.error("a request failed in the server itself", exc_info=error)
        return refused(FAULT)

    def _head(self, target: Target, tenant: str | None, headers: Headers) -> Head:
        version = self._service.version_of(target.model, target.version)
        return Head(target.model, version, tenant, read_headers(headers))


class _Asked:
    """A call with a known head that waits for its reply.

    Args:
        app: whose it is.
        head, request: the call.
        size: of its body, which is held, in bytes.
        send: takes the reply.
    """

    __slots__ = ("_app", "_head", "_request", "_send", "_size")

    def __init__(
        self, app: HttpApp, head: Head, request: Request, size: int, send: Callable[[Reply], None]
    ) -> None:
        self._app, self._head, self._request, self._size, self._send = app, head, request, size, send

    def told(self, what: Outcome | Exception | None) -> None:
        """Let go of its body, and send the reply if there is somebody to read it."""
        self._app.release(self._size)
        if what is not None:
            self._send(self._reply(what))

    def _reply(self, what: Outcome | Exception) -> Reply:
        if isinstance(what, Exception):
            return self._app.failed(what)
        try:
            return _inferred(self._head, self._request, what)
        except Exception as error:
            return self._app.failed(error)


def _inferred(head: Head, request: Request, outcome: Outcome) -> Reply:
    if outcome.further is not None:
        return told(dict(outcome.further))
    if outcome.outputs is None:
        return refused(codes.refusal_of_receipt(outcome.receipt, outcome.choice))
    named = {"model_name": head.model, "model_version": head.version}
    if request.call.id:
        named["id"] = request.call.id
    parameters = receipt_parameters(outcome.receipt, outcome.choice)
    return found(protocol.encode(named, parameters, outcome.outputs, request))


async def unless_gone(calling: Coroutine[object, object, T], receive: Receive) -> T:
    """Return what `calling` returns; cancel it and raise `ClientGoneError` if the client goes away first."""
    loop = asyncio.get_running_loop()
    call = loop.create_task(calling)
    watch = loop.create_task(_next(receive))  # the body is read: what comes next is a disconnect
    watch.add_done_callback(lambda _: call.cancel())
    try:
        return await call
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            raise ClientGoneError from None
        raise
    finally:
        watch.cancel()


async def _next(receive: Receive) -> None:
    await receive()
