"""AV-HuBERT, speech recognition from sound and lips (Shi et al. 2022): early fusion, a sequence as output.

Zoo names `avhubert` (the published base size), `avhubert-large` and `avhubert-small`. A request is a clip of
any length up to a limit; its transcript is as long as it turns out. Latency depends on the length, so it is
profiled by length bucket; the unit is a frame of 40 ms. Importing this module imports no torch: that is the
worker's business.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mosel.core.errors import ModelError
from mosel.models.av_digits.data import Split
from mosel.models.avhubert import digits, preprocess
from mosel.models.avhubert.shape import AUDIO_FEATURES, FRAMES_HZ, SHAPES, SIDE, Shape
from mosel.models.avhubert.vocabulary import DIGITS, Vocabulary, placeholder, read_vocabulary, words
from mosel.models.base import BatchFunction, Modality, Model, Recipe, Samples, Tensor
from mosel.models.loading import PRECISIONS, version_of, weights_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BEAM = 50

LARGEST = (max(preprocess.SIDES), max(preprocess.SIDES))
"""Frames as they arrive, in pixels."""


def avhubert(
    size: str = "base",
    *,
    checkpoint: Path | None = None,
    vocabulary: Path | None = None,
    seed: int | None = None,
    beam: int = 1,
) -> Model:
    """Return AV-HuBERT as it is profiled and served.

    Args:
        size: `base` or `large`, as published, or `small`.
        checkpoint: published, fine-tuned weights. Without them the small size has those that ship; those of the
            others are random, and no accuracy is claimed.
        vocabulary: the dictionary that the weights were trained with (`dict.wrd.txt`); a checkpoint of a
            published size needs it.
        seed: for random weights, which a small network has only if it is given.
        beam: how many transcripts of a clip the decoder pursues beside each other; with 1 it takes the
            likeliest token each time.

    Raises:
        ModelError: there is no such size or beam, or a vocabulary is missing.
        FileError: the checkpoint or the vocabulary cannot be read.
    """
    if size not in SHAPES:
        raise ModelError(f"model avhubert: size {size!r}; expected one of {', '.join(SHAPES)}")
    if not 1 <= beam <= MOST_BEAM:
        raise ModelError(f"model avhubert: beam {beam}; expected a whole number from 1 to {MOST_BEAM}")
    if checkpoint and not vocabulary and size != "small":
        raise ModelError(
            "model avhubert: a checkpoint says nothing without its vocabulary; give vocabulary=FILE as well, "
            "the dictionary it was trained with (dict.wrd.txt)"
        )
    checkpoint = weights_of(size, checkpoint, seed, __file__)
    labelled = size == "small" and checkpoint is not None
    shape, pieces = SHAPES[size], _vocabulary(size, vocabulary)
    most_bytes = shape.most_tokens * pieces.longest_bytes
    return Model(
        name="avhubert" if size == "base" else f"avhubert-{size}",
        modalities=_modalities(shape),
        outputs=(
            Tensor("text", "UINT8", (-1,), (most_bytes,), lengths=True),
            Tensor("text_lengths", "INT64", ()),
            Tensor("rating", "FP32", ()),
        ),
        load=functools.partial(load, shape, pieces, beam, checkpoint, seed or 0),
        samples=digits.samples if labelled else functools.partial(noise, shape),
        calibration=functools.partial(digits.samples, Split.CALIBRATION) if labelled else None,
        score=word_score,
        confidence=word_confidence,
        metric="1 - WER",
        precisions=PRECISIONS,
        max_batch=16 if size == "small" else 8,
        latency_slo_s=1.0 if size == "small" else 10.0,
        length_buckets=shape.buckets,
        version=version_of(checkpoint, seed) + (f"-beam-{beam}" if beam > 1 else ""),
        trained=checkpoint is not None,
    )


def word_score(outputs: "Mapping[str, NDArray[Any]]", labels: "NDArray[Any]") -> "NDArray[np.float64]":
    """Return for each sample its words less the errors in them, and how many words it has: (samples, 2).

    Errors are the fewest words to put in, leave out or change. The share of the sums is 1 − WER over all words.

    Args:
        outputs: `text` and `text_lengths` of the model.
        labels: the transcripts, of shape (samples,).

    Raises:
        ModelError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ModelError(f"model avhubert: {error}; run: pip install 'mosel[zoo]'") from error
    rows = zip(outputs["text"], outputs["text_lengths"], labels, strict=True)
    scores = []
    for text, length, label in rows:
        said, meant = bytes(text[:length]).decode(errors="replace").split(), str(label).split()
        scores.append((len(meant) - Levenshtein.distance(said, meant), len(meant)))
    return np.array(scores, np.float64)


def word_confidence(outputs: "Mapping[str, NDArray[Any]]") -> "NDArray[np.float64]":
    """Return the mean log-probability of a token of each transcript, (batch,)."""
    return outputs["rating"].astype(np.float64)


def noise(shape: Shape) -> Samples:
    """Return a clip of noise for each length bucket, its transcript made up: for timing only."""
    rng, rates = np.random.default_rng(0), np.ones((len(shape.buckets), 1), np.int32)
    waves = [rng.uniform(-1, 1, n * preprocess.SAMPLES_A_FRAME).astype(np.float32) for n in shape.buckets]
    frames = [rng.integers(0, 256, (n, SIDE, SIDE), np.uint8) for n in shape.buckets]
    return Samples(
        {
            "audio": {"audio": waves, "audio_rate": rates * preprocess.RATE_HZ},
            "video": {"video": frames, "video_rate": rates * FRAMES_HZ},
        },
        np.array(["noise"] * len(shape.buckets)),
        "noise, for timing only",
    )


def load(
    shape: Shape,
    vocabulary: Vocabulary,
    beam: int,
    checkpoint: Path | None,
    seed: int,
    device: str,
    precision: str,
) -> BatchFunction:
    """Return the network on `device`.

    Raises:
        ModelError: torch or safetensors are not installed, or the precision is not offered there.
        FileError: the checkpoint is none of this network.
    """
    try:
        from mosel.models.avhubert.weights import load_network
    except ImportError as error:
        raise ModelError(f"model avhubert: {error}; run: pip install 'mosel[zoo]'") from error
    network: BatchFunction = load_network(shape, vocabulary, beam, checkpoint, seed, device, precision)
    return network


def _vocabulary(size: str, path: Path | None) -> Vocabulary:
    if path is not None:
        return read_vocabulary(path)
    return words(DIGITS) if size == "small" else placeholder()


def _modalities(shape: Shape) -> tuple[Modality, ...]:
    frames = shape.most_frames
    samples = preprocess.SAMPLES_A_FRAME
    return (
        Modality(
            "audio",
            (
                Tensor("audio", "FP32", (-1,), (frames * samples,), per_length=samples),
                Tensor("audio_rate", "INT32", (1,)),
            ),
            preprocess=preprocess.audio,
            prepared=(Tensor("audio", "FP32", (-1, AUDIO_FEATURES), (frames,), lengths=True, per_length=1),),
        ),
        Modality(
            "video",
            (
                Tensor("video", "UINT8", (-1, -1, -1), (frames, *LARGEST), per_length=1),
                Tensor("video_rate", "INT32", (1,)),
            ),
            preprocess=preprocess.video,
            prepared=(Tensor("video", "UINT8", (-1, SIDE, SIDE), (frames,), lengths=True, per_length=1),),
        ),
    )


OPTIONS = {"checkpoint": Path, "vocabulary": Path, "seed": int, "beam": int}

base = Recipe(functools.partial(avhubert, "base"), OPTIONS)
large = Recipe(functools.partial(avhubert, "large"), OPTIONS)
small = Recipe(functools.partial(avhubert, "small"), OPTIONS)
