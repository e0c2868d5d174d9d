"""A model that fails on request, for `mosel chaos`: what goes wrong is asked for by the requests themselves.

Each request is three numbers of modality `text`: a label, which comes back as the answer; what is to go wrong
(`Fault`); and a number that some faults take. Modality `sound` costs time and adds accuracy, so that there are
modes to choose between. The latencies are chosen, and held by sleeping.
"""

import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.types import mode_name
from mosel.models.base import Modality, Model, Samples, Tensor

MAX_BATCH = 16
FIXED_S: Mapping[str, float] = {"text": 0.002, "text+sound": 0.006}
EACH_S = 0.0005
ACCURACY: Mapping[str, float] = {"text": 0.7, "text+sound": 0.95}
SLOWNESS = 3.0


class Fault(IntEnum):
    """What a request asks for."""

    NONE = 0
    HANG = 1
    """The batch is never done."""
    RAISE = 2
    NAN = 3
    """This request's answer is not a number."""
    SHAPE = 4
    """The answer has one dimension too many."""
    MEMORY = 5
    """There is no memory for a batch of more requests than the third number says."""
    SLOW = 6
    """From now on everything takes `SLOWNESS` times as long, for as many seconds as the third number says."""


def latency_s(mode: str, size: int) -> float:
    """Return what a batch of `size` requests takes."""
    return FIXED_S[mode] + EACH_S * size


class Faulty:
    """The batch function."""

    def __init__(self) -> None:
        self._slow_until_s = 0.0

    def __call__(self, **tensors: NDArray[Any]) -> NDArray[Any]:
        """Return each request's label, or do what one of them asks for."""
        text = tensors["text"]
        asked = {Fault(int(code)): float(most) for _, code, most in text if code}
        if Fault.MEMORY in asked and len(text) > asked[Fault.MEMORY]:
            raise MemoryError(f"no room for {len(text)} requests")
        if Fault.RAISE in asked:
            raise ValueError("asked to raise")
        if Fault.HANG in asked:
            time.sleep(3600)
        self._wait(asked.get(Fault.SLOW, 0.0), mode_name(tensors), len(text))
        if Fault.SHAPE in asked:
            return text[:, :1]
        answer: NDArray[Any] = np.where(text[:, 1] == Fault.NAN, np.float32(np.nan), text[:, 0])
        return answer

    def _wait(self, slow_s: float, mode: str, size: int) -> None:
        now_s = time.monotonic()
        self._slow_until_s = max(self._slow_until_s, now_s + slow_s if slow_s else 0.0)
        time.sleep(latency_s(mode, size) * (SLOWNESS if now_s < self._slow_until_s else 1.0))


def _samples() -> Samples:
    labels = np.arange(100, dtype=np.float32)
    text = np.stack([labels, np.zeros_like(labels), np.zeros_like(labels)], axis=1)
    return Samples({"text": {"text": text}, "sound": {"sound": np.zeros((100, 1), np.float32)}}, labels)


model = Model(
    name="faulty",
    modalities=(
        Modality("text", (Tensor("text", "FP32", (3,)),)),
        Modality("sound", (Tensor("sound", "FP32", (1,)),)),
    ),
    outputs=(Tensor("label", "FP32", ()),),
    load=lambda _device, _precision: Faulty(),
    samples=_samples,
    score=lambda outputs, labels: (outputs["label"] == labels).astype(np.float64),
    allowed=lambda names: "text" in names,
    framework="numpy",
    max_batch=MAX_BATCH,
)
