"""ViLT, the genres of a film from its poster and plot (Kim et al. 2021): early fusion of two modalities.

Zoo names `vilt` (ViLT-B/32, the published size) and `vilt-small`. Word-pieces and patches of the image go
through one transformer; a mode leaves the tokens of the other modality out and keeps [CLS]. Answered is a
logit a genre. Importing this module imports no torch: that is the worker's business.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mosel.core.errors import ModelError
from mosel.models.av_digits.data import Split
from mosel.models.base import BatchFunction, Modality, Model, Recipe, Samples, Tensor
from mosel.models.loading import PRECISIONS, version_of, weights_of
from mosel.models.noise import MADE_UP, images, texts
from mosel.models.scores import micro_f1
from mosel.models.vilt import digits, preprocess
from mosel.models.wordpiece import BUNDLED, check_vocabulary, version_with

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENRES = 23
TEXT_BYTES = 1 << 14
IMAGE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a size of ViLT.

    Attributes:
        width: of a token.
        depth: layers of the encoder.
        heads: of each layer's attention.
        pieces: word-pieces that there are embeddings for.
        most_pieces: of a text, [CLS] and [SEP] among them.
        side: of the image as the network takes it.
        patch: side of a patch.
        genres: how many answers there are.
    """

    width: int
    depth: int
    heads: int
    pieces: int
    most_pieces: int
    side: int
    patch: int
    genres: int = GENRES


SHAPES = {
    "full": Shape(768, 12, 12, 30_522, 40, 384, 32),
    "small": Shape(96, 4, 4, 1024, 40, 96, 16),
}


def vilt(
    size: str = "full", checkpoint: Path | None = None, vocabulary: Path = BUNDLED, seed: int | None = None
) -> Model:
    """Return ViLT as it is profiled and served.

    Args:
        size: `full`, as published, or `small`.
        checkpoint: its weights. Without them the small size has those that ship; those of the full size are
            random, and no accuracy is claimed.
        vocabulary: the word-pieces that the weights were trained with, one a line.
        seed: for random weights, which a small network has only if it is given.

    Raises:
        ModelError: there is no such size, or the vocabulary is none of its.
        FileError: the checkpoint or the vocabulary cannot be read.
    """
    if size not in SHAPES:
        raise ModelError(f"model vilt: size {size!r}; expected one of {', '.join(SHAPES)}")
    shape = SHAPES[size]
    checkpoint = weights_of(size, checkpoint, seed, __file__)
    check_vocabulary("vilt", vocabulary, shape.pieces, checkpoint)
    labelled = size == "small" and checkpoint is not None
    return Model(
        name="vilt" if size == "full" else f"vilt-{size}",
        modalities=_modalities(shape, vocabulary),
        outputs=(Tensor("genres", "FP32", (shape.genres,)),),
        load=functools.partial(_load, shape, checkpoint, vocabulary, seed or 0),
        samples=digits.samples if labelled else functools.partial(noise, shape),
        calibration=functools.partial(digits.samples, Split.CALIBRATION) if labelled else None,
        score=micro_f1,
        confidence=genre_confidence,
        metric="micro-F1",
        precisions=PRECISIONS,
        version=version_with(vocabulary, version_of(checkpoint, seed)),
        replayable=True,
        trained=checkpoint is not None,
    )


def genre_confidence(outputs: "Mapping[str, NDArray[Any]]") -> "NDArray[np.float64]":
    """Return how far each request's genres are from undecided, on average; shape (batch,)."""
    odds = np.tanh(np.abs(outputs["genres"].astype(np.float64)) / 2)
    sure: NDArray[np.float64] = odds.mean(axis=1)
    return sure


def noise(shape: Shape) -> Samples:
    """Return words and images at random, of the longest that are looked at. It is for timing only."""
    rng = np.random.default_rng(0)
    return Samples(
        {
            "text": {"text": texts(rng, shape.most_pieces)},
            "image": {"image": images(rng, shape.side)},
        },
        np.ones((MADE_UP, shape.genres)),
        "noise, for timing only",
    )


def _modalities(shape: Shape, vocabulary: Path) -> tuple[Modality, ...]:
    return (
        Modality(
            "text",
            (Tensor("text", "UINT8", (-1,), limits=(TEXT_BYTES,)),),
            preprocess=functools.partial(preprocess.text, most=shape.most_pieces, vocabulary=vocabulary),
            prepared=(Tensor("text", "INT64", (-1,), limits=(shape.most_pieces,)),),
        ),
        Modality(
            "image",
            (Tensor("image", "UINT8", (-1,), limits=(IMAGE_BYTES,)),),
            preprocess=functools.partial(preprocess.image, side=shape.side),
            prepared=(Tensor("image", "UINT8", (3, shape.side, shape.side)),),
        ),
    )


def _load(
    shape: Shape, checkpoint: Path | None, vocabulary: Path, seed: int, device: str, precision: str
) -> BatchFunction:
    """Return the network on `device`.

    Raises:
        ModelError: the precision is not offered there, or torch is not installed.
        FileError: the checkpoint is none of this network.
    """
    try:
        from mosel.models.vilt.weights import load_network
    except ImportError as error:
        raise ModelError(f"model vilt: {error}; run: pip install 'mosel[zoo]'") from error
    network: BatchFunction = load_network(shape, checkpoint, vocabulary, seed, device, precision)
    return network


OPTIONS = {"checkpoint": Path, "vocabulary": Path, "seed": int}
full = Recipe(functools.partial(vilt, "full"), OPTIONS)
small = Recipe(functools.partial(vilt, "small"), OPTIONS)
