"""AV-digits with all modalities behind each server of `peers.py`: what is served, how, and what it is sent.

Each peer has a virtual environment of its own, as in `_peers.py`; besides those there:

    python -m venv DIR/ray && DIR/ray/bin/pip install 'ray[serve]==2.60.0'

The model, its padding and torch are mosel's own: these are looked up in mosel's environment after the peer's.
Every server has one model on one CPU thread, kept on the core that mosel's worker has, and what it has against
overload:

- Triton: dynamic batching; requests that have waited so long that two full batches would make them late are
  rejected.
- Ray Serve: `serve.batch`; requests that take longer than the SLO are given up.
- LitServe: batches; requests that have waited as long as with Triton are answered 504.
- MLServer: adaptive batching in a worker process; it has nothing against overload.
- BentoML: adaptive batching that aims at the SLO; what it expects to exceed that is refused.
"""

import base64
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from _peers import Peer, Words, free_port, triton_command
from numpy.typing import NDArray

import mosel
from mosel.core.tables import read_profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import full_mode
from mosel.evaluation.payloads import Payload, Payloads, labelled_samples
from mosel.models.av_digits.data import MELS, MOST_FRAMES, MOST_LETTERS, SIDE, VIDEO_FRAMES
from mosel.models.registry import find
from mosel.runtime.device import worker_cores

WORD = "av-digits"
LARGEST = 32
"""Requests of a batch: no job of the paper's sizes is larger."""
JOBS_A_BATCH = 6
"""For servers that count calls: a call is a job, and a job of the paper's sizes has about four requests."""
BATCH_WAIT_S = 0.005

Array = NDArray[Any]
Make = Callable[[Job], Payload]

MODEL = '''
"""All modalities of AV-digits, for a batch of requests of several calls."""
import base64
import os
import sys

sys.path += {paths!r}

import numpy as np

from mosel.models.registry import find
from mosel.runtime.padding import blank
from mosel.runtime.runner import Runner, prepare

MELS, FRAMES, SIDE = {mels}, {frames}, {side}


class AllModalities:
    def __init__(self):
        os.sched_setaffinity(0, {cores!r})
        self.model = find("mosel.models.av_digits:model")
        self.names = self.model.modality_names
        self.runner = Runner(self.model, "cpu", ("float32",), 1)
        for size in range(1, {largest} + 1):
            inputs = blank(self.model, self.names, size)
            self.runner.run(self.names, "float32", {{name: [array] for name, array in inputs.items()}})

    def __call__(self, calls):
        """Return the scores of each call, (requests, 10); a call is its tensors by name, (requests, ...)."""
        inputs = {{}}
        for name in self.names:
            parts = [prepare(self.model, name, {{name: call[name]}}) for call in calls]
            inputs[name] = [part[name] for part in parts]
        scores = self.runner.run(self.names, "float32", inputs).outputs["scores"]
        ends = np.cumsum([len(call["text"]) for call in calls])
        return np.split(scores, ends[:-1])


def decoded(items):
    """Return the tensors of one call, from its requests in base64."""
    read = [np.frombuffer(base64.b64decode(item), np.uint8) for item in items]
    letters, frames = max(int(each[0]) for each in read), max(int(each[1]) for each in read)
    text = np.zeros((len(read), letters), np.uint8)
    audio = np.zeros((len(read), frames, MELS), np.uint8)
    video = np.empty((len(read), FRAMES, SIDE, SIDE), np.uint8)
    for row, each in enumerate(read):
        end = 2 + int(each[0])
        text[row, : each[0]] = each[2:end]
        audio[row, : each[1]] = each[end : end + int(each[1]) * MELS].reshape(-1, MELS)
        video[row] = each[end + int(each[1]) * MELS :].reshape(FRAMES, SIDE, SIDE)
    return {{"text": text, "audio": audio, "video": video}}
'''


def write_model(folder: Path) -> None:
    """Write the model's module, which finds mosel and torch where this interpreter has them."""
    paths = [str(Path(mosel.__file__).parents[1]), sysconfig.get_paths()["platlib"]]
    text = MODEL.format(
        paths=paths,
        cores=set(worker_cores(0)),
        largest=LARGEST,
        mels=MELS,
        frames=VIDEO_FRAMES,
        side=SIDE,
    )
    (folder / "all_modalities.py").write_text(text)


LITSERVE = """
import sys

import litserve
from all_modalities import AllModalities, decoded


class Digits(litserve.LitAPI):
    def setup(self, device):
        self.model = AllModalities()

    def decode_request(self, request):
        return decoded(request["items"])

    def batch(self, inputs):
        return inputs

    def predict(self, calls):
        return self.model(calls)

    def unbatch(self, output):
        return output

    def encode_response(self, scores):
        return {"scores": scores.tolist()}


if __name__ == "__main__":
    port, limit_s, jobs, wait_s = int(sys.argv[1]), *map(float, sys.argv[2:])
    api = Digits(max_batch_size=int(jobs), batch_timeout=wait_s)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=limit_s).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="error"
    )
"""

BENTOML = """
import bentoml
from all_modalities import AllModalities, decoded


@bentoml.service(workers=1)
class Digits:
    def __init__(self):
        self.model = AllModalities()

    @bentoml.api(batchable=True, max_batch_size={largest}, max_latency_ms={slo_ms})
    def infer(self, items: list[str]) -> list[list[float]]:
        return self.model([decoded(items)])[0].tolist()
"""

RAY = """
import json
import os
import sys

import ray
from all_modalities import AllModalities, decoded
from ray import serve
from starlette.requests import Request

port, slo_s, jobs, wait_s = int(sys.argv[1]), *map(float, sys.argv[2:])


@serve.deployment(max_ongoing_requests=256)
class Digits:
    def __init__(self):
        self.model = AllModalities()

    @serve.batch(max_batch_size=int(jobs), batch_wait_timeout_s=wait_s)
    async def run(self, calls):
        return self.model(calls)

    async def __call__(self, request: Request):
        call = decoded(json.loads(await request.body())["items"])
        return {"scores": (await self.run(call)).tolist()}


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": slo_s})
serve.run(Digits.bind(), route_prefix="/")
import time
while True:
    time.sleep(1)
"""

MLSERVER = """
from all_modalities import AllModalities, decoded
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Digits(MLModel):
    async def load(self):
        self.model = AllModalities()
        return True

    async def predict(self, payload):
        call = decoded(StringCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output("scores", self.model([call])[0])]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
"""

TRITON = """
import os
import sys

sys.path.insert(0, {folder!r})
import triton_python_backend_utils as pb
from all_modalities import AllModalities


class TritonPythonModel:
    def initialize(self, args):
        self.model = AllModalities()

    def execute(self, requests):
        names = "text", "audio", "video"
        calls = [{{n: pb.get_input_tensor_by_name(r, n).as_numpy() for n in names}} for r in requests]
        return [pb.InferenceResponse([pb.Tensor("scores", scores)]) for scores in self.model(calls)]
"""

TRITON_CONFIG = """
name: "av-digits"
backend: "python"
max_batch_size: {largest}
input [
  {{ name: "text" data_type: TYPE_UINT8 dims: [-1] allow_ragged_batch: true }},
  {{ name: "audio" data_type: TYPE_UINT8 dims: [-1, {mels}] allow_ragged_batch: true }},
  {{ name: "video" data_type: TYPE_UINT8 dims: [{frames}, {side}, {side}] }}
]
output [{{ name: "scores" data_type: TYPE_FP32 dims: [10] }}]
dynamic_batching {{
  default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: {wait_us} }}
}}
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""


@dataclass(frozen=True, slots=True)
class System:
    """A server and what it is sent.

    Attributes:
        peer: how it is started; told the folder, that of the virtual environments, the port.
        make: makes the body of a job.
        url: of its one model, below its address.
    """

    peer: Peer
    make: Make
    url: str


class Bodies:
    """What is sent for each job: the same samples in the same order, to every system."""

    def __init__(self, seed: int = 0) -> None:
        model = find(WORD)
        self.maker = Payloads(model, seed)
        self._inputs = labelled_samples(model).inputs

    def v2(self, job: Job) -> Payload:
        """Return a call of the Open Inference Protocol with raw tensors."""
        return self.maker.make(job)

    def items(self, job: Job) -> Payload:
        """Return a JSON object with each request in base64."""
        indices = self.maker.make(job).indices
        return Payload(orjson.dumps({"items": [self._item(int(index)) for index in indices]}), 0, indices)

    def probe_v2(self) -> bytes:
        """Return a call of the protocol as JSON alone, which asks whether a server answers."""
        tensors = {name: np.asarray(self._inputs[name][name][0], np.uint8) for name in self._inputs}
        tensors["text"] = _filled([tensors["text"]], (MOST_LETTERS,))[0]
        tensors["audio"] = _filled([tensors["audio"]], (MOST_FRAMES, MELS))[0]
        inputs = [
            {"name": name, "datatype": "UINT8", "shape": [1, *array.shape], "data": array.ravel().tolist()}
            for name, array in tensors.items()
        ]
        return orjson.dumps({"inputs": inputs})

    def probe_items(self) -> bytes:
        """Return a call of one request, which asks whether a server answers."""
        return orjson.dumps({"items": [self._item(0)]})

    def items_v2(self, job: Job) -> Payload:
        """Return a call of the protocol with each request in base64, for servers that join calls."""
        indices = self.maker.make(job).indices
        data = [self._item(int(index)) for index in indices]
        return Payload(orjson.dumps(_strings(data)), 0, indices)

    def probe_items_v2(self) -> bytes:
        """Return such a call of one request, which asks whether a server answers."""
        return orjson.dumps(_strings([self._item(0)]))

    def _item(self, index: int) -> str:
        text = np.asarray(self._inputs["text"]["text"][index], np.uint8)
        audio = np.asarray(self._inputs["audio"]["audio"][index], np.uint8)
        video = np.asarray(self._inputs["video"]["video"][index], np.uint8)
        raw = bytes([len(text), len(audio)]) + text.tobytes() + audio.tobytes() + video.tobytes()
        return base64.b64encode(raw).decode()


def systems(bodies: Bodies, profile: Path, slo_s: float) -> dict[str, System]:
    """Return every system, ours under three policies."""
    v2 = f"/v2/models/{WORD}/infer"
    full = full_mode(read_profile(profile).profile)
    wait_s = slo_s - 2 * full.latency_s[-1]

    probes = {
        bodies.v2: bodies.probe_v2,
        bodies.items: bodies.probe_items,
        bodies.items_v2: bodies.probe_items_v2,
    }

    def of(label: str, prepare: Prepare, make: Make, url: str) -> System:
        return System(Peer(label, prepare, url, probes[make]), make, url)

    ours = {
        f"mosel, {policy}": of(f"mosel, {policy}", _mosel(profile, policy), bodies.v2, v2)
        for policy in ("joint", "optimized", "none+batching")
    }
    return ours | {
        "Triton": of("Triton 2.51", _triton(wait_s), bodies.v2, v2),
        "Ray Serve": of("Ray Serve 2.60.0", _ray(slo_s), bodies.items, "/"),
        "LitServe": of("LitServe 0.2.19", _litserve(wait_s), bodies.items, "/predict"),
        "MLServer": of("MLServer 1.7.1", _mlserver, bodies.items_v2, v2),
        "BentoML": of("BentoML 1.4.39", _bentoml(slo_s), bodies.items, "/infer"),
    }


def _strings(data: list[str]) -> dict[str, Any]:
    tensor = {"name": "items", "datatype": "BYTES", "shape": [len(data), 1], "data": data}
    return {"inputs": [{**tensor, "parameters": {"content_type": "str"}}]}


def _filled(arrays: list[Array], shape: tuple[int, ...]) -> Array:
    filled = np.zeros((len(arrays), *shape), np.uint8)
    for row, array in zip(filled, arrays, strict=True):
        row[: len(array)] = array
    return filled


Prepare = Callable[[Path, Path, int], tuple[Words, Mapping[str, str]]]


def _mosel(profile: Path, policy: str) -> Prepare:
    def prepare(_: Path, __: Path, port: int) -> tuple[Words, Mapping[str, str]]:
        words = [sys.executable, "-c", "from mosel.cli import main; main()", "serve", WORD, "--policy", policy]
        return [*words, "--profile", str(profile.resolve()), "--http", f"127.0.0.1:{port}"], {}

    return prepare


def _litserve(wait_s: float) -> Prepare:
    def prepare(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
        write_model(folder)
        (folder / "serve.py").write_text(LITSERVE)
        limits = [str(wait_s), str(JOBS_A_BATCH), str(BATCH_WAIT_S)]
        return [str(venvs / "litserve/bin/python"), "serve.py", str(port), *limits], _alone(folder)

    return prepare


def _ray(slo_s: float) -> Prepare:
    def prepare(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
        write_model(folder)
        (folder / "serve.py").write_text(RAY)
        limits = [str(slo_s), str(JOBS_A_BATCH), str(BATCH_WAIT_S)]
        environ = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        words = [str(venvs / "ray/bin/python"), "serve.py", str(port), *limits]
        return words, {**_alone(folder), **environ}

    return prepare


def _bentoml(slo_s: float) -> Prepare:
    def prepare(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
        write_model(folder)
        (folder / "service.py").write_text(BENTOML.format(largest=LARGEST, slo_ms=round(1000 * slo_s)))
        words = [str(venvs / "bentoml/bin/bentoml"), "serve", "service:Digits", "--host", "127.0.0.1"]
        return [*words, "--port", str(port)], {**_alone(folder), "BENTOML_DO_NOT_TRACK": "True"}

    return prepare


def _mlserver(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
    write_model(folder)
    (folder / "digits.py").write_text(MLSERVER)
    (folder / WORD).mkdir()
    batching = {"max_batch_size": LARGEST, "max_batch_time": BATCH_WAIT_S}
    model = {"name": WORD, "implementation": "digits.Digits", **batching}
    (folder / WORD / "model-settings.json").write_text(json.dumps(model))
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports, "parallel_workers": 1}))
    return [str(venvs / "mlserver/bin/mlserver"), "start", "."], _alone(folder)


def _triton(wait_s: float) -> Prepare:
    def prepare(folder: Path, venvs: Path, port: int) -> tuple[Words, Mapping[str, str]]:
        write_model(folder)
        place = folder / "models" / WORD
        (place / "1").mkdir(parents=True)
        (place / "1/model.py").write_text(TRITON.format(folder=str(folder)))
        sizes = {"largest": LARGEST, "mels": MELS, "frames": VIDEO_FRAMES, "side": SIDE}
        (place / "config.pbtxt").write_text(TRITON_CONFIG.format(**sizes, wait_us=round(1e6 * wait_s)))
        return triton_command(folder, venvs, port)

    return prepare


def _alone(folder: Path) -> dict[str, str]:
    """Return an environment in which a peer finds its own packages first, and the model's module."""
    return {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "HOME": str(folder), "PATH": os.environ["PATH"]}
