"""AV-digits, the bundled model: text, audio and video of one digit, ten classes (zoo name `av-digits`).

Real input, small weights: the digit word with typing errors, noisy speech, and eight noisy, partly covered
frames of handwriting, **paired by class** as in AV-MNIST (`data.py` says how). Trained by
`scripts/av_digits/train.py` on voices and images of their own; its accuracies are whatever the profiler
measures on the held-out ones. Importing this module imports no torch: that is the worker's business.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mosel.core.errors import ModelError
from mosel.core.files import read_bytes, sha256
from mosel.models.av_digits.data import (
    MELS,
    MOST_FRAMES,
    MOST_LETTERS,
    SIDE,
    VIDEO_FRAMES,
    Split,
    samples,
)
from mosel.models.av_digits.distort import STEPS_PER_DB
from mosel.models.base import BatchFunction, Modality, Model, Tensor, largest_probability

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS_FILE = Path(__file__).with_name("weights.safetensors")
WEIGHTS_LIMIT_BYTES = 1 << 24
RANGE_DB = 50.0
SPEECH_DB = 30.0
"""Frames whose loudest band is within this of the request's loudest value count as speech."""


def load(device: str, precision: str) -> BatchFunction:
    """Return the network with the shipped weights on `device`.

    Raises:
        ModelError: the precision is not float32, or torch or safetensors are not installed.
    """
    if precision != "float32":
        raise ModelError(f"model av-digits: precision {precision!r}; it runs at float32 only")
    try:
        from mosel.models.av_digits.network import load_network
    except ImportError as error:
        raise ModelError(f"model av-digits: {error}; run: pip install 'mosel[torch,demo]'") from error
    network: BatchFunction = load_network(WEIGHTS_FILE, device)
    return network


def level(arrays: "Mapping[str, NDArray[Any]]") -> "dict[str, NDArray[Any]]":
    """Return `audio`, (requests, frames, mels) in half decibels, levelled to FP32.

    Each request becomes decibels below its loudest value, `RANGE_DB` at most, over `RANGE_DB`; then the mean
    of every mel band over the frames that hold speech is taken away. So neither the loudness nor the
    microphone, nor silence added to fill a job up to its longest request, changes what the network hears.

    Raises:
        ValueError: a request holds silence only.
    """
    audio = arrays["audio"]
    peaks = audio.max(axis=2)
    loudest = peaks.max(axis=1)
    if not loudest.all():
        raise ValueError(f"request {int(loudest.argmin())} holds silence only; expected speech")
    below = (loudest[:, None, None] - audio).astype(np.float32) / (STEPS_PER_DB * RANGE_DB)
    above_floor = np.maximum(1 - below, 0, dtype=np.float32)
    speech = (loudest[:, None] - peaks < STEPS_PER_DB * SPEECH_DB)[:, :, None]
    mean = (above_floor * speech).sum(axis=1, keepdims=True) / speech.sum(axis=1, keepdims=True)
    return {"audio": (above_floor - mean).astype(np.float32)}


def _logits(modality: str) -> tuple[Tensor, ...]:
    return (Tensor(f"{modality}_logits", "FP32", (10,)),)


model = Model(
    name="av-digits",
    modalities=(
        Modality("text", (Tensor("text", "UINT8", (-1,), limits=(MOST_LETTERS,)),), features=_logits("text")),
        Modality(
            "audio",
            (Tensor("audio", "UINT8", (-1, MELS), limits=(MOST_FRAMES,)),),
            preprocess=level,
            prepared=(Tensor("audio", "FP32", (-1, MELS), limits=(MOST_FRAMES,), lengths=True),),
            features=_logits("audio"),
        ),
        Modality("video", (Tensor("video", "UINT8", (VIDEO_FRAMES, SIDE, SIDE)),), features=_logits("video")),
    ),
    outputs=(Tensor("scores", "FP32", (10,)),),  # probabilities
    load=load,
    samples=samples,
    confidence=largest_probability,
    calibration=lambda: samples(Split.CALIBRATION),
    latency_slo_s=0.5,
    version=sha256(read_bytes(WEIGHTS_FILE, WEIGHTS_LIMIT_BYTES))[:12] if WEIGHTS_FILE.exists() else "0",
)
"""The model as it is profiled and served; `accuracy_slo` defaults to its least accurate mode."""
