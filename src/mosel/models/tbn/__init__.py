"""TBN, action recognition from image, motion and sound (Kazakos et al. 2019): late fusion of three modalities.

Each request is a clip of which some moments, its segments, are sent: a frame, the optical flow of five frames,
and 1.279 s of sound around each. Verb and noun are answered apart; an action is right when both are. Importing
this module imports no torch: that is the worker's business. Zoo names `tbn` (as published) and `tbn-small`.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mosel.core.errors import ModelError
from mosel.models.av_digits.data import Split
from mosel.models.base import BatchFunction, Modality, Model, Recipe, Samples, Tensor, largest_softmax
from mosel.models.loading import version_of, weights_of
from mosel.models.tbn import digits, preprocess
from mosel.models.tbn.shape import FLOW_CHANNELS, SHAPES, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SIDE = 1280
"""Of frames as they arrive, in pixels."""

MADE_UP = 4
"""Clips of noise that time a model whose weights are random."""


def tbn(
    size: str = "full", *, segments: int | None = None, checkpoint: Path | None = None, seed: int | None = None
) -> Model:
    """Return TBN as it is profiled and served.

    Args:
        size: `full`, as published, or `small`, an eighth of its channels on frames of 96 × 96.
        segments: how many moments of a clip a request holds; by default 25 (full) or 3 (small).
        checkpoint: published weights. Without them the small size has those that ship; those of the full size
            are random, and accuracies have to come from elsewhere.
        seed: for random weights, which a small network has only if it is given.

    Raises:
        ModelError: there is no such size, or no segment.
        FileError: the checkpoint cannot be read.
    """
    if size not in SHAPES:
        raise ModelError(f"model tbn: size {size!r}; expected one of {', '.join(SHAPES)}")
    shape = replace(SHAPES[size], segments=SHAPES[size].segments if segments is None else segments)
    if shape.segments < 1:
        raise ModelError(f"model tbn: {shape.segments} segments; expected at least one")
    checkpoint = weights_of(size, checkpoint, seed, __file__)
    labelled = functools.partial(digits.samples, segments=shape.segments)
    ours = size == "small" and checkpoint is not None
    return Model(
        name="tbn" if size == "full" else f"tbn-{size}",
        modalities=_modalities(shape),
        outputs=(Tensor("verb", "FP32", (shape.verbs,)), Tensor("noun", "FP32", (shape.nouns,))),
        load=functools.partial(_load, shape, checkpoint, seed or 0),
        samples=labelled if ours else functools.partial(noise, shape),
        calibration=functools.partial(labelled, Split.CALIBRATION) if ours else None,
        score=action_score,
        confidence=action_confidence,
        agreement=same_action,
        metric="action top-1",
        precisions={"cpu": ("float32", "bfloat16"), "cuda": ("float32", "float16", "bfloat16")},
        max_batch=4 if size == "full" else 16,
        latency_slo_s=30.0 if size == "full" else 1.0,
        version=version_of(checkpoint, seed),
        replayable=True,
        trained=checkpoint is not None,
    )


def same_action(
    outputs: "Mapping[str, NDArray[Any]]", others: "Mapping[str, NDArray[Any]]"
) -> "NDArray[np.float64]":
    """Return 1.0 for each request whose answers have the same verb and the same noun, else 0.0; (batch,)."""
    pairs = [outputs[name].argmax(axis=-1) == others[name].argmax(axis=-1) for name in ("verb", "noun")]
    same: NDArray[np.float64] = (pairs[0] & pairs[1]).astype("float64")
    return same


def action_score(outputs: "Mapping[str, NDArray[Any]]", labels: "NDArray[Any]") -> "NDArray[np.float64]":
    """Return 1.0 for each sample whose verb and noun are both right; `labels`, (samples, 2), in that order."""
    verbs, nouns = (outputs[name].argmax(axis=1) for name in ("verb", "noun"))
    hits: NDArray[np.float64] = ((verbs == labels[:, 0]) & (nouns == labels[:, 1])).astype(np.float64)
    return hits


def action_confidence(outputs: "Mapping[str, NDArray[Any]]") -> "NDArray[np.float64]":
    """Return for each request the product of the largest probabilities of verb and noun; shape (batch,)."""
    return largest_softmax({"verb": outputs["verb"]}) * largest_softmax({"noun": outputs["noun"]})


def noise(shape: Shape) -> Samples:
    """Return clips of noise, their actions made up: for timing only."""
    rng, clips = np.random.default_rng(0), (MADE_UP, shape.segments)
    frames = rng.integers(0, 256, (*clips, shape.side, shape.side, 3), np.uint8)
    moved = rng.integers(0, 256, (*clips, FLOW_CHANNELS, shape.side, shape.side), np.uint8)
    waves = rng.uniform(-1, 1, (*clips, preprocess.AUDIO_SAMPLES)).astype(np.float32)
    rates = np.full((MADE_UP, 1), preprocess.RATE_HZ, np.int32)
    return Samples(
        {"rgb": {"rgb": frames}, "flow": {"flow": moved}, "audio": {"audio": waves, "audio_rate": rates}},
        np.zeros((MADE_UP, 2), np.int64),
        "noise, for timing only",
    )


def _modalities(shape: Shape) -> tuple[Modality, ...]:
    segments, side = shape.segments, shape.side
    limits = (LARGEST_SIDE, LARGEST_SIDE)
    spectrogram = (segments, preprocess.FREQUENCIES, preprocess.TIMES)
    return (
        Modality(
            "rgb",
            (Tensor("rgb", "UINT8", (segments, -1, -1, 3), limits),),
            preprocess=functools.partial(preprocess.rgb, side=side),
            prepared=(Tensor("rgb", "UINT8", (segments, 3, side, side)),),
            features=_seen("rgb", shape),
        ),
        Modality(
            "flow",
            (Tensor("flow", "UINT8", (segments, FLOW_CHANNELS, -1, -1), limits),),
            preprocess=functools.partial(preprocess.flow, side=side),
            prepared=(Tensor("flow", "UINT8", (segments, FLOW_CHANNELS, side, side)),),
            features=_seen("flow", shape),
        ),
        Modality(
            "audio",
            (
                Tensor("audio", "FP32", (segments, preprocess.AUDIO_SAMPLES)),
                Tensor("audio_rate", "INT32", (1,)),
            ),
            preprocess=preprocess.audio,
            prepared=(Tensor("audio", "FP32", spectrogram),),
            features=_seen("audio", shape),
        ),
    )


def _seen(modality: str, shape: Shape) -> tuple[Tensor, ...]:
    return (Tensor(f"{modality}_seen", "FP32", (shape.segments, shape.features)),)


def _load(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> BatchFunction:
    """Return the network on `device`, its normalisations merged into its convolutions.

    Raises:
        ModelError: the precision is not offered there, or torch is not installed.
        FileError: the checkpoint is none of this network.
    """
    try:
        from mosel.models.tbn.weights import load_network
    except ImportError as error:
        raise ModelError(f"model tbn: {error}; run: pip install 'mosel[zoo]'") from error
    network: BatchFunction = load_network(shape, checkpoint, seed, device, precision)
    return network


OPTIONS = {"segments": int, "checkpoint": Path, "seed": int}

full = Recipe(functools.partial(tbn, "full"), OPTIONS)
small = Recipe(functools.partial(tbn, "small"), OPTIONS)
