"""The Open Inference Protocol over gRPC: the server, and each call's way to what answers it (`grpc_calls.py`).

Messages are not parsed by grpc, whose answer to bytes that are no message is that the server failed. What a
status means is in `codes.py`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.frontend import codes
from mosel.frontend.codes import Refusal
from mosel.frontend.config import Address
from mosel.frontend.grpc_calls import Answers, GrpcCall
from mosel.frontend.oip import SERVICE, methods

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
        answers: what it answers from.
        address: where to listen; port 0 takes a free one.
        tls: the PEM files of the certificate chain and of its private key; None speaks without TLS.
        shared: whether other processes of this user may listen there too.
    """

    def __init__(
        self,
        answers: Answers,
        address: Address,
        tls: tuple[str, str] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self._answers = answers
        self._tls = tls
        self._address = address
        self._shared = shared
        self._server: Any = None

    async def start(self) -> str:
        """Listen, and return where.

        Raises:
            UsageError: the address is in use, or not one of this machine's.
        """
        place = self._address.text
        most = self._answers.limits.body_bytes + ENVELOPE_BYTES
        options = [
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(self._shared)),
        ]
        self._server = grpc.aio.server(
            handlers=[Handlers(self._answers)],
            options=options,
            maximum_concurrent_rpcs=max(1, self._answers.limits.held_bytes // most),
        )
        try:
            bound = self._bind(place)
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {place}: it is in use, or no address of this machine; "
                "give another --grpc HOST:PORT"
            ) from error
        await self._server.start()
        return grpc_url(Address(self._address.host, bound))

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
        answers: what calls are answered from.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._names = {f"/{SERVICE}/{name}": name for name in methods()}

    def service(self, details: Any) -> Any:
        """Return the handler of the method that is called, or None."""
        name = self._names.get(details.method)
        if name is None:
            return None
        return grpc.unary_unary_rpc_method_handler(partial(self._handle, name, self._answers.now_ns()))

    async def _handle(self, name: str, arrival_ns: int, raw: bytes, context: Context) -> bytes:
        headers = tuple((key.encode(), _bytes(value)) for key, value in context.invocation_metadata() or ())
        limit_ns = _limit_ns(context, arrival_ns, self._answers.now_ns())
        answer = await self._answers.answer(GrpcCall(name, raw, headers, arrival_ns, limit_ns))
        if answer.refusal is not None:
            await _abort(context, answer.refusal)
        return answer.content


def grpc_url(address: Address) -> str:
    """Return where a server is, for a person to use."""
    return f"grpc://{address.text}"


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


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
