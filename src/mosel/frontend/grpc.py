"""The Open Inference Protocol over gRPC, on the same handlers as over HTTP (`service.py`).

Messages are parsed here rather than by grpc, whose answer to bytes that are no message is that the server
failed. How tensors look in a message is in `grpc_tensors.py`, what a status means in `codes.py`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from mosel.core.clock import to_ns
from mosel.core.errors import InputError, MoselError, UsageError
from mosel.frontend import codes
from mosel.frontend.calls import of_tenant
from mosel.frontend.codes import Refusal
from mosel.frontend.config import Address
from mosel.frontend.grpc_offers import OFFERED, offer_of, offer_parameters
from mosel.frontend.grpc_tensors import call_of, read_parameter, write_outputs, write_parameters
from mosel.frontend.keys import Keys
from mosel.frontend.oip import SERVICE, methods
from mosel.frontend.receipts import receipt_parameters
from mosel.frontend.service import Service

_LOG = logging.getLogger("mosel.grpc")
_METHODS = methods()
_INFER = f"/{SERVICE}/ModelInfer"

OPEN_METHODS = ("ServerLive", "ServerReady")
"""What needs no key: it tells nothing but that the server is there."""

ENVELOPE_BYTES = 1 << 20
"""What a message may hold beyond the tensors that `body_bytes` allows: names, shapes and parameters."""

DETAIL_LIMIT = 500
"""Characters of a status' message, which travels in a header."""

LONGEST_LIMIT_S = 86_400.0
"""A day: clients that set no deadline may be told to have one in centuries."""

Context = Any
Handler = Callable[[Any, Context], Awaitable[Any]]


class GrpcServer:
    """A listening server.

    Args:
        service: answers.
        address: where to listen; port 0 takes a free one.
        keys: who may call.
        tls: the PEM files of the certificate chain and of its private key; None speaks without TLS.
    """

    def __init__(
        self,
        service: Service,
        address: Address,
        keys: Keys | None = None,
        tls: tuple[str, str] | None = None,
    ) -> None:
        self._service = service
        self._keys = keys
        self._tls = tls
        self._address = address
        self._server: Any = None

    async def start(self) -> str:
        """Listen, and return where.

        Raises:
            UsageError: the address is in use, or not one of this machine's.
        """
        host, port = self._address.host, self._address.port
        place = f"[{host}]" if ":" in host else host
        most = self._service.limits.body_bytes + ENVELOPE_BYTES
        options = [
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(
            handlers=[Handlers(self._service, self._keys)],
            options=options,
            maximum_concurrent_rpcs=max(1, self._service.limits.held_bytes // most),
        )
        try:
            bound = self._bind(f"{place}:{port}")
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {place}:{port}: it is in use, or no address of this machine; "
                "give another --grpc HOST:PORT"
            ) from error
        await self._server.start()
        return f"grpc://{place}:{bound}"

    def _bind(self, place: str) -> int:
        if self._tls is None:
            return int(self._server.add_insecure_port(place))
        certificate, key = (Path(file).read_bytes() for file in self._tls)
        return int(self._server.add_secure_port(place, grpc.ssl_server_credentials([(key, certificate)])))

    async def stop(self, limit_s: float) -> None:
        """Take no more calls and end those under way, after `limit_s` at the latest."""
        if self._server is not None:
            await self._server.stop(limit_s)


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds what answers a call, when its headers are in.

    Args:
        service: answers.
        keys: who may call.
    """

    def __init__(self, service: Service, keys: Keys | None = None) -> None:
        self._service = service
        self._keys = keys or Keys()
        self._handlers: dict[str, Any] = {
            f"/{SERVICE}/{name}": self._handler(name, answer) for name, answer in _answers(service).items()
        }

    def service(self, details: Any) -> Any:
        """Return the handler of the method that is called, or None."""
        if details.method == _INFER:
            return _unary(partial(self._infer, self._service.now_ns()))
        return self._handlers.get(details.method)

    def _handler(self, name: str, answer: Callable[[Any], Awaitable[dict[str, Any]]]) -> Any:
        request_class, reply_class = _METHODS[name]

        async def handle(raw: bytes, context: Context) -> bytes:
            try:
                if name not in OPEN_METHODS:
                    self._tenant(context)
                found = await answer(_parse(request_class, raw))
            except MoselError as error:
                await _abort(context, codes.refusal_of_error(error))
            return bytes(ParseDict(found, reply_class()).SerializeToString())

        return _unary(handle)

    def _tenant(self, context: Context) -> str | None:
        """Return the tenant whose key the call carries; None where none is needed."""
        if not self._keys.needed:
            return None
        headers = context.invocation_metadata() or ()
        return self._keys.tenant_of((key.encode(), _bytes(value)) for key, value in headers)

    async def _infer(self, arrival_ns: int, raw: bytes, context: Context) -> bytes:
        try:
            tenant = self._tenant(context)
            self._service.bodies.hold(len(raw))
            try:
                reply = await self._answer(arrival_ns, raw, context, tenant)
            finally:
                self._service.bodies.release(len(raw))
        except MoselError as error:
            self._service.metrics.refused(error)
            reply = codes.refusal_of_error(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            _LOG.exception("an inference call failed in the server itself")
            reply = Refusal(codes.INTERNAL, "the server failed on this request; its log says why")
        if isinstance(reply, Refusal):
            await _abort(context, reply)
        return bytes(reply.SerializeToString())

    async def _answer(self, arrival_ns: int, raw: bytes, context: Context, tenant: str | None) -> Any:
        """Return the reply, or why there is none."""
        request_class, reply_class = _METHODS["ModelInfer"]
        request = _parse(request_class, raw)
        model = request.model_name
        version = self._service.version_of(model, request.model_version)
        asked = call_of(request, _limit_ns(context, arrival_ns, self._service.now_ns()))
        call = asked.call if tenant is None else of_tenant(asked.call, tenant)
        reply = reply_class(model_name=model, model_version=version, id=asked.call.id)
        if OFFERED in call.parameters:
            told = self._service.offer(model, offer_of(call), arrival_ns)
            write_parameters(reply.parameters, offer_parameters(told))
            return reply
        outcome = await self._service.infer(model, call, arrival_ns)
        if outcome.further is not None:
            write_parameters(reply.parameters, offer_parameters(outcome.further))
            return reply
        if outcome.outputs is None:
            return codes.refusal_of_receipt(outcome.receipt, outcome.choice)
        write_parameters(reply.parameters, receipt_parameters(outcome.receipt, outcome.choice))
        write_outputs(reply, outcome.outputs, raw=asked.raw)
        return reply


def _answers(service: Service) -> dict[str, Callable[[Any], Awaitable[dict[str, Any]]]]:
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


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _unary(handle: Handler) -> Any:
    return grpc.unary_unary_rpc_method_handler(handle)


def _parse(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise InputError(f"the message is no {message.DESCRIPTOR.name} of package inference") from error


def _limit_ns(context: Context, arrival_ns: int, now_ns: int) -> int | None:
    """Return how long after its arrival the client gives the call up; None without a deadline."""
    left_s = context.time_remaining()
    if left_s is None or left_s > LONGEST_LIMIT_S:
        return None
    return max(1, now_ns - arrival_ns + to_ns(left_s))


async def _abort(context: Context, refusal: Refusal) -> None:
    """End the call with the refusal's status; this raises."""
    trailing = [(f"mosel-{key}", str(refusal.parameters[key])) for key in _TOLD if key in refusal.parameters]
    if refusal.retry_after_s is not None:
        trailing.append(("retry-after", str(refusal.retry_after_s)))
    await context.abort(codes.GRPC[refusal.status], refusal.message[:DETAIL_LIMIT], tuple(trailing))


_TOLD = ("outcome", "reason")
"""What of a receipt travels beside a status that is not OK."""
