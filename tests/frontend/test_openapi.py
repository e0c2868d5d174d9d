import json
from typing import Any

import pytest
from starlette.routing import Route

from mosel.frontend import codes
from mosel.frontend.http import HttpApp
from mosel.frontend.keys import Keys
from mosel.frontend.openapi import document
from mosel.frontend.rest import CALLS, OPEN_PATHS, rest_app, routes_of
from mosel.frontend.service import Service
from tests.frontend.asgi_client import Client, get

KEY = "gold-0123456789abcdef"


async def described(service: Service) -> Any:
    """Return the document that the server tells."""
    return (await get(service, "/openapi.json")).told


async def test_every_route_is_described_and_every_description_is_of_a_route(service: Service) -> None:
    """By path and method; nothing but plain routes is in the application."""
    told = await described(service)
    found = {(path, method.upper()) for path, methods in told["paths"].items() for method in methods}
    rest = rest_app(service)
    routes = {
        (route.path, method)
        for route in rest.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert all(isinstance(route, Route) for route in rest.routes)
    assert found == routes | {(path, "POST") for path in CALLS}
    assert len(routes_of(rest)) == len(found)


async def test_every_described_path_is_answered(service: Service) -> None:
    """With its method, for a model and version that are served: by a status that the description has."""
    told = await described(service)
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            named = path.replace("{model}", "m").replace("{version}", "7")
            reply = await Client(HttpApp(service)).ask(method.upper(), named)
            assert reply.status not in (codes.NOT_FOUND, codes.NOT_ALLOWED), path
            assert str(reply.status) in operation["responses"], path


def test_a_route_without_a_description_is_an_error() -> None:
    """It cannot be left out in silence."""
    with pytest.raises(KeyError):
        document([("/v2/other", "GET")], [], 1)


async def test_the_served_models_are_described(service: Service) -> None:
    """Their names and versions, and each tensor with its data type, sizes and limits."""
    told = await described(service)
    operation = told["paths"]["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert [p["schema"].get("enum") for p in operation["parameters"]][:2] == [["m"], ["7"]]
    (request,) = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    tensors = request["properties"]["inputs"]["items"]["anyOf"]
    assert [tensor["properties"]["name"]["const"] for tensor in tensors] == ["tokens", "mask", "wave"]
    assert tensors[2]["properties"]["datatype"] == {"const": "FP32"}
    assert tensors[2]["properties"]["shape"]["prefixItems"] == [
        {"type": "integer", "minimum": 1, "maximum": 4},
        {"const": 2},
        {"type": "integer", "minimum": 1, "maximum": 8},
    ]


async def test_names_of_operations_are_their_own(service: Service) -> None:
    """So that a client can be made of the document."""
    told = await described(service)
    names = [one["operationId"] for methods in told["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)


async def test_keys_are_described_where_they_are_needed(service: Service) -> None:
    """The document is behind them like the rest; only health is not."""
    app = HttpApp(service, Keys({"gold": [KEY]}))
    assert (await Client(app).ask("GET", "/openapi.json")).status == codes.UNAUTHORIZED
    reply = await Client(app).ask("GET", "/openapi.json", headers={"X-API-Key": KEY})
    for path, methods in json.loads(reply.body)["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == ("401" in operation["responses"]) == (path not in OPEN_PATHS)
    assert "security" not in json.dumps((await described(service))["paths"])
