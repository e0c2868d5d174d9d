"""A client of the Open Inference Protocol over HTTP: what a replay needs of it, with raw tensors.

It knows the wire and nothing of schedules; what its answers add up to stands in `replay.py`.
"""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from numpy.typing import NDArray

from mosel.client_wire import read_outputs, read_within_limit
from mosel.core.errors import (
    BadAnswerError,
    ExecutionError,
    NotReadyError,
    UnauthorizedError,
    UnknownModelError,
    UsageError,
)
from mosel.evaluation.payloads import HEADER_LENGTH, Payload

LARGE_BYTES = 1 << 20
"""From here on a body goes out piece by piece, so that others do not wait for it."""

_Asking = AbstractAsyncContextManager[aiohttp.ClientResponse]

OK, UNAUTHORIZED, NOT_FOUND, UNAVAILABLE = 200, 401, 404, 503


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one job.

    Attributes:
        status: the HTTP status.
        error: the server's message; empty where there are outputs.
        receipt: the response's parameters; empty where the server gave none.
        outputs: by name, each of shape (requests, …); empty where there are none.
    """

    status: int
    error: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Client:
    """One model on one server, through as many connections as there are jobs under way."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session = session
        self._base = server_url(url)
        self._model = f"{self._base}/v2/models/{quote(model, safe='')}"

    async def describe(self) -> dict[str, Any]:
        """Return the model's metadata once the server takes jobs for it.

        Raises:
            NotReadyError: the server cannot be reached, or is not ready.
            UnauthorizedError: it asks for an API key, or does not know this one.
            UnknownModelError: it does not serve the model.
            BadAnswerError: it does not speak the protocol.
            ExecutionError: it failed on the question.
        """
        status, found = await self._get(self._model)
        if status == UNAUTHORIZED:
            raise UnauthorizedError(f"{self._base}: {found.get('error', 'an API key is needed')}")
        if status == NOT_FOUND:
            raise UnknownModelError(str(found.get("error") or f"{self._base}: the model is not served there"))
        if status == UNAVAILABLE:
            raise NotReadyError(f"{self._base}: {found.get('error', 'it is not ready')}; --wait SECONDS waits")
        if status != OK:
            raise ExecutionError(f"{self._base}: status {status}: {found.get('error', 'no reason given')}")
        status, _ = await self._get(f"{self._model}/ready")
        if status != OK:
            raise NotReadyError(f"{self._base}: the model is not ready; wait for it with --wait SECONDS")
        return found

    async def infer(self, payload: Payload) -> Reply:
        """Send one job and return what came back.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: the server is gone, or too slow.
            BadAnswerError: the answer is not what the protocol says.
        """
        headers = {
            HEADER_LENGTH: str(payload.header_length),
            "Content-Type": "application/octet-stream",
        }
        body = payload.body if len(payload.body) < LARGE_BYTES else io.BytesIO(payload.body)
        async with self._session.post(f"{self._model}/infer", data=body, headers=headers) as response:
            raw = await read_within_limit(response)
            told = response.headers.get(HEADER_LENGTH)
        return _decoded(response.status, raw, told)

    async def feedback(self, job: str, scores: Sequence[float], tenant: str = "") -> tuple[int, dict[str, Any]]:
        """Say how right the answers to a job were; returns the status and what was told.

        Raises:
            NotReadyError: the server cannot be reached.
        """
        body = orjson.dumps({"id": job, "scores": scores, **({"tenant": tenant} if tenant else {})})
        return await self._ask(self._session.post(f"{self._model}/feedback", data=body))

    async def accuracy(self) -> dict[str, Any]:
        """Return what feedback says of the model.

        Raises:
            NotReadyError: the server cannot be reached.
        """
        _, found = await self._get(f"{self._model}/accuracy")
        return found

    async def _get(self, url: str) -> tuple[int, dict[str, Any]]:
        return await self._ask(self._session.get(url))

    async def _ask(self, asking: _Asking) -> tuple[int, dict[str, Any]]:
        try:
            async with asking as response:
                return response.status, _object(await read_within_limit(response))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise NotReadyError(
                f"{self._base}: cannot be reached: {reason}; is `mosel serve` running there?"
            ) from error


def server_url(text: str) -> str:
    """Return a server's address with its scheme and without a trailing slash.

    Raises:
        UsageError: it is no HTTP address.
    """
    url = text if "://" in text else f"http://{text}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest.strip("/"):
        raise UsageError(f"server {text!r}; expected an address as in http://127.0.0.1:8000")
    return url.rstrip("/")


def _decoded(status: int, raw: bytes, told: str | None) -> Reply:
    if told is not None and not told.isdecimal():
        raise BadAnswerError(f"{HEADER_LENGTH} is {told!r}; expected a number of bytes")
    end = len(raw) if told is None else int(told)
    found = _object(raw[:end])
    receipt = found.get("parameters") or {}
    if status != OK:
        return Reply(status, str(found.get("error", "no reason given")), receipt)
    try:
        return Reply(status, "", receipt, read_outputs(found["outputs"], memoryview(raw)[end:]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswerError(f"the answer's outputs cannot be read: {error}") from error


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except json.JSONDecodeError as error:
        raise BadAnswerError(
            "the answer is no JSON; is this a server of the Open Inference Protocol?"
        ) from error
    if not isinstance(found, dict):
        raise BadAnswerError("the answer is no JSON object; is this a server of the Open Inference Protocol?")
    return found
