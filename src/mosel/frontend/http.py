"""The Open Inference Protocol over HTTP, as one ASGI application.

Inference is raw ASGI, since it is the path that counts; everything else is Starlette. What the handlers do is
in `service.py`, how bodies look in `protocol.py`, what a status means in `codes.py`.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import Message, Receive, Scope, Send

from mosel.core.errors import InputError, MoselError, TooLargeError
from mosel.frontend import codes, protocol
from mosel.frontend.answered import decode_feedback
from mosel.frontend.bodies import ClientGoneError
from mosel.frontend.calls import of_tenant, receipt_parameters
from mosel.frontend.codes import Refusal
from mosel.frontend.dashboard.page import page
from mosel.frontend.keys import Keys
from mosel.frontend.metrics import CONTENT_TYPE
from mosel.frontend.openapi import document
from mosel.frontend.service import Service

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""What needs no key: it tells nothing but that the server is there."""

CALLS = (
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/v2/models/{model}/offer",
    "/v2/models/{model}/feedback",
)
"""What is raw ASGI, and takes POST; all other paths are routes of `rest_app`."""

_LOG = logging.getLogger("mosel.http")
OBJECT_BYTES = 64 << 10
"""Of a body that is not an inference request."""

_FAULT = Refusal(codes.INTERNAL, "the server failed on this request; its log says why")

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
            reply = _refused(_FAULT)
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
        if outcome.outputs is None:
            return _refused(codes.refusal_of_receipt(outcome.receipt, outcome.choice))
        head = {"model_name": target.model, "model_version": version}
        if request.call.id:
            head["id"] = request.call.id
        parameters = receipt_parameters(outcome.receipt, outcome.choice)
        return _found(protocol.encode(head, parameters, outcome.outputs, request))


def routes_of(rest: Starlette) -> list[tuple[str, str]]:
    """Return path and method of every route that there is, `CALLS` among them; HEAD goes with GET."""
    plain = [route for route in rest.routes if isinstance(route, Route)]
    found = [(one.path, method) for one in plain for method in sorted(one.methods or ()) if method != "HEAD"]
    return [*found, *((path, "POST") for path in CALLS)]


def rest_app(service: Service, *, needs_key: bool = False) -> Starlette:
    """Return the application for everything but `CALLS`: health, metadata, metrics, and JSON errors."""

    async def live(_: Request) -> Response:
        return _json(codes.OK, {"live": True})

    async def ready(_: Request) -> Response:
        return _json(codes.OK if service.ready else codes.UNAVAILABLE, {"ready": service.ready})

    async def server(_: Request) -> Response:
        return _json(codes.OK, service.server_metadata())

    async def model(request: Request) -> Response:
        return _json(codes.OK, service.model_metadata(*_named(request)))

    async def model_ready(request: Request) -> Response:
        name, version = _named(request)
        is_ready = service.model_ready(name, version)
        return _json(codes.OK if is_ready else codes.UNAVAILABLE, {"name": name, "ready": is_ready})

    async def config(request: Request) -> Response:
        return _json(codes.OK, service.model_config(*_named(request)))

    async def statistics(request: Request) -> Response:
        return _json(codes.OK, {"model_stats": service.model_statistics(*_named(request))})

    async def accuracy(request: Request) -> Response:
        return _json(codes.OK, service.live_accuracy(*_named(request)))

    async def index(request: Request) -> Response:
        asked = await _read_object(request)
        if not isinstance(asked.get("ready", False), bool):
            raise InputError(f"ready is {asked['ready']!r}; expected true or false")
        return _json(codes.OK, service.repository.index(ready_only=asked.get("ready", False)))

    async def load(request: Request) -> Response:
        _check_no_page(request)
        parameters = (await _read_object(request)).get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InputError(f"parameters is {type(parameters).__name__}; expected an object")
        service.repository.load(request.path_params["model"], parameters)
        return _json(codes.OK, {})

    async def unload(request: Request) -> Response:
        _check_no_page(request)
        await _read_object(request)
        await service.repository.unload(request.path_params["model"])
        return _json(codes.OK, {})

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)

    async def dashboard(_: Request) -> Response:
        return Response(page().content, headers=page().headers, media_type="text/html")

    async def dashboard_state(request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not since.isascii() or not since.isdigit() or len(since) > 18:
            raise InputError(f"since is {since[:40]!r}; expected a second of this server's clock")
        return _json(codes.OK, service.dashboard(int(since)), {"Cache-Control": "no-store"})

    async def openapi(request: Request) -> Response:
        free, most = OPEN_PATHS if needs_key else None, service.limits.job_requests
        return _json(codes.OK, document(routes_of(request.app), service.models, most, free))

    return Starlette(
        routes=[
            Route("/", dashboard),
            Route("/dashboard/state", dashboard_state),
            Route("/openapi.json", openapi),
            Route("/v2", server),
            Route("/v2/health/live", live),
            Route("/v2/health/ready", ready),
            Route("/v2/models/stats", statistics),
            Route("/v2/repository/index", index, methods=["POST"]),
            Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
            Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
            Route("/v2/models/{model}", model),
            Route("/v2/models/{model}/config", config),
            Route("/v2/models/{model}/stats", statistics),
            Route("/v2/models/{model}/accuracy", accuracy),
            Route("/v2/models/{model}/ready", model_ready),
            Route("/v2/models/{model}/versions/{version}", model),
            Route("/v2/models/{model}/versions/{version}/ready", model_ready),
            Route("/v2/models/{model}/versions/{version}/config", config),
            Route("/v2/models/{model}/versions/{version}/stats", statistics),
            Route("/metrics", metrics),
        ],
        exception_handlers={
            HTTPException: _on_http_error,
            MoselError: _on_mosel_error,
            Exception: _on_fault,
        },
    )


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


def _named(request: Request) -> tuple[str, str]:
    return request.path_params.get("model", ""), request.path_params.get("version", "")


def _check_no_page(request: Request) -> None:
    """Refuse what a browser sends for some page: any page that a person visits may post to loopback."""
    if origin := request.headers.get("origin"):
        raise InputError(
            f"the call comes from a page of {origin[:80]!r}; models are loaded and unloaded by programs"
        )


async def _read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body; an empty body is an empty object.

    Raises:
        InputError: there is something else in it.
        TooLargeError: it is over `OBJECT_BYTES`.
    """
    raw = b""
    try:
        async for part in request.stream():
            raw += part
            if len(raw) > OBJECT_BYTES:
                raise TooLargeError(f"the body is over {OBJECT_BYTES:,} bytes; expected a small JSON object")
    except ClientDisconnect as error:
        raise ClientGoneError("the client went away before its body had come") from error
    try:
        found = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"the body is a JSON {type(found).__name__}; expected an object")
    return found


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _other(method: str) -> str:
    return "GET" if method == "POST" else "GET or POST" if method not in ("GET", "HEAD") else "POST"


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {
        codes.NOT_FOUND: f"there is no {request.url.path}; the Open Inference Protocol starts at /v2",
        codes.NOT_ALLOWED: f"{request.url.path} takes {_other(request.method)}, not {request.method}",
    }
    headers = dict(error.headers) if error.headers else None
    return _json(error.status_code, {"error": said.get(error.status_code, error.detail)}, headers)


async def _on_fault(_: Request, error: Exception) -> Response:
    del error  # it is raised again, and logged where the application is called
    return _json(_FAULT.status, {"error": _FAULT.message})


async def _on_mosel_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MoselError)
    refusal = codes.refusal_of_error(error)
    return _json(refusal.status, {"error": refusal.message})
