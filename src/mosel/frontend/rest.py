"""All of the protocol over HTTP but `CALLS`: health, metadata, repository, metrics, the dashboard, errors.

These are Starlette's routes; what they answer is in `service.py`. `http.py` is the application around them.
"""

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mosel.core.errors import InputError, MoselError, TooLargeError
from mosel.frontend import codes
from mosel.frontend.bodies import ClientGoneError
from mosel.frontend.codes import Refusal
from mosel.frontend.dashboard.page import page
from mosel.frontend.metrics import CONTENT_TYPE
from mosel.frontend.openapi import document
from mosel.frontend.service import Service

OPEN_PATHS = ("/", "/v2/health/live", "/v2/health/ready")
"""What needs no key: it tells nothing but that the server is there. The dashboard asks for one itself."""

CALLS = (
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/v2/models/{model}/offer",
    "/v2/models/{model}/feedback",
)
"""What is raw ASGI, and takes POST; all other paths are routes of `rest_app`."""

OBJECT_BYTES = 64 << 10
"""Of a body that is not an inference request."""

FAULT = Refusal(codes.INTERNAL, "the server failed on this request; its log says why")


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
        found = page(needs_key=needs_key)
        return Response(found.content, headers=found.headers, media_type="text/html")

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
    return _json(FAULT.status, {"error": FAULT.message})


async def _on_mosel_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MoselError)
    refusal = codes.refusal_of_error(error)
    return _json(refusal.status, {"error": refusal.message})
