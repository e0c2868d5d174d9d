"""The OpenAPI document of the REST side, from the routes that there are and the models that are served.

What each route is for stands here, by its path without a version; a route of which nothing stands here is a
`KeyError`. Bodies are described in `openapi_schemas.py`. A route that takes GET takes HEAD too, untold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mosel import __version__
from mosel.frontend import codes
from mosel.frontend import openapi_schemas as schemas
from mosel.frontend.openapi_schemas import Schema
from mosel.models.base import Model

VERSION = "/versions/{version}"
"""Stands in paths that may name a model's version."""

JSON, OCTETS, TEXT, HTML = "application/json", "application/octet-stream", "text/plain", "text/html"

_ERRORS = {
    codes.BAD_REQUEST: "Bad input, or an accuracy SLO out of reach; the message says what was expected.",
    codes.UNAUTHORIZED: "The API key is missing, or not known.",
    codes.NOT_FOUND: "There is no such model or version.",
    codes.TOO_SLOW: "The request was not here in time.",
    codes.GONE: "The offer, or the job, is not held, or not any more.",
    codes.TOO_LARGE: "The body is over the limit.",
    codes.HEAD_TOO_LARGE: "The headers are over the limit.",
    codes.INTERNAL: "The model, a worker or the server failed.",
    codes.UNAVAILABLE: "Infeasible now, dropped, overloaded, loading, draining, unloaded; with the reason.",
}
_ALWAYS = (codes.TOO_SLOW, codes.HEAD_TOO_LARGE, codes.UNAVAILABLE)
_WITH_BODY = (codes.BAD_REQUEST, codes.TOO_LARGE)
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route is for: its name, a line, content of its answer and of its body, further errors."""

    name: str
    summary: str
    found: Mapping[str, Schema]
    body: Mapping[str, Schema] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    parameters: tuple[Schema, ...] = ()
    unready: Schema | None = None
    needs_body: bool = False


def document(
    routes: Iterable[tuple[str, str]],
    models: Sequence[Model],
    most_requests: int,
    open_paths: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: path and method of each.
        models: those that are served.
        most_requests: the largest job.
        open_paths: what needs no API key; None where nothing needs one.
    """
    operations = _operations(models, most_requests)
    free = None if open_paths is None else frozenset(open_paths)
    paths: dict[str, Any] = {}
    for path, method in routes:
        operation = operations[path.replace(VERSION, "")]
        told = _told(operation, path, models)
        if free is not None and path not in free:
            told["security"] = _SECURITY
            told["responses"][str(codes.UNAUTHORIZED)] = _error(codes.UNAUTHORIZED)
        paths.setdefault(path, {})[method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": "mosel", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": schemas.ERROR},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


_DESCRIPTION = "The Open Inference Protocol with accuracy and latency SLOs, and lazy upload."


def _told(operation: Operation, path: str, models: Sequence[Model]) -> dict[str, Any]:
    versioned = VERSION in path
    told: dict[str, Any] = {
        "operationId": operation.name + ("OfVersion" if versioned else ""),
        "summary": operation.summary,
        "parameters": [*_in_path(path, models), *operation.parameters],
        "responses": _responses(operation, has_model="{model}" in path),
    }
    if operation.body:
        told["requestBody"] = {"required": operation.needs_body, "content": _content(operation.body)}
    return told


def _in_path(path: str, models: Sequence[Model]) -> list[Schema]:
    values = {
        "model": dict.fromkeys(model.name for model in models),
        "version": dict.fromkeys(model.version for model in models),
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.one_of(known)}
        for name, known in values.items()
        if f"{{{name}}}" in path
    ]


def _responses(operation: Operation, *, has_model: bool) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": "Done.", "content": _content(operation.found)}
    if OCTETS in operation.found:
        ok["headers"] = {_LENGTH: {"description": "Where raw tensors follow.", "schema": schemas.COUNT}}
    statuses = {
        *_ALWAYS,
        *operation.errors,
        *(_WITH_BODY if operation.body else ()),
        *((codes.NOT_FOUND,) if has_model else ()),
    }
    found = {str(codes.OK): ok} | {str(status): _error(status) for status in sorted(statuses)}
    if operation.unready is not None:
        either = {"anyOf": [operation.unready, _ERROR_SCHEMA]}
        unready = {"description": "Not ready.", "content": _content({JSON: either})}
        found[str(codes.UNAVAILABLE)] = unready
    return found


def _error(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {"description": _ERRORS[status], "content": _content({JSON: _ERROR_SCHEMA})}
    if status == codes.UNAVAILABLE:
        told["headers"] = {
            "Retry-After": {
                "description": "Seconds.",
                "required": True,
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return told


_ERROR_SCHEMA: Schema = {"$ref": "#/components/schemas/Error"}
_LENGTH = "Inference-Header-Content-Length"
_LENGTH_IN: Schema = {
    "name": _LENGTH,
    "in": "header",
    "description": "Bytes of the JSON object that the body starts with, where raw tensors follow it.",
    "schema": schemas.COUNT,
}
_SINCE: Schema = {
    "name": "since",
    "in": "query",
    "description": "From this second of the server's clock on.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
}


def _content(media: Mapping[str, Schema]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in media.items()}


def _operations(models: Sequence[Model], most_requests: int) -> dict[str, Operation]:
    """Return what each path is for."""
    request = schemas.inference_request(models, most_requests)
    offer = schemas.offer_request(models, most_requests)
    return {
        **_PLAIN,
        "/v2/models/{model}/infer": Operation(
            "infer",
            "Run a job; its receipt comes in the answer's parameters.",
            {JSON: {"anyOf": [schemas.ANSWER, schemas.OFFERED]}, OCTETS: schemas.RAW},
            {JSON: request, OCTETS: schemas.RAW},
            (codes.GONE, codes.INTERNAL),
            (_LENGTH_IN,),
            needs_body=True,
        ),
        "/v2/models/{model}/offer": Operation(
            "offer",
            "Tell of a job before its tensors travel: which of its modalities are wanted.",
            {JSON: schemas.OFFERED},
            {JSON: offer},
            needs_body=True,
        ),
        "/v2/models/{model}/feedback": Operation(
            "feedback",
            "Say how right the answers to a job were.",
            {JSON: schemas.COUNTED},
            {JSON: schemas.feedback_request(most_requests)},
            (codes.GONE,),
            needs_body=True,
        ),
    }


def _flag(name: str) -> Schema:
    return schemas.closed({name: schemas.BOOLEAN})


_MODEL_READY = schemas.closed({"name": schemas.STRING, "ready": schemas.BOOLEAN})
_LOADING: Schema = {"type": "object", "properties": {"parameters": {"type": "object", "maxProperties": 0}}}

_PLAIN = {
    "/": Operation("dashboard", "The dashboard, for a browser.", {HTML: schemas.STRING}),
    "/dashboard/state": Operation(
        "dashboardState",
        "What the dashboard shows.",
        {JSON: schemas.OBJECT},
        errors=(codes.BAD_REQUEST,),
        parameters=(_SINCE,),
    ),
    "/openapi.json": Operation("openapi", "This document.", {JSON: schemas.OBJECT}),
    "/metrics": Operation("metrics", "Metrics in Prometheus's text format.", {TEXT: schemas.STRING}),
    "/v2": Operation("server", "The server's metadata.", {JSON: schemas.SERVER}),
    "/v2/health/live": Operation("live", "Whether the server lives.", {JSON: _flag("live")}),
    "/v2/health/ready": Operation(
        "ready", "Whether the server takes jobs.", {JSON: _flag("ready")}, unready=_flag("ready")
    ),
    "/v2/models/stats": Operation("statistics", "Statistics of all models.", {JSON: schemas.STATISTICS}),
    "/v2/models/{model}": Operation("model", "A model's metadata.", {JSON: schemas.METADATA}),
    "/v2/models/{model}/ready": Operation(
        "modelReady", "Whether a model takes jobs.", {JSON: _MODEL_READY}, unready=_MODEL_READY
    ),
    "/v2/models/{model}/accuracy": Operation(
        "liveAccuracy", "What feedback says of each mode of a model.", {JSON: schemas.LIVE_ACCURACY}
    ),
    "/v2/models/{model}/config": Operation(
        "modelConfiguration", "A model's configuration in Triton's form.", {JSON: schemas.CONFIGURATION}
    ),
    "/v2/models/{model}/stats": Operation(
        "modelStatistics", "A model's statistics.", {JSON: schemas.STATISTICS}
    ),
    "/v2/repository/index": Operation(
        "index",
        "Name, version and state of each model.",
        {JSON: schemas.INDEX},
        {JSON: {"type": "object", "properties": {"ready": schemas.BOOLEAN}}},
    ),
    "/v2/repository/models/{model}/load": Operation(
        "load", "Let a model take jobs again.", {JSON: schemas.closed({})}, {JSON: _LOADING}
    ),
    "/v2/repository/models/{model}/unload": Operation(
        "unload",
        "Take no more jobs for a model; returns when those accepted are answered.",
        {JSON: schemas.closed({})},
        {JSON: schemas.OBJECT},
    ),
}
