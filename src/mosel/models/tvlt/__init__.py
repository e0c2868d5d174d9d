"""TVLT, sentiment from sound and picture without text (Tang et al. 2022): early fusion of two modalities.

Zoo names `tvlt` (the published size) and `tvlt-small`. Every 16 × 16 patch of the log-mel spectrogram and of
eight frames becomes a token; a mode leaves the tokens of the other modality out and keeps [CLS]. Answered is
one number, negative or positive. Importing this module imports no torch: that is the worker's business.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosel.core.errors import ModelError
from mosel.models.av_digits.data import Split
from mosel.models.base import BatchFunction, Modality, Model, Recipe, Samples, Tensor
from mosel.models.loading import PRECISIONS, version_of, weights_of
from mosel.models.noise import MADE_UP
from mosel.models.scores import same_sentiment, sentiment_confidence, sentiment_score
from mosel.models.tvlt import digits
from mosel.models.tvlt.preprocess import audio, video

MOST_FRAMES = 64
LARGEST_FRAME = (1080, 1920)


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a size of TVLT.

    Attributes:
        width: of a token.
        depth: layers of the encoder.
        heads: of each layer's attention.
        patch: side of a patch, of spectrogram and frame alike.
        rate_hz: of the waveform.
        transform: samples of a window of the spectrogram.
        hop: samples between windows.
        mels: bands of the spectrogram.
        windows: of the longest spectrogram.
        side: of a frame as the network takes it.
        frames: of a clip as the network takes it.
        audio_positions: patches in time that there are position embeddings for.
        video_positions: frames that there are position embeddings for.
    """

    width: int
    depth: int
    heads: int
    patch: int
    rate_hz: int
    transform: int
    hop: int
    mels: int
    windows: int
    side: int
    frames: int
    audio_positions: int
    video_positions: int

    @property
    def most_samples(self) -> int:
        """The samples of the longest waveform."""
        return self.windows * self.hop - 1


SHAPES = {
    "full": Shape(768, 12, 12, 16, 44_100, 2048, 512, 128, 1024, 224, 8, 1020, 64),
    "small": Shape(96, 4, 4, 16, 16_000, 512, 160, 64, 128, 48, 8, 8, 8),
}


def tvlt(size: str = "full", checkpoint: Path | None = None, seed: int | None = None) -> Model:
    """Return TVLT as it is profiled and served.

    Args:
        size: `full`, as published, or `small`.
        checkpoint: its weights. Without them the small size has those that ship; those of the full size are
            random, and no accuracy is claimed.
        seed: for random weights, which a small network has only if it is given.

    Raises:
        ModelError: there is no such size.
        FileError: the checkpoint cannot be read.
    """
    if size not in SHAPES:
        raise ModelError(f"model tvlt: size {size!r}; expected one of {', '.join(SHAPES)}")
    shape = SHAPES[size]
    checkpoint = weights_of(size, checkpoint, seed, __file__)
    labelled = size == "small" and checkpoint is not None
    return Model(
        name="tvlt" if size == "full" else f"tvlt-{size}",
        modalities=_modalities(shape),
        outputs=(Tensor("sentiment", "FP32", (1,)),),
        load=functools.partial(_load, shape, checkpoint, seed or 0),
        samples=digits.samples if labelled else functools.partial(noise, shape),
        calibration=functools.partial(digits.samples, Split.CALIBRATION) if labelled else None,
        score=sentiment_score,
        confidence=sentiment_confidence,
        agreement=same_sentiment,
        precisions=PRECISIONS,
        version=version_of(checkpoint, seed),
        replayable=True,
        trained=checkpoint is not None,
    )


def noise(shape: Shape) -> Samples:
    """Return noise of the longest clips that are taken. Its labels mean nothing: it is for timing only."""
    rng = np.random.default_rng(0)
    waves = rng.uniform(-1, 1, (MADE_UP, shape.most_samples)).astype(np.float32)
    frames = rng.integers(0, 256, (MADE_UP, shape.frames, shape.side, shape.side, 3), np.uint8)
    rates = np.full((MADE_UP, 1), shape.rate_hz, np.int32)
    return Samples(
        {"audio": {"audio": waves, "audio_rate": rates}, "video": {"video": frames}},
        np.zeros(MADE_UP),
        "noise, for timing only",
    )


def _modalities(shape: Shape) -> tuple[Modality, ...]:
    pixels = (shape.frames, 3, shape.side, shape.side)
    return (
        Modality(
            "audio",
            (
                Tensor("audio", "FP32", (-1,), limits=(shape.most_samples,)),
                Tensor("audio_rate", "INT32", (1,)),
            ),
            preprocess=functools.partial(audio, shape=shape),
            prepared=(Tensor("audio", "FP32", (-1, shape.mels), limits=(shape.windows,), pad=-1),),
        ),
        Modality(
            "video",
            (Tensor("video", "UINT8", (-1, -1, -1, 3), limits=(MOST_FRAMES, *LARGEST_FRAME)),),
            preprocess=functools.partial(video, shape=shape),
            prepared=(Tensor("video", "UINT8", pixels),),
        ),
    )


def _load(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> BatchFunction:
    """Return the network on `device`.

    Raises:
        ModelError: the precision is not offered there, or torch is not installed.
        FileError: the checkpoint is none of this network.
    """
    try:
        from mosel.models.tvlt.weights import load_network
    except ImportError as error:
        raise ModelError(f"model tvlt: {error}; run: pip install 'mosel[zoo]'") from error
    network: BatchFunction = load_network(shape, checkpoint, seed, device, precision)
    return network


OPTIONS = {"checkpoint": Path, "seed": int}
full = Recipe(functools.partial(tvlt, "full"), OPTIONS)
small = Recipe(functools.partial(tvlt, "small"), OPTIONS)
