"""The Open Inference Protocol over HTTP, as one ASGI application.

Inference is raw ASGI, since it is the path that counts; everything else is Starlette. What the handlers do is
in `service.py`, how bodies look in `protocol.py`, what a status means in `codes.py`.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import NamedTuple, TypeVar

import orjson
from starlette.routing import compile_path
from starlette.types import Message, Receive, Scope, Send

from mosel.core.errors import InputError, MoselError
from mosel.frontend import codes, protocol
from mosel.frontend.answered import decode_feedback
from mosel.frontend.bodies import ClientGoneError
from mosel.frontend.calls import of_tenant, receipt_parameters
from mosel.frontend.codes import Refusal
from mosel.frontend.keys import Keys
from mosel.frontend.rest import CALLS, FAULT, OPEN_PATHS, rest_app
from mosel.frontend.service import Service

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]

_LOG = logging.getLogger("mosel.http")
_JSON, _OCTETS = b"application/json", b"application/octet-stream"
_HEADER_LENGTH = b"inference-header-content-length"


class HttpApp:
    """The application that an ASGI server calls once a request, when its headers are in."""

    def __init__(self, service: Service, keys: Keys | None = None) -> None:
        self._service = service
        self._keys = keys or Keys()
        self._rest = rest_app(service, needs_key=self._keys.needed)
        self._bodies = service.bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arrival_ns = self._service.now_ns()
        target = _target(scope["path"]) if scope["type"] == "http" else None
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
        except MoselError as error:
            self._service.metrics.refused(error)
            reply = _refused(codes.refusal_of_error(error))
        except Exception:
            _LOG.exception("a request failed in the server itself")
            if answered:
                return
            reply = _refused(FAULT)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.content})

    def _tenant(self, scope: Scope) -> str | None:
        """Return the tenant whose key the call carries; None where none is needed."""
        if not self._keys.needed or scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return None
        return self._keys.tenant_of(scope["headers"])

    async def _reply(
        self, target: "_Target", arrival_ns: int, tenant: str | None, scope: Scope, receive: Receive
    ) -> "_Reply":
        if scope["method"] != "POST":
            return _refused(Refusal(codes.NOT_ALLOWED, f"{scope['path']} takes POST, not {scope['method']}"))
        version = self._service.version_of(target.model, target.version)
        told = _read_headers(scope["headers"])
        body = await self._bodies.read(receive, told.content_length)
        try:
            return await self._answer(target, arrival_ns, version, tenant, body, told.json_length, receive)
        finally:
            self._bodies.release(len(body))

    async def _answer(
        self,
        target: "_Target",
        arrival_ns: int,
        version: str,
        tenant: str | None,
        body: bytes,
        json_length: int | None,
        receive: Receive,
    ) -> "_Reply":
        if target.action == "offer":
            offer = protocol.decode_offer(body, tenant)
            return _told(self._service.offer(target.model, offer, arrival_ns))
        if target.action == "feedback":
            return _told(self._service.feedback(target.model, decode_feedback(body, tenant)))
        request = protocol.decode(body, json_length, self._service.limits.json_bytes)
        call = request.call if tenant is None else of_tenant(request.call, tenant)
        outcome = await _unless_gone(self._service.infer(target.model, call, arrival_ns), receive)
        if outcome.further is not None:
            return _told(dict(outcome.further))
        if outcome.outputs is None:
            return _refused(codes.refusal_of_receipt(outcome.receipt, outcome.choice))
        head = {"model_name": target.model, "model_version": version}
        if request.call.id:
            head["id"] = request.call.id
        parameters = receipt_parameters(outcome.receipt, outcome.choice)
        return _found(protocol.encode(head, parameters, outcome.outputs, request))


class _Target(NamedTuple):
    action: str
    model: str
    version: str = ""


_TARGETS = [(compile_path(path)[0], path.rpartition("/")[2]) for path in CALLS]


def _target(path: str) -> _Target | None:
    """Return what `path` infers on, offers to or gives feedback on; None if it is another path."""
    for pattern, action in _TARGETS:
        if found := pattern.match(path):
            return _Target(action, *found.groups())
    return None


class _Told(NamedTuple):
    content_length: int
    json_length: int | None


def _read_headers(headers: Headers) -> _Told:
    content_length, json_length = 0, None
    for name, value in headers:
        if name == b"content-length":
            content_length = _length("Content-Length", value)
        elif name == _HEADER_LENGTH:
            json_length = _length("Inference-Header-Content-Length", value)
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise InputError(
                f"Content-Encoding {value.decode('latin-1')!r} is not supported; send the body uncompressed"
            )
    return _Told(content_length, json_length)


def _length(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise InputError(f"{name} is {value.decode('latin-1')!r}; expected a number of bytes")
    return int(value)


async def _unless_gone(calling: Coroutine[object, object, T], receive: Receive) -> T:
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


class _Reply(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes


def _found(body: protocol.Body) -> _Reply:
    headers = [
        (b"content-type", _JSON if body.header_length is None else _OCTETS),
        (b"content-length", b"%d" % len(body.content)),
    ]
    if body.header_length is not None:
        headers.append((_HEADER_LENGTH, b"%d" % body.header_length))
    return _Reply(codes.OK, headers, body.content)


def _told(told: dict[str, object]) -> _Reply:
    content = orjson.dumps(told)
    return _Reply(codes.OK, [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))], content)


def _refused(refusal: Refusal) -> _Reply:
    told: dict[str, object] = {"error": refusal.message}
    if refusal.parameters:
        told["parameters"] = refusal.parameters
    content = orjson.dumps(told)
    headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    if refusal.status == codes.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == codes.NOT_ALLOWED:
        headers.append((b"allow", b"POST"))
    return _Reply(refusal.status, headers, content)
