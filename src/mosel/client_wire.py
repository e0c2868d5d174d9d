"""How the calls of `client.py` look over HTTP, and what their answers mean; nothing here opens a connection."""

import http.client
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

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
from mosel.models.base import BYTES, DATATYPES
from mosel.models.datatypes import BF16, as_bytes, from_wire, to_wire

if TYPE_CHECKING:
    import aiohttp  # an optional extra

HEADER_LENGTH = "Inference-Header-Content-Length"
ANSWER_LIMIT_BYTES = 1 << 28
"""An answer that is larger is not read to its end."""

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
    """A place that the server holds: its id, the tensors that it wants, and for how many seconds.

    Where some were sent already, `requests` are those of which it wants more; None for all.
    """

    id: str
    inputs: tuple[str, ...]
    hold_s: float
    requests: tuple[int, ...] | None = None


def read_outputs(described: Sequence[Mapping[str, Any]], tail: memoryview) -> dict[str, Array]:
    """Return the tensors that an answer describes; `tail` is what follows its JSON object."""
    outputs: dict[str, Array] = {}
    for each in described:
        datatype = each["datatype"]
        if "data" in each:
            data = each["data"]
            array = as_bytes(data) if datatype == BYTES else np.array(data, DATATYPES[datatype])
        else:
            size = each["parameters"]["binary_data_size"]
            array, tail = from_wire(tail[:size], datatype), tail[size:]
        outputs[each["name"]] = array.reshape(each["shape"])
    return outputs


class Call(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def header(self, name: str) -> str | None:
        """Return a header, however it is spelt."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    def told(self) -> tuple[dict[str, Any], memoryview]:
        """Return the JSON object and what follows it.

        Raises:
            BadAnswerError: there is no such object.
        """
        length = self.header(HEADER_LENGTH) or str(len(self.content))
        if not length.isdecimal() or int(length[:18]) > len(self.content):
            raise BadAnswerError(
                f"status {self.status}: {HEADER_LENGTH} is {length[:40]!r}; "
                f"expected at most the {len(self.content)} bytes of the answer"
            )
        end = int(length)
        try:
            found = json.loads(self.content[:end])
        except ValueError as error:
            raise BadAnswerError(
                f"status {self.status}: the answer is no JSON; is this a mosel server?"
            ) from error
        if not isinstance(found, dict):
            raise BadAnswerError(f"status {self.status}: the answer is no JSON object; is this a mosel server?")
        return found, memoryview(self.content)[end:]


class Wire:
    """How calls look on the wire.

    Args:
        base: the path before the protocol's own.
        model: the model's name.
        api_key: goes with each call, unless it is empty.
    """

    def __init__(self, base: str, model: str, api_key: str) -> None:
        self._model = f"{base}/v2/models/{quote(model, safe='')}"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def describe(self) -> Call:
        """Return what asks for the model's metadata."""
        return Call("GET", self._model, None, self._headers)

    def offer(
        self,
        requests: int,
        inputs: Iterable[str],
        of_modality: Mapping[str, str],
        parameters: Mapping[str, Parameter],
    ) -> Call:
        """Return what offers a job.

        Raises:
            InputError: the model has no such input.
        """
        inputs = list(inputs)
        unknown = [name for name in inputs if name not in of_modality]
        if unknown:
            raise InputError(
                f"the model has no input {unknown[0]!r}; expected some of {', '.join(of_modality)}"
            )
        modalities = list(dict.fromkeys(of_modality[name] for name in inputs))
        told = {"requests": requests, "modalities": modalities, "parameters": parameters, "steps": 2}
        return Call("POST", f"{self._model}/offer", json.dumps(told).encode(), self._headers)

    def feedback(self, request_id: str, scores: Sequence[float]) -> Call:
        """Return what gives feedback."""
        told = {"id": request_id, "scores": [float(score) for score in scores]}
        return Call("POST", f"{self._model}/feedback", json.dumps(told).encode(), self._headers)

    def upload(self, offer: Offer, inputs: Inputs, request_id: str) -> Call:
        """Return what brings the tensors that were wanted for an offer."""
        wanted = made(inputs, offer.inputs)
        if offer.requests is not None:
            wanted = {name: array[list(offer.requests)] for name, array in wanted.items()}
        return self.infer(wanted, {"offer": offer.id}, request_id)

    def infer(self, inputs: Mapping[str, Array], parameters: Mapping[str, Parameter], request_id: str) -> Call:
        """Return what sends a job.

        Raises:
            InputError: an array is of a type that does not travel.
        """
        described, raw = [], []
        for name, array in inputs.items():
            datatype, content = _sent(name, array)
            raw.append(content)
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
        return Call("POST", f"{self._model}/infer", b"".join((head, *raw)), headers)


def _sent(name: str, array: Array) -> tuple[str, bytes]:
    """Return an input's data type and what of it travels; texts and bytes travel as BYTES."""
    if array.dtype.kind in "OSU":
        try:
            return BYTES, to_wire(as_bytes(array), BYTES).tobytes()
        except TypeError as error:
            raise InputError(f"input {name!r}: {error}") from error
    datatype = _NAMES.get(array.dtype.name)
    if datatype is None:
        raise InputError(f"input {name!r} is {array.dtype}; expected one of {', '.join(_NAMES)}, or texts")
    return datatype, np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


_NAMES = {numpy: name for name, numpy in DATATYPES.items() if name not in (BF16, BYTES)} | {"bfloat16": BF16}
"""Data types by the names that arrays have for theirs; `bfloat16` is that of the package `ml_dtypes`."""
_ERRORS: dict[int, type[MoselError]] = {
    400: InputError,
    401: UnauthorizedError,
    404: UnknownModelError,
    410: GoneError,
    413: TooLargeError,
}


def checked(reply: Reply) -> Reply:
    """Return a good answer; raise what another one means."""
    if reply.status == http.client.OK:
        return reply
    message = str(reply.told()[0].get("error", "no reason given"))
    if reply.status == http.client.SERVICE_UNAVAILABLE:
        after = reply.header("Retry-After") or ""
        raise RefusedError(message, float(after) if after.isdecimal() else 1.0)  # a proxy may name a date
    raise _ERRORS.get(reply.status, ExecutionError)(message)


def answer_of(reply: Reply) -> Answer:
    """Return what a good answer to a job says; BadAnswerError if it cannot be read."""
    found, tail = reply.told()
    try:
        return Answer(read_outputs(found["outputs"], tail), found["parameters"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswerError(f"the answer's outputs cannot be read: {error}") from error


def step_of(reply: Reply) -> Answer | Offer:
    """Return what a good answer to an upload says: the job's answer, or what is wanted next."""
    found, _ = reply.told()
    return offer_of(reply) if "offer" in found else answer_of(reply)


def offer_of(reply: Reply) -> Offer:
    """Return what a good answer to an offer says; BadAnswerError if it cannot be read."""
    found, _ = reply.told()
    try:
        rows = tuple(found["requests"]) if "requests" in found else None
        return Offer(found["offer"], tuple(found["inputs"]), found["hold_ms"] / 1000, rows)
    except (KeyError, TypeError) as error:
        raise BadAnswerError(f"the answer to an offer cannot be read: {error}") from error


def counts_of(reply: Reply) -> dict[str, int]:
    """Return what a good answer to feedback says; BadAnswerError if it cannot be read."""
    found, _ = reply.told()
    try:
        return dict(found["counted"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswerError(f"the answer to a feedback cannot be read: {error}") from error


def modalities_of(reply: Reply) -> dict[str, str]:
    """Return each input's modality as metadata tells it; BadAnswerError if it does not."""
    found, _ = reply.told()
    try:
        return {tensor["name"]: tensor["parameters"]["modality"] for tensor in found["inputs"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"the model's metadata names no modalities: {error}; is this mosel?") from error


def made(inputs: Inputs, names: Iterable[str]) -> dict[str, Array]:
    """Return these inputs as arrays; those that are functions are called.

    Raises:
        InputError: one is not there.
    """
    found = {}
    for name in names:
        if name not in inputs:
            raise InputError(f"the server wants input {name!r}; expected some of {', '.join(inputs)}")
        value = inputs[name]
        found[name] = np.asarray(value() if callable(value) else value)
    return found


def count_of(inputs: Inputs) -> int:
    """Return how many requests there are.

    Raises:
        UsageError: no array tells.
    """
    sizes = [len(value) for value in inputs.values() if not callable(value)]
    if not sizes:
        raise UsageError("every input is a function; say how many requests there are: requests=")
    return sizes[0]


def unreachable(url: str, error: Exception) -> NotReadyError:
    """Return the error that says that a server cannot be reached."""
    reason = str(error) or type(error).__name__
    return NotReadyError(f"{url}: cannot be reached: {reason}; is `mosel serve` running there?")


def too_large() -> BadAnswerError:
    """Return the error that says that an answer is over the limit."""
    return BadAnswerError(f"the answer is over {ANSWER_LIMIT_BYTES:,} bytes; ask for fewer requests a job")


async def read_within_limit(response: "aiohttp.ClientResponse") -> bytes:
    """Return the body of a response.

    Raises:
        BadAnswerError: it is over the limit; it is not read to its end.
    """
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT_BYTES:
            raise too_large()
    return b"".join(parts)
