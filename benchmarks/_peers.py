"""How each server of `serving.py` is made and started, with a model that does nothing.

Each peer has a virtual environment of its own, made by hand:

    python -m venv DIR/litserve && DIR/litserve/bin/pip install litserve==0.2.19
    python -m venv DIR/bentoml && DIR/bentoml/bin/pip install bentoml==1.4.39
    python -m venv DIR/mlserver && DIR/mlserver/bin/pip install mlserver==1.7.1 'uvloop<0.22'
    python -m venv DIR/pytriton && DIR/pytriton/bin/pip install nvidia-pytriton==0.7.0

The last one carries Triton's own binary, which is started by hand, with its python backend.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

JSON_BYTES = 228
FLOATS = 53_500
"""Of a raw tensor: 214 kB."""

START_LIMIT_S = 90

Words = list[str]


@dataclass(frozen=True, slots=True)
class Peer:
    """One server.

    Attributes:
        label: in the table.
        prepare: writes what it serves into an empty folder, and returns the words that start it there and what
            its environment has besides. Told: the folder, the folder of virtual environments, a free port.
        path: that takes calls.
        json_body: returns a call of `JSON_BYTES`.
        raw_path: that takes raw tensors; empty if none does.
    """

    label: str
    prepare: Callable[[Path, Path, int], tuple[Words, Mapping[str, str]]]
    path: str
    json_body: Callable[[], bytes]
    raw_path: str = ""
    raw_body: Callable[[], tuple[bytes, dict[str, str]]] = lambda: (b"", {})


@contextmanager
def running(peer: Peer, venvs: Path, scratch: Path) -> Iterator[str]:
    """Start a server, and yield where it is once it answers a call."""
    port = free_port()
    words, environ = peer.prepare(scratch, venvs.resolve(), port)
    log = (scratch / "log").open("wb")
    process = subprocess.Popen(
        words, cwd=scratch, env={**os.environ, **environ}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        _wait(peer, f"http://127.0.0.1:{port}", process, scratch / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def _wait(peer: Peer, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_LIMIT_S
    headers = {"Content-Type": "application/json"}
    while True:
        try:
            call = urllib.request.Request(url + peer.path, peer.json_body(), headers)
            with urllib.request.urlopen(call, timeout=5) as reply:
                assert reply.status == 200
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-2000:]
                raise SystemExit(f"{peer.label} does not answer: {error}\n{said}") from error
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Calls: those of the Open Inference Protocol are the same for every server that speaks it.


def _v2_json() -> bytes:
    entry = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.5, 0.25, 0.125, 1.0]}
    return _padded({"id": "", "inputs": [entry], "outputs": [{"name": "y"}]}, "id")


def _plain_json() -> bytes:
    return _padded({"data": [0.5, 0.25, 0.125, 1.0], "id": ""}, "id")


def _bento_json() -> bytes:
    return _padded({"data": [0.5, 0.25, 0.125, 1.0], "name": ""}, "name")


def _padded(call: dict[str, object], key: str) -> bytes:
    call[key] = "0" * (JSON_BYTES - len(json.dumps(call)))
    return json.dumps(call).encode()


def _v2_raw() -> tuple[bytes, dict[str, str]]:
    size = {"binary_data_size": FLOATS * 4}
    entry = {"name": "x", "shape": [1, FLOATS], "datatype": "FP32", "parameters": size}
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [entry], "outputs": outputs}).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    return head + bytes(FLOATS * 4), headers


# Servers


MOSEL_MODEL = f"""
import numpy as np

from mosel import Modality, Model, Samples, Tensor


def load(device, precision):
    def run(x):
        return {{"y": x[:, :1]}}

    return run


def samples():
    return Samples({{"data": {{"x": [np.zeros(4, "float32")] * 64}}}}, np.zeros(64))


def made(name, limit):
    return Model(
        name=name,
        modalities=(Modality("data", (Tensor("x", "FP32", (-1,), limits=(limit,)),)),),
        outputs=(Tensor("y", "FP32", (1,)),),
        load=load,
        samples=samples,
        score=lambda outputs, labels: np.ones(len(labels)),
        framework="numpy",
        max_batch=32,
    )


noop, bulk = made("noop", 16), made("bulk", {FLOATS})
"""


def _mosel(folder: Path, _: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    (folder / "noop_models.py").write_text(MOSEL_MODEL)
    words = [sys.executable, "-c", "from mosel.cli import main; main()", "serve", "noop_models:noop"]
    return [*words, "noop_models:bulk", "--http", f"127.0.0.1:{port}"], {"MOSEL_CACHE": str(folder / "cache")}


LITSERVE = """
import sys

import litserve


class Nothing(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["data"]

    def predict(self, x):
        return x[:1]

    def encode_response(self, y):
        return {"y": y}


if __name__ == "__main__":
    litserve.LitServer(Nothing(), accelerator="cpu").run(port=int(sys.argv[1]), generate_client_file=False)
"""


def _litserve(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    (folder / "serve.py").write_text(LITSERVE)
    return [str(venvs / "litserve/bin/python"), "serve.py", str(port)], {}


BENTOML = """
import bentoml


@bentoml.service
class Nothing:
    @bentoml.api
    def infer(self, data: list[float], name: str) -> list[float]:
        return data[:1]
"""


def _bentoml(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    (folder / "service.py").write_text(BENTOML)
    words = [str(venvs / "bentoml/bin/bentoml"), "serve", "service:Nothing", "--host", "127.0.0.1"]
    return [*words, "--port", str(port)], {"BENTOML_DO_NOT_TRACK": "True"}


MLSERVER = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Nothing(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        outputs = [NumpyCodec.encode_output("y", x[:, :1])]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
"""


def _mlserver(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    (folder / "nothing.py").write_text(MLSERVER)
    for name in ("noop", "bulk"):
        (folder / name).mkdir()
        settings = {"name": name, "implementation": "nothing.Nothing"}
        (folder / name / "model-settings.json").write_text(json.dumps(settings))
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return [str(venvs / "mlserver/bin/mlserver"), "start", "."], {"PYTHONPATH": str(folder)}


TRITON = """
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.Tensor("y", pb.get_input_tensor_by_name(r, "x").as_numpy()[:, :1])])
            for r in requests
        ]
"""

TRITON_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 32
input [{{ name: "x" data_type: TYPE_FP32 dims: [-1] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [1] }}]
dynamic_batching {{}}
instance_group [{{ kind: KIND_CPU }}]
"""


def _triton(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    for name in ("noop", "bulk"):
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "1/model.py").write_text(TRITON)
        (folder / "models" / name / "config.pbtxt").write_text(TRITON_CONFIG.format(name=name))
    return triton_command(folder, venvs, port)


def triton_command(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    """Return the words that start Triton on `folder/models`, and its environment; copies its backends there."""
    packages = next((venvs / "pytriton/lib").glob("python3*/site-packages"))
    server = packages / "pytriton/tritonserver"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(server / "backends", folder / "backends")
    for file in (server / "python_backend_stubs" / python).iterdir():
        shutil.copy(file, folder / "backends/python")
    words = [str(server / "bin/tritonserver"), "--model-repository", str(folder / "models")]
    words += ["--backend-directory", str(folder / "backends"), "--http-address", "127.0.0.1"]
    words += ["--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false"]
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{server / 'external_libs'}"
    path = f"{venvs / 'pytriton/bin'}:{os.environ['PATH']}"
    return words, {"LD_LIBRARY_PATH": libraries, "PATH": path, "PYTHONPATH": str(packages)}


def _mosel_compiled(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    words, environ = _mosel(folder, venvs, port)
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, root / "scripts" / "compiled.py"], check=True)
    return words, {**environ, "PYTHONPATH": str(root / "build" / "compiled" / "src")}


V2 = "/v2/models/noop/infer", _v2_json, "/v2/models/bulk/infer", _v2_raw

PEERS = {
    "mosel": Peer("mosel, compiled", _mosel_compiled, *V2),
    "plain": Peer("mosel, not compiled", _mosel, *V2),
    "triton": Peer("Triton 2.51, python backend, dynamic batching", _triton, *V2),
    "mlserver": Peer("MLServer 1.7.1, 0 workers", _mlserver, *V2),
    "litserve": Peer("LitServe 0.2.19", _litserve, "/predict", _plain_json),
    "bentoml": Peer("BentoML 1.4.39", _bentoml, "/infer", _bento_json),
}
"""Every server; those without raw tensors take them in their own ways, none of which is measured here."""
