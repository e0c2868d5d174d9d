"""Every part of the protocol, over both transports, as the reference clients speak it: sync and asyncio."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http.aio as over_http_aio
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.process.serving import RAISES, SLEEPS, Server, tensor, tokens
from tests.process.test_serve import metric, until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on both transports."""
    running = Server(tmp_path_factory.mktemp("protocol"), ("--grpc", "127.0.0.1:0"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """A client over gRPC."""
    with over_grpc.InferenceServerClient(server.grpc) as made:
        yield made


@pytest.fixture(params=["http", "grpc"])
def either(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """A client over either."""
    made = server.client() if request.param == "http" else over_grpc.InferenceServerClient(server.grpc)
    yield made
    made.close()


WAVE = np.array([[1, 2, 3], [4, 5, 6]], "float32")


def grpc_tensor(name: str, values: NDArray[np.float32]) -> Any:
    """Return an input as the client over gRPC sends it."""
    made = over_grpc.InferInput(name, list(values.shape), "FP32")
    return made.set_data_from_numpy(values)


def receipt_of(result: Any) -> dict[str, Any]:
    """Return the receipt in an answer over gRPC."""
    told = result.get_response().parameters
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in told.items()}


def test_metadata(client: Any) -> None:
    """Health and metadata are told over gRPC as over HTTP."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.get_server_metadata().name == "mosel"
    told = client.get_model_metadata("small", "1")
    assert [(t.name, t.datatype, list(t.shape)) for t in told.inputs] == [
        ("tokens", "FP32", [-1, 4]),
        ("wave", "FP32", [-1, -1]),
    ]
    assert [t.name for t in told.outputs] == ["total", "modalities"]


def test_infer(client: Any) -> None:
    """A job runs; its id, its outputs and the receipt come back."""
    inputs = [grpc_tensor("tokens", tokens(5, 1, 2)), grpc_tensor("wave", WAVE)]
    outputs = [over_grpc.InferRequestedOutput("total")]
    slos = {"accuracy_slo": "0.9", "latency_slo_ms": 30000.0}
    result = client.infer(
        "small", inputs, "1", outputs, request_id="mine", timeout=20_000_000, priority=1, parameters=slos
    )
    assert result.as_numpy("total").tolist() == [12.0, 21.0]
    assert result.as_numpy("modalities") is None
    assert result.get_response().id == "mine"
    receipt = receipt_of(result)
    assert receipt["outcome"] == "served"
    assert receipt["modes"] == "text+sound:2"
    assert receipt["expected_accuracy"] == pytest.approx(0.9)
    assert 0 < receipt["slack_ms"] < 20_000
    assert sum(batch["requests"] for batch in json.loads(receipt["batches"])) == 2


def test_deadline(client: Any) -> None:
    """The call's own deadline is one of the limits, and the least counts."""
    result = client.infer("small", [grpc_tensor("wave", WAVE)], client_timeout=15.0)
    assert 0 < receipt_of(result)["slack_ms"] < 15_200  # gRPC rounds what is left up, to three digits


def test_lazy_upload_over_grpc(client: Any) -> None:
    """A call without inputs offers a job and says what is wanted of it; the upload then is of that job."""
    parameters = {"offered_requests": 2, "offered_modalities": "sound", "latency_slo_ms": 30_000}
    told = client.infer("small", [], parameters=parameters).get_response().parameters
    assert told["modalities"].string_param == "sound"
    assert told["inputs"].string_param == "wave"
    assert 0 < told["hold_ms"].double_param <= 10_000
    offer = {"offer": told["offer"].string_param}
    result = client.infer("small", [grpc_tensor("wave", WAVE)], parameters=offer)
    assert result.as_numpy("total").tolist() == [6.0, 15.0]
    with pytest.raises(InferenceServerException, match="is not held"):
        client.infer("small", [grpc_tensor("wave", WAVE)], parameters=offer)
    for inputs, changes, said in (
        ([grpc_tensor("wave", WAVE)], {}, "has inputs; expected none"),
        ([], {"offered_requests": "two"}, "expected a whole number"),
        ([], {"offered_requests": 0}, "expected 1 to"),
        ([], {"offered_modalities": 1}, "expected names joined by"),
        ([], {"offered_modalities": "smell"}, "no modality 'smell'"),
    ):
        with pytest.raises(InferenceServerException, match=said):
            client.infer("small", inputs, parameters={**parameters, **changes})


def test_lists(server: Server) -> None:
    """Tensors may travel as lists, and come back so."""
    request = service_pb2.ModelInferRequest(model_name="small")
    request.inputs.add(
        name="wave",
        datatype="FP32",
        shape=[1, 2],
        contents=service_pb2.InferTensorContents(fp32_contents=[1, 2]),
    )
    with grpc.insecure_channel(server.grpc) as channel:
        reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert list(reply.outputs[0].contents.fp32_contents) == [3.0]
    assert list(reply.outputs[1].contents.int64_contents) == [1]
    assert not reply.raw_output_contents


@pytest.mark.parametrize(
    ("model", "values", "parameters", "status", "said"),
    [
        ("other", WAVE, {}, "NOT_FOUND", "'other' is not served here"),
        ("small", WAVE[:, None], {}, "INVALID_ARGUMENT", "shape is [2, 1, 3]; expected [requests, 1 to 8]"),
        ("small", WAVE, {"accuracy_slo": 0.85}, "INVALID_ARGUMENT", "the best is 0.8"),
        ("small", WAVE, {"accuracy": 0.85}, "INVALID_ARGUMENT", "parameter 'accuracy' is unknown"),
        ("small", WAVE, {"latency_slo_ms": 0.001}, "UNAVAILABLE", "latency_unreachable"),
    ],
)
def test_refusals(
    client: Any, model: str, values: NDArray[np.float32], parameters: dict[str, object], status: str, said: str
) -> None:
    """What is refused over HTTP is refused over gRPC, with the status that means the same."""
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [grpc_tensor("wave", values)], parameters=parameters)
    assert caught.value.status() == f"StatusCode.{status}"
    assert said in caught.value.message()


def test_model_that_raises(client: Any) -> None:
    """A model that raises fails its own job alone."""
    with pytest.raises(InferenceServerException, match="no such number") as caught:
        client.infer("small", [grpc_tensor("tokens", tokens(RAISES))])
    assert caught.value.status() == "StatusCode.INTERNAL"
    assert client.infer("small", [grpc_tensor("tokens", tokens(1))]).as_numpy("total").tolist() == [1.0]


def test_garbage(server: Server) -> None:
    """Bytes that are no message are the client's mistake."""
    with grpc.insecure_channel(server.grpc) as channel:
        for method in ("ModelInfer", "ModelMetadata"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_cancelled_call(server: Server, client: Any) -> None:
    """A job whose call is cancelled while it waits is dropped."""
    dropped = 'mosel_jobs_total{model="small",outcome="dropped"}'
    before = metric(server, dropped)
    done: list[Any] = []
    slow = [grpc_tensor("tokens", tokens(SLEEPS, 2))]
    client.async_infer("small", slow, lambda result, error: done.append((result, error)))
    until(lambda: metric(server, "mosel_queued_jobs") == 1)
    call = client.async_infer("small", [grpc_tensor("wave", WAVE)], lambda **_: None)
    until(lambda: metric(server, "mosel_queued_jobs") == 2)
    call.cancel()
    until(lambda: metric(server, dropped) == before + 1)
    until(lambda: bool(done))
    result, error = done[0]
    assert error is None
    assert result.as_numpy("modalities").tolist() == [1]


def test_statistics(server: Server) -> None:
    """Both transports tell the same statistics in Triton's form."""
    with over_grpc.InferenceServerClient(server.grpc) as client:
        client.infer("small", [grpc_tensor("wave", WAVE)])
        over = client.get_inference_statistics("small", as_json=True)["model_stats"][0]
    http = server.client()
    told = http.get_inference_statistics("small", "1")["model_stats"][0]
    assert http.get_inference_statistics()["model_stats"] == [told]
    http.close()
    assert (told["name"], told["version"]) == ("small", "1")
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert told["inference_stats"][part]["count"] == int(over["inference_stats"][part]["count"]) > 0
    assert told["inference_count"] >= told["inference_stats"]["success"]["count"]
    assert sum(b["batch_size"] * b["compute_infer"]["count"] for b in told["batch_stats"]) >= 2
    assert told["execution_count"] == sum(b["compute_infer"]["count"] for b in told["batch_stats"])
    assert told["last_inference"] > 1_700_000_000_000


def test_config(either: Any) -> None:
    """The configuration is told in Triton's form, with what mosel adds as parameters."""
    as_json = {"as_json": True} if isinstance(either, over_grpc.InferenceServerClient) else {}
    told = either.get_model_config("small", **as_json)
    told = told.get("config", told)
    assert told["name"] == "small"
    assert told["input"][0]["data_type"] == "TYPE_FP32"
    assert told["parameters"]["modes"]["string_value"] == "text:0.6;sound:0.8;text+sound:0.9"


def test_repository(either: Any) -> None:
    """A model that is unloaded takes no jobs, whatever the transport, until it is loaded again."""
    as_json = {"as_json": True} if isinstance(either, over_grpc.InferenceServerClient) else {}

    def states() -> list[str]:
        found = either.get_model_repository_index(**as_json)
        return [model["state"] for model in (found["models"] if as_json else found)]

    assert states() == ["READY"]
    either.unload_model("small")
    assert states() == ["UNAVAILABLE"]
    assert not either.is_model_ready("small")
    wave = grpc_tensor("wave", WAVE) if as_json else tensor("wave", WAVE)
    with pytest.raises(InferenceServerException, match="'small' is unloaded; load it"):
        either.infer("small", [wave])
    either.load_model("small")
    assert either.is_model_ready("small")
    assert either.infer("small", [wave]).as_numpy("modalities").tolist() == [1, 1]
    with pytest.raises(InferenceServerException, match="not one that this server was started with"):
        either.load_model("other")


def test_asyncio_clients(server: Server) -> None:
    """The reference clients' asyncio forms get the same answers."""

    async def ask() -> None:
        async with over_grpc_aio.InferenceServerClient(server.grpc) as client:
            assert await client.is_server_ready()
            result = await client.infer("small", [grpc_tensor("wave", WAVE)])
            assert result.as_numpy("total").tolist() == [6.0, 15.0]
        async with over_http_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert await client.is_model_ready("small")
            result = await client.infer("small", [tensor("wave", WAVE)])
            assert result.as_numpy("total").tolist() == [6.0, 15.0]

    asyncio.run(ask())


def test_address_in_use(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A port that is taken is a usage error in one line."""
    other = Server(tmp_path_factory.mktemp("taken"), ("--grpc", server.grpc))
    try:
        assert other.wait() == 2
        assert "give another --grpc HOST:PORT" in other.notes[-1]
    finally:
        other.close()
