"""BF16, of which numpy knows nothing, through a real server and its worker, as each client sends it."""

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

from mosel.client import Client
from tests.process import serving
from tests.process.serving import Server

pytestmark = pytest.mark.process

TOKENS = np.array([[1.5, 2, 0, 0], [0.1, 0, 0, 256]], ml_dtypes.bfloat16)
TOTAL = [3.5, 256.0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model whose inputs are BF16, and one of its outputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SOURCE", serving.SOURCE.replace('"FP32"', '"BF16"'))
        running = Server(tmp_path_factory.mktemp("bf16"), ("--grpc", "127.0.0.1:0"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def test_the_reference_client_over_http(server: Server) -> None:
    """Raw both ways."""
    tensor = over_http.InferInput("tokens", [2, 4], "BF16").set_data_from_numpy(TOKENS)
    client = over_http.InferenceServerClient(server.url.removeprefix("http://"))
    found = client.infer("small", [tensor])
    client.close()
    assert found.as_numpy("total").tolist() == TOTAL


def test_the_reference_client_over_grpc(server: Server) -> None:
    """Raw, since BF16 has no list."""
    tensor = over_grpc.InferInput("tokens", [2, 4], "BF16").set_data_from_numpy(TOKENS)
    with over_grpc.InferenceServerClient(server.grpc) as client:
        assert client.infer("small", [tensor]).as_numpy("total").tolist() == TOTAL


def test_the_library(server: Server) -> None:
    """It sends arrays of `ml_dtypes` as they are, and gives FP32, which holds each BF16."""
    with Client(server.url, "small") as client:
        total = client.infer({"tokens": TOKENS}).outputs["total"]
    assert total.dtype == np.float32
    assert total.tolist() == TOTAL
