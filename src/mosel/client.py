"""Clients of a mosel server: send a job whole, or offer it first and send only what the server wants.

`Client` needs no package but numpy; `AsyncClient` needs aiohttp (extra `serve`). Tensors travel raw. An input
may be a function that makes it: with `lazy=True` it is called only if the server wants that modality.
"""

import http.client
import json
import select
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import (
    BadAnswerError,
    ExecutionError,
    GoneError,
    InputError,
    MoselError,
    NotReadyError,
    RefusedError,
    TooLargeError,
    UnauthorizedError,
    UnknownModelError,
    UsageError,
)
from mosel.models.base import DATATYPES
from mosel.models.datatypes import BF16, from_wire

HEADER_LENGTH = "Inference-Header-Content-Length"
TIMEOUT_S = 600.0

Array = NDArray[Any]
Inputs = Mapping[str, Array | Callable[[], Array]]
Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs of a job that ran, by name, each (requests, …), and its receipt (`docs/formats.md`)."""

    outputs: Mapping[str, Array]
    receipt: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class Offer:
    """A place that the server holds: its id, the tensors that it wants, and for how many seconds."""

    id: str
    inputs: tuple[str, ...]
    hold_s: float


class Client:
    """One model on one server, over one connection; not for several threads at a time.

    Every method raises `InputError`, `UnauthorizedError`, `UnknownModelError`, `GoneError` (an offer, or a job
    to give feedback on, that is not held any more), `RefusedError` (not now; `retry_after_s`) or
    `ExecutionError` as the server answers, and `NotReadyError` if it cannot be reached.

    Args:
        url: of the server, like http://127.0.0.1:8000.
        model: its name.
        api_key: if the server asks for one.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, url: str, model: str, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"server {url!r}; expected an address as in http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._url = url
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._wire = _Wire(parts.path.rstrip("/"), model, api_key)
        self._of_modality: dict[str, str] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def infer(
        self,
        inputs: Inputs,
        *,
        lazy: bool = False,
        requests: int = 0,
        request_id: str = "",
        **parameters: Parameter,
    ) -> Answer:
        """Run a job and return its answer.

        Args:
            inputs: by tensor name, each (requests, …), of the modalities that the job has.
            lazy: offer the job first, and send only what the server wants.
            requests: how many there are; needed only if every input is a function.
            request_id: an id of this job's own, if feedback is to be given on it.
            parameters: `accuracy_slo`, `latency_slo_ms` and the others of `docs/formats.md`.
        """
        if not lazy:
            return _answer(self._ask(self._wire.infer(_made(inputs, inputs), parameters, request_id)))
        offer = self.offer(inputs, requests or _count(inputs), **parameters)
        return self.upload(offer, inputs, request_id)

    def offer(self, inputs: Iterable[str], requests: int, **parameters: Parameter) -> Offer:
        """Offer a job with these tensors, and return what the server wants of them."""
        if not self._of_modality:
            self._of_modality = _modalities(self._ask(self._wire.describe()))
        return _offered(self._ask(self._wire.offer(requests, inputs, self._of_modality, parameters)))

    def upload(self, offer: Offer, inputs: Inputs, request_id: str = "") -> Answer:
        """Send what was wanted for an offer, and return the job's answer."""
        return _answer(self._ask(self._wire.upload(offer, inputs, request_id)))

    def feedback(self, request_id: str, scores: Sequence[float]) -> dict[str, int]:
        """Say how right the answers to a job were, and return how many count for which mode.

        Args:
            request_id: the one that the job was sent with.
            scores: of each of its requests, in their order: whether it was right, or a number on 0..1.
        """
        return _counted(self._ask(self._wire.feedback(request_id, scores)))

    def _ask(self, call: "_Call") -> "_Reply":
        try:
            self._leave_if_closed()
            self._connection.request(call.method, call.path, call.body, call.headers)
            with self._connection.getresponse() as reply:
                return _checked(_Reply(reply.status, dict(reply.getheaders()), reply.read()))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise _unreachable(self._url, error) from error

    def _leave_if_closed(self) -> None:
        """Close a connection that the server has closed while it was idle, so that the call opens another."""
        waiting = self._connection.sock
        if waiting is not None and select.select([waiting], [], [], 0)[0]:
            self._connection.close()


class AsyncClient:
    """As `Client`, with as many calls at a time as there are tasks; use it as `async with`."""

    def __init__(self, url: str, model: str, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        import aiohttp  # an optional extra

        self._url = url.rstrip("/")
        self._lost = (aiohttp.ClientError, OSError, TimeoutError)
        timeout, connector = aiohttp.ClientTimeout(timeout_s), aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._wire = _Wire("", model, api_key)
        self._of_modality: dict[str, str] = {}

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def infer(
        self,
        inputs: Inputs,
        *,
        lazy: bool = False,
        requests: int = 0,
        request_id: str = "",
        **parameters: Parameter,
    ) -> Answer:
        """Run a job and return its answer; see `Client.infer`. Cancelling cancels the job."""
        if not lazy:
            return _answer(await self._ask(self._wire.infer(_made(inputs, inputs), parameters, request_id)))
        offer = await self.offer(inputs, requests or _count(inputs), **parameters)
        return await self.upload(offer, inputs, request_id)

    async def offer(self, inputs: Iterable[str], requests: int, **parameters: Parameter) -> Offer:
        """Offer a job with these tensors, and return what the server wants of them."""
        if not self._of_modality:
            self._of_modality = _modalities(await self._ask(self._wire.describe()))
        return _offered(await self._ask(self._wire.offer(requests, inputs, self._of_modality, parameters)))

    async def upload(self, offer: Offer, inputs: Inputs, request_id: str = "") -> Answer:
        """Send what was wanted for an offer, and return the job's answer."""
        return _answer(await self._ask(self._wire.upload(offer, inputs, request_id)))

    async def feedback(self, request_id: str, scores: Sequence[float]) -> dict[str, int]:
        """Say how right the answers to a job were; see `Client.feedback`."""
        return _counted(await self._ask(self._wire.feedback(request_id, scores)))

    async def _ask(self, call: "_Call") -> "_Reply":
        try:
            async with self._session.request(
                call.method, self._url + call.path, data=call.body, headers=call.headers
            ) as reply:
                return _checked(_Reply(reply.status, reply.headers, await reply.read()))
        except self._lost as error:
            raise _unreachable(self._url, error) from error


def read_outputs(described: Sequence[Mapping[str, Any]], tail: memoryview) -> dict[str, Array]:
    """Return the tensors that an answer describes; `tail` is what follows its JSON object."""
    outputs: dict[str, Array] = {}
    for each in described:
        datatype = each["datatype"]
        if "data" in each:
            array = np.array(each["data"], DATATYPES[datatype])
        else:
            size = each["parameters"]["binary_data_size"]
            array, tail = from_wire(tail[:size], datatype), tail[size:]
        outputs[each["name"]] = array.reshape(each["shape"])
    return outputs


class _Call(NamedTuple):
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes

    def header(self, name: str) -> str | None:
        """Return a header, however it is spelt."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    def told(self) -> tuple[dict[str, Any], memoryview]:
        """Return the JSON object and what follows it."""
        end = int(self.header(HEADER_LENGTH) or len(self.content))
        try:
            found = json.loads(self.content[:end])
        except ValueError as error:
            raise BadAnswerError(
                f"status {self.status}: the answer is no JSON; is this a mosel server?"
            ) from error
        if not isinstance(found, dict):
            raise BadAnswerError(f"status {self.status}: the answer is no JSON object; is this a mosel server?")
        return found, memoryview(self.content)[end:]


class _Wire:
    """How calls look on the wire."""

    def __init__(self, base: str, model: str, api_key: str) -> None:
        self._model = f"{base}/v2/models/{quote(model, safe='')}"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def describe(self) -> _Call:
        return _Call("GET", self._model, None, self._headers)

    def offer(
        self,
        requests: int,
        inputs: Iterable[str],
        of_modality: Mapping[str, str],
        parameters: Mapping[str, Parameter],
    ) -> _Call:
        inputs = list(inputs)
        unknown = [name for name in inputs if name not in of_modality]
        if unknown:
            raise InputError(
                f"the model has no input {unknown[0]!r}; expected some of {', '.join(of_modality)}"
            )
        modalities = list(dict.fromkeys(of_modality[name] for name in inputs))
        told = {"requests": requests, "modalities": modalities, "parameters": parameters}
        return _Call("POST", f"{self._model}/offer", json.dumps(told).encode(), self._headers)

    def feedback(self, request_id: str, scores: Sequence[float]) -> _Call:
        told = {"id": request_id, "scores": [float(score) for score in scores]}
        return _Call("POST", f"{self._model}/feedback", json.dumps(told).encode(), self._headers)

    def upload(self, offer: Offer, inputs: Inputs, request_id: str) -> _Call:
        return self.infer(_made(inputs, offer.inputs), {"offer": offer.id}, request_id)

    def infer(self, inputs: Mapping[str, Array], parameters: Mapping[str, Parameter], request_id: str) -> _Call:
        described, raw = [], []
        for name, array in inputs.items():
            datatype = _NAMES.get(array.dtype.name)
            if datatype is None:
                raise InputError(f"input {name!r} is {array.dtype}; expected one of {', '.join(_NAMES)}")
            raw.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            described.append(
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": array.shape,
                    "parameters": {"binary_data_size": len(raw[-1])},
                }
            )
        told: dict[str, Any] = {"inputs": described, "parameters": {**parameters, "binary_data_output": True}}
        if request_id:
            told["id"] = request_id
        head = json.dumps(told).encode()
        headers = {
            **self._headers,
            HEADER_LENGTH: str(len(head)),
            "Content-Type": "application/octet-stream",
        }
        return _Call("POST", f"{self._model}/infer", b"".join((head, *raw)), headers)


_NAMES = {numpy_name: name for name, numpy_name in DATATYPES.items() if name != BF16} | {"bfloat16": BF16}
"""Data types by the names that arrays have for theirs; `bfloat16` is that of the package `ml_dtypes`."""
_ERRORS: dict[int, type[MoselError]] = {
    400: InputError,
    401: UnauthorizedError,
    404: UnknownModelError,
    410: GoneError,
    413: TooLargeError,
}


def _checked(reply: _Reply) -> _Reply:
    """Return a good answer; raise what another one means."""
    if reply.status == http.client.OK:
        return reply
    message = str(reply.told()[0].get("error", "no reason given"))
    if reply.status == http.client.SERVICE_UNAVAILABLE:
        after = reply.header("Retry-After") or ""
        raise RefusedError(message, float(after) if after.isdecimal() else 1.0)  # a proxy may name a date
    raise _ERRORS.get(reply.status, ExecutionError)(message)


def _answer(reply: _Reply) -> Answer:
    found, tail = reply.told()
    try:
        return Answer(read_outputs(found["outputs"], tail), found["parameters"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswerError(f"the answer's outputs cannot be read: {error}") from error


def _offered(reply: _Reply) -> Offer:
    found, _ = reply.told()
    try:
        return Offer(found["offer"], tuple(found["inputs"]), found["hold_ms"] / 1000)
    except (KeyError, TypeError) as error:
        raise BadAnswerError(f"the answer to an offer cannot be read: {error}") from error


def _counted(reply: _Reply) -> dict[str, int]:
    found, _ = reply.told()
    try:
        return dict(found["counted"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswerError(f"the answer to a feedback cannot be read: {error}") from error


def _modalities(reply: _Reply) -> dict[str, str]:
    found, _ = reply.told()
    try:
        return {tensor["name"]: tensor["parameters"]["modality"] for tensor in found["inputs"]}
    except (KeyError, TypeError) as error:
        raise BadAnswerError(f"the model's metadata names no modalities: {error}; is this mosel?") from error


def _made(inputs: Inputs, names: Iterable[str]) -> dict[str, Array]:
    found = {}
    for name in names:
        value = inputs[name]
        found[name] = value() if callable(value) else np.asarray(value)
    return found


def _count(inputs: Inputs) -> int:
    sizes = [len(value) for value in inputs.values() if not callable(value)]
    if not sizes:
        raise UsageError("every input is a function; say how many requests there are: requests=")
    return sizes[0]


def _unreachable(url: str, error: Exception) -> NotReadyError:
    reason = str(error) or type(error).__name__
    return NotReadyError(f"{url}: cannot be reached: {reason}; is `mosel serve` running there?")
