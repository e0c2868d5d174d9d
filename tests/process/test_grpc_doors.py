"""Keys and TLS over gRPC, on a server in this process."""

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mosel.frontend.config import Address
from mosel.frontend.grpc import GrpcServer
from mosel.frontend.grpc_calls import ServiceAnswers
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.keys import Keys
from mosel.frontend.oip import message, methods
from mosel.frontend.service import Service
from mosel.online.serving import ServedModel
from tests.process.test_connection import PROFILE
from tests.process.test_doors import CERTIFICATE, KEY
from tests.process.test_server import MODEL

pytestmark = pytest.mark.process

HERE = Address("127.0.0.1", 0)
GOLD = "k" * 16


def service() -> Service:
    """Return a service of a model that answers at once."""
    return Service(InstantEngine(zeros(MODEL)), [ServedModel("m", MODEL, PROFILE)])


def call(channel: Any, method: str, request: Any, key: str = "") -> Any:
    """Call a method, with a key or without."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    asked = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=lambda made: made.SerializeToString(),
        response_deserializer=methods()[method][1].FromString,
    )
    return asked(request, metadata=metadata)


def infer_request(**parameters: str) -> Any:
    """Return a call for the model."""
    made = message("ModelInferRequest")(model_name="m", raw_input_contents=[bytes(4)])
    made.inputs.add(name="x", datatype="FP32", shape=[1])
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


async def test_keys() -> None:
    """Without a key that is known only health is told; with one, a call is of the key's tenant alone."""
    server = GrpcServer(ServiceAnswers(service(), Keys({"gold": [GOLD]})), HERE)
    place = (await server.start()).removeprefix("grpc://")
    async with grpc.aio.insecure_channel(place) as channel:
        assert (await call(channel, "ServerLive", message("ServerLiveRequest")())).live
        for method, request in (
            ("ModelInfer", infer_request()),
            ("ServerMetadata", message("ServerMetadataRequest")()),
        ):
            for key in ("", "another key, unknown"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(channel, method, request, key)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            await call(channel, method, request, GOLD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "ModelInfer", infer_request(tenant="other"), GOLD)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await server.stop(1)


async def test_tls(tmp_path: Path) -> None:
    """With a certificate the server speaks TLS, to clients that trust it."""
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path, text in zip(paths, (CERTIFICATE, KEY), strict=True):
        path.write_text(text)
    server = GrpcServer(ServiceAnswers(service()), HERE, (str(paths[0]), str(paths[1])))
    place = (await server.start()).removeprefix("grpc://")
    trusting = grpc.ssl_channel_credentials(CERTIFICATE.encode())
    async with grpc.aio.secure_channel(place, trusting) as channel:
        reply = await call(channel, "ModelInfer", infer_request())
    assert reply.parameters["outcome"].string_param == "served"
    await server.stop(1)


async def test_messages_over_the_limit() -> None:
    """A message over the limit is refused, and the connection goes on."""
    server = GrpcServer(ServiceAnswers(service()), HERE)
    place = (await server.start()).removeprefix("grpc://")
    async with grpc.aio.insecure_channel(place) as channel:
        too_large = message("ModelInferRequest")(model_name="m", raw_input_contents=[bytes(70 << 20)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "ModelInfer", too_large)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call(channel, "ModelInfer", infer_request())
    await server.stop(1)
