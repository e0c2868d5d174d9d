"""A `mosel serve` process on a small model of its own, for tests that need the real thing."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray

from mosel.core.tables import Device, Mode, Profile, write_profile
from mosel.runtime.device import describe

SLEEPS, RAISES = 777, 666
"""A request whose text holds this sleeps for as many seconds as its second token says, or raises."""

SOURCE = f"""
import time

import numpy as np

from mosel import Modality, Model, Samples, Tensor


def load(device, precision):
    def run(**tensors):
        tokens = tensors.get("tokens", np.zeros((1, 4)))
        if (tokens[:, 0] == {RAISES}).any():
            raise ValueError("no such number")
        if (tokens[:, 0] == {SLEEPS}).any():
            time.sleep(float(tokens[:, 1].max()))
        sums = [tensor.reshape(len(tensor), -1).sum(axis=1) for tensor in tensors.values()]
        return {{"total": sum(sums).astype("float32"), "modalities": np.full(len(sums[0]), len(sums))}}

    return run


def samples():
    inputs = {{
        "text": {{"tokens": np.zeros((20, 4), "float32")}},
        "sound": {{"wave": np.zeros((20, 6), "float32")}},
    }}
    return Samples(inputs, np.zeros(20))


model = Model(
    name="small",
    modalities=(
        Modality("text", (Tensor("tokens", "FP32", (4,)),)),
        Modality("sound", (Tensor("wave", "FP32", (-1,), limits=(8,)),)),
    ),
    outputs=(Tensor("total", "FP32", ()), Tensor("modalities", "INT64", ())),
    load=load,
    samples=samples,
    score=lambda outputs, labels: outputs["modalities"] / 2,
    framework="numpy",
    max_batch=2,
    latency_slo_s=60.0,
)
"""

WORD = "small_model:model"
MAIN = "from mosel.cli import main; main()"
START_LIMIT_S = 90


def make_profile(**changes: Any) -> Profile:
    """Return a profile of the small model on this machine: text 0.6, sound 0.8, both 0.9."""
    latency_s = [0.001, 0.002]
    found: dict[str, Any] = {
        "format": "mosel.profile/1",
        "model": "small",
        "modalities": ("text", "sound"),
        "metric": "accuracy",
        "batch_sizes": (1, 2),
        "modes": tuple(
            Mode(names, accuracy, accuracy, 100, latency_s, latency_s, [1, 1])
            for names, accuracy in ((("text",), 0.6), (("sound",), 0.8), (("text", "sound"), 0.9))
        ),
        "device": describe("cpu", "numpy"),
        "precision": "float32",
        "software": {},
        "measured_at": "2026-11-22T00:00:00Z",
    }
    return Profile(**{**found, **changes})


def elsewhere() -> Device:
    """Return a device that is not this one."""
    return Device("another machine", "host")


class Server:
    """A running `mosel serve`; `url` is where (`grpc` for gRPC), `notes` what it has said on stderr."""

    def __init__(self, folder: Path, words: Sequence[str] = (), *, profiled: bool = True) -> None:
        (folder / "small_model.py").write_text(SOURCE)
        if profiled:
            write_profile(make_profile(), folder / "profile.json")
            words = ("--profile", "profile.json", *words)
        self.notes: list[str] = []
        self.url = self.grpc = ""
        self._told = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "serve", WORD, *words, "--http", "127.0.0.1:0"],
            cwd=folder,
            env={**os.environ, "MOSEL_CACHE": str(folder / "cache")},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def wait_until_ready(self) -> "Server":
        """Return when the server says that it serves."""
        assert self._told.wait(START_LIMIT_S), self.notes
        assert self.url, self.notes
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 60) -> int:
        """Return the exit status."""
        status = self.process.wait(timeout_s)
        self._reader.join()
        return status

    def client(self) -> Any:
        """Return a client of the protocol's reference implementation."""
        return triton.InferenceServerClient(self.url.removeprefix("http://"), concurrency=4)

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self, stderr: IO[str]) -> None:
        for line in stderr:
            self.notes.append(line.rstrip())
            text = json.loads(line)["message"] if line.startswith("{") else line
            if text.startswith("listening on grpc://"):
                self.grpc = text.split("grpc://")[1].strip()
            if text.startswith("serving "):
                self.url = text.split(" on ")[1].split()[0]
                self._told.set()
        self._told.set()


def tensor(name: str, values: NDArray[np.float32], *, binary: bool = True) -> Any:
    """Return an input as the client sends it."""
    made = triton.InferInput(name, list(values.shape), "FP32")
    return made.set_data_from_numpy(values, binary_data=binary)


def tokens(first: float = 1, second: float = 0, requests: int = 1) -> NDArray[np.float32]:
    """Return text of so many requests."""
    return np.array([[first, second, 0, 0]] * requests, "float32")
