"""A client of an ASGI application, without a socket."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mosel.frontend.http import HttpApp
from mosel.frontend.service import Service

WAVE = {"name": "wave", "shape": [1, 2, 1], "datatype": "FP32", "data": [0.5, 1]}


class Reply(NamedTuple):
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """The JSON body."""
        return json.loads(self.body)


class Client:
    """One connection to an ASGI application, without a socket."""

    def __init__(self, app: HttpApp) -> None:
        self.app = app
        self.received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []

    async def ask(
        self,
        method: str,
        path: str,
        chunks: tuple[bytes, ...] = (b"",),
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request and return the reply."""
        for place, chunk in enumerate(chunks):
            self.received.put_nowait(
                {"type": "http.request", "body": chunk, "more_body": place < len(chunks) - 1}
            )
        await self.start(method, path, headers or {})
        start = next(m for m in self.sent if m["type"] == "http.response.start")
        body = b"".join(m.get("body", b"") for m in self.sent if m["type"] == "http.response.body")
        return Reply(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body)

    async def start(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Let the application handle a request."""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("127.0.0.1", 1),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        await self.app(scope, self.received.get, self._send)

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


async def get(service: Service, path: str, method: str = "GET") -> Reply:
    """Ask for `path`."""
    return await Client(HttpApp(service)).ask(method, path)


async def infer(service: Service, body: Mapping[str, object], path: str = "/v2/models/m/infer") -> Reply:
    """Post an inference request."""
    return await Client(HttpApp(service)).ask("POST", path, (json.dumps(body).encode(),))
