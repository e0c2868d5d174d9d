"""What calls of the Open Inference Protocol are answered over gRPC, on the handlers that HTTP has too.

Nothing here knows a connection: `grpc.py` has the server, and a front door hands calls on by other means. How
tensors look in a message is in `grpc_tensors.py`, what a status means in `codes.py`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from mosel.core.errors import InputError, MoselError
from mosel.core.types import Receipt
from mosel.frontend import codes
from mosel.frontend.calls import of_tenant
from mosel.frontend.checks import Limits
from mosel.frontend.codes import Refusal
from mosel.frontend.grpc_offers import OFFERED, offer_of, offer_parameters
from mosel.frontend.grpc_tensors import call_of, read_parameter, write_outputs, write_parameters
from mosel.frontend.heads import Headers
from mosel.frontend.keys import Keys
from mosel.frontend.oip import methods
from mosel.frontend.receipts import receipt_parameters
from mosel.frontend.service import Service

_LOG = logging.getLogger("mosel.grpc")
_METHODS = methods()

INFER = "ModelInfer"

OPEN_METHODS = ("ServerLive", "ServerReady")
"""What needs no key: it tells nothing but that the server is there."""

FAULT = Refusal(codes.INTERNAL, "the server failed on this request; its log says why")


class GrpcCall(NamedTuple):
    """A call as it came.

    Attributes:
        method: its name in the service.
        raw: the bytes of its message.
        headers: its metadata.
        arrival_ns: when its headers were in.
        limit_ns: how long after its arrival the caller gives up; None if never.
    """

    method: str
    raw: bytes
    headers: Headers
    arrival_ns: int
    limit_ns: int | None


class GrpcAnswer(NamedTuple):
    """What a call is answered: the bytes of a message, or a refusal.

    Attributes:
        content: the message; empty beside a refusal.
        refusal: why there is none.
        receipt: of the job that the call was, if it became one.
    """

    content: bytes
    refusal: Refusal | None = None
    receipt: Receipt | None = None


class Answers(Protocol):
    """What a server of the protocol answers from."""

    @property
    def limits(self) -> Limits:
        """How much it takes."""

    def now_ns(self) -> int:
        """Return the time."""

    async def answer(self, call: GrpcCall) -> GrpcAnswer:
        """Return what a call is answered."""


async def answered(
    call: GrpcCall,
    answer: Awaitable[GrpcAnswer],
    refused: Callable[[MoselError], object],
    log: logging.Logger,
) -> GrpcAnswer:
    """Return the answer, or what is told in its stead; every call of the protocol has one.

    Args:
        call: what is answered.
        answer: what is found.
        refused: told of an inference that is refused.
        log: has what should not have happened; the caller is told that it did.
    """
    try:
        return await answer
    except MoselError as error:
        if call.method == INFER:
            refused(error)
        return GrpcAnswer(b"", codes.refusal_of_error(error))
    except Exception:
        log.exception("a call failed in the server itself")
        return GrpcAnswer(b"", FAULT)


class ServiceAnswers:
    """The answers of a service in this process.

    Args:
        service: the handlers.
        keys: who may call.
    """

    def __init__(self, service: Service, keys: Keys | None = None) -> None:
        self._service = service
        self._keys = keys or Keys()
        self._told = _told(service)
        self.now_ns = service.now_ns

    @property
    def limits(self) -> Limits:
        """How much it takes."""
        return self._service.limits

    async def answer(self, call: GrpcCall) -> GrpcAnswer:
        """Return what a call is answered."""
        return await answered(call, self._answer(call), self._service.metrics.refused, _LOG)

    async def _answer(self, call: GrpcCall) -> GrpcAnswer:
        if call.method == INFER:
            return await self._held(call)
        if call.method not in OPEN_METHODS:
            self._tenant(call)
        request_class, reply_class = _METHODS[call.method]
        found = await self._told[call.method](parse(request_class, call.raw))
        return GrpcAnswer(bytes(ParseDict(found, reply_class()).SerializeToString()))

    def _tenant(self, call: GrpcCall) -> str | None:
        """Return the tenant whose key the call carries; None where none is needed."""
        return self._keys.tenant_of(call.headers) if self._keys.needed else None

    async def _held(self, call: GrpcCall) -> GrpcAnswer:
        tenant = self._tenant(call)
        self._service.bodies.hold(len(call.raw))
        try:
            return await self._inferred(call, tenant)
        finally:
            self._service.bodies.release(len(call.raw))

    async def _inferred(self, call: GrpcCall, tenant: str | None) -> GrpcAnswer:
        request_class, reply_class = _METHODS[INFER]
        request = parse(request_class, call.raw)
        model = request.model_name
        version = self._service.version_of(model, request.model_version)
        asked = call_of(request, call.limit_ns)
        own = asked.call if tenant is None else of_tenant(asked.call, tenant)
        reply = reply_class(model_name=model, model_version=version, id=asked.call.id)
        if OFFERED in own.parameters:
            told = self._service.offer(model, offer_of(own), call.arrival_ns)
            write_parameters(reply.parameters, offer_parameters(told))
            return GrpcAnswer(reply.SerializeToString())
        outcome = await self._service.infer(model, own, call.arrival_ns)
        if outcome.further is not None:
            write_parameters(reply.parameters, offer_parameters(outcome.further))
            return GrpcAnswer(reply.SerializeToString())
        receipt = outcome.receipt
        if outcome.outputs is None:
            return GrpcAnswer(b"", codes.refusal_of_receipt(receipt, outcome.choice), receipt)
        write_parameters(reply.parameters, receipt_parameters(receipt, outcome.choice))
        write_outputs(reply, outcome.outputs, raw=asked.raw)
        return GrpcAnswer(reply.SerializeToString(), None, receipt)


def parse(message: Any, raw: bytes) -> Any:
    """Return a message.

    Raises:
        InputError: the bytes are none.
    """
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise InputError(f"the message is no {message.DESCRIPTOR.name} of package inference") from error


def _told(service: Service) -> dict[str, Callable[[Any], Awaitable[dict[str, Any]]]]:
    """Return what answers each method but inference, in the words of its reply's message."""
    repository = service.repository

    async def live(_: Any) -> dict[str, Any]:
        return {"live": True}

    async def ready(_: Any) -> dict[str, Any]:
        return {"ready": service.ready}

    async def model_ready(asked: Any) -> dict[str, Any]:
        return {"ready": service.model_ready(asked.name, asked.version)}

    async def metadata(_: Any) -> dict[str, Any]:
        return service.server_metadata()

    async def model_metadata(asked: Any) -> dict[str, Any]:
        found: dict[str, Any] = service.model_metadata(asked.name, asked.version)
        told = ("name", "datatype", "shape")
        for side in ("inputs", "outputs"):
            found[side] = [{key: tensor[key] for key in told} for tensor in found[side]]
        return {key: found[key] for key in ("name", "versions", "platform", "inputs", "outputs")}

    async def config(asked: Any) -> dict[str, Any]:
        return {"config": service.model_config(asked.name, asked.version)}

    async def statistics(asked: Any) -> dict[str, Any]:
        return {"model_stats": service.model_statistics(asked.name, asked.version)}

    async def index(asked: Any) -> dict[str, Any]:
        return {"models": repository.index(ready_only=asked.ready)}

    async def load(asked: Any) -> dict[str, Any]:
        repository.load(asked.model_name, {k: read_parameter(v) for k, v in asked.parameters.items()})
        return {}

    async def unload(asked: Any) -> dict[str, Any]:
        await repository.unload(asked.model_name)
        return {}

    return {
        "ServerLive": live,
        "ServerReady": ready,
        "ModelReady": model_ready,
        "ServerMetadata": metadata,
        "ModelMetadata": model_metadata,
        "ModelConfig": config,
        "ModelStatistics": statistics,
        "RepositoryIndex": index,
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
    }
