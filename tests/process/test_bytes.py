"""BYTES, whose values differ in length, through a real server and its worker, as each client sends them."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

from mosel.client import Client
from mosel.core.errors import InputError
from tests.process import serving
from tests.process.serving import Server

pytestmark = pytest.mark.process

SOURCE = """
import numpy as np

from mosel import Modality, Model, Samples, Tensor


def longest(arrays):
    return {"lengths": np.array([[max(map(len, row))] for row in arrays["words"]], "float32")}


def load(device, precision):
    def run(**given):
        names = given.get("name", np.full(len(next(iter(given.values()))), b"?", object))
        lengths = given.get("lengths", np.zeros((len(names), 1)))
        pairs = zip(names, lengths[:, 0].astype(int))
        labels = [[name, str(length), b"\\xff"[: length // 100]] for name, length in pairs]
        return {"labels": labels, "total": lengths[:, 0].astype("float32")}

    return run


def samples():
    words, names = np.array([[b"a", b"bc", b""]] * 20, object), np.array([b"x"] * 20, object)
    return Samples({"text": {"words": list(words)}, "sound": {"name": names}}, np.zeros(20))


model = Model(
    name="small",
    modalities=(
        Modality(
            "text",
            (Tensor("words", "BYTES", (-1,), limits=(8,), most_bytes=200),),
            longest,
            (Tensor("lengths", "FP32", (1,)),),
        ),
        Modality("sound", (Tensor("name", "BYTES", ()),)),
    ),
    outputs=(Tensor("labels", "BYTES", (3,)), Tensor("total", "FP32", ())),
    load=load,
    samples=samples,
    score=lambda outputs, labels: np.ones(len(labels)),
    framework="numpy",
    max_batch=2,
    latency_slo_s=60.0,
)
"""

WORDS = np.array([[b"one", b"three"], ["fünf".encode(), b"\0\xff" * 10]], object)
NAMES = np.array([b"first", b"\0second\0"], object)
LABELS = [[b"first", b"5", b""], [b"\0second\0", b"20", b""]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model whose inputs are BYTES, of one modality preprocessed, and one of its outputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SOURCE", SOURCE)
        running = Server(tmp_path_factory.mktemp("bytes"), ("--grpc", "127.0.0.1:0"))
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


def test_the_reference_client_over_http(server: Server) -> None:
    """Raw both ways; then as JSON both ways, where all are texts."""
    client = over_http.InferenceServerClient(server.url.removeprefix("http://"))
    inputs = [over_http.InferInput("words", [2, 2], "BYTES"), over_http.InferInput("name", [2], "BYTES")]
    found = client.infer("small", [inputs[0].set_data_from_numpy(WORDS), inputs[1].set_data_from_numpy(NAMES)])
    assert found.as_numpy("labels").tolist() == LABELS
    words, names = np.array([["é" * 50, ""]], object), np.array(["b"], object)
    texts = [over_http.InferInput("words", [1, 2], "BYTES"), over_http.InferInput("name", [1], "BYTES")]
    for one, array in zip(texts, (words, names), strict=True):
        one.set_data_from_numpy(array, binary_data=False)
    wanted = over_http.InferRequestedOutput("labels", binary_data=False)
    found = client.infer("small", texts[1:], outputs=[wanted])
    assert found.get_output("labels")["data"] == ["b", "0", ""]
    found = client.infer("small", texts, outputs=[wanted], parameters={"accuracy_slo": 0.9})
    assert found.as_numpy("labels").tolist() == [[b"b", b"100", b"\xff"]]
    client.close()


def test_the_reference_client_over_grpc(server: Server) -> None:
    """Raw, as it always sends them."""
    inputs = [over_grpc.InferInput("words", [2, 2], "BYTES"), over_grpc.InferInput("name", [2], "BYTES")]
    inputs = [inputs[0].set_data_from_numpy(WORDS), inputs[1].set_data_from_numpy(NAMES)]
    with over_grpc.InferenceServerClient(server.grpc) as client:
        assert client.infer("small", inputs).as_numpy("labels").tolist() == LABELS
        assert (
            client.get_model_config("small").config.input[0].data_type == over_grpc.model_config_pb2.TYPE_STRING
        )


def test_the_library(server: Server) -> None:
    """It sends texts and bytes alike and gives bytes; a value over the limit is refused."""
    with Client(server.url, "small") as client:
        answer = client.infer({"words": WORDS, "name": NAMES}, accuracy_slo=0.9)
        assert answer.outputs["labels"].tolist() == LABELS
        assert client.infer({"name": np.array(["é"])}).outputs["labels"].tolist() == [["é".encode(), b"0", b""]]
        with pytest.raises(InputError, match="a value has 201 bytes; expected at most 200"):
            client.infer({"words": np.array([["a" * 201]])})
