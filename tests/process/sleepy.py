"""A model whose latency is chosen: it sleeps, and reads the label off its input. For real processes."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import Modality, Model, Samples, Tensor

CLASSES, SAMPLES = 10, 40
STEP_S = {("audio",): 0.002, ("audio", "video"): 0.01}


def load(_device: str, _precision: str) -> Any:
    """Return the batch function; it needs no device."""
    return infer


def infer(audio: NDArray[Any], video: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
    """Return scores of shape (batch, 10): right with video, right for even labels without it."""
    time.sleep(STEP_S["audio",] if video is None else STEP_S["audio", "video"])
    label = audio[:, 0].astype(np.int64)
    guess = label if video is not None else label - label % 2
    return {"scores": np.eye(CLASSES, dtype=np.float32)[guess]}


def samples() -> Samples:
    """Return 40 samples, four of each label; the audio is of varying length."""
    labels = np.arange(SAMPLES) % CLASSES
    audio = [np.full(2 + index % 3, label, np.float32) for index, label in enumerate(labels)]
    return Samples({"audio": {"audio": audio}, "video": {"video": np.zeros((SAMPLES, 4), np.float32)}}, labels)


model = Model(
    name="sleepy",
    modalities=(
        Modality("audio", (Tensor("audio", "FP32", (-1,), limits=(8,)),)),
        Modality("video", (Tensor("video", "FP32", (4,)),)),
    ),
    outputs=(Tensor("scores", "FP32", (CLASSES,)),),
    load=load,
    samples=samples,
    allowed=lambda names: "audio" in names,
    framework="numpy",
    max_batch=4,
)
