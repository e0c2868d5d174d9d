"""Self-MM, sentiment from what is said, how, and with which face (Yu et al. 2021): late fusion of three.

Zoo names `selfmm` (the published size, with BERT-base) and `selfmm-small`. A mode runs the branches of its
modalities alone: one by itself is answered by its own head, several by the fused one, with zeros for the one
that is missing. Answered is one number, negative or positive. Importing this module imports no torch: that is
the worker's business.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosel.core.errors import ModelError
from mosel.models.av_digits.data import Split
from mosel.models.base import BatchFunction, Modality, Model, Recipe, Samples, Tensor
from mosel.models.loading import PRECISIONS, version_of, weights_of
from mosel.models.noise import MADE_UP, features, texts
from mosel.models.scores import same_sentiment, sentiment_confidence, sentiment_score
from mosel.models.selfmm import digits, preprocess
from mosel.models.wordpiece import BUNDLED, check_vocabulary, version_with

TEXT_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Branch:
    """What makes a branch over features in time.

    Attributes:
        features: at each time.
        longest: times of the longest request.
        hidden: of its LSTM.
        out: what it gives to the fusion.
        head: the width of its own head.
    """

    features: int
    longest: int
    hidden: int
    out: int
    head: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a size of Self-MM.

    Attributes:
        width: of a token of BERT.
        depth: layers of BERT.
        heads: of each layer's attention.
        pieces: word-pieces that there are embeddings for.
        places: places in a text that there are embeddings for.
        most_pieces: of a text, [CLS] and [SEP] among them.
        text_head: the width of the text's own head.
        audio: the branch over sound, COVAREP's features as CMU-MOSEI has them.
        video: the branch over the face, FACET's features as CMU-MOSEI has them.
        fused: the width of the fused head.
    """

    width: int
    depth: int
    heads: int
    pieces: int
    places: int
    most_pieces: int = 50
    text_head: int = 32
    audio: Branch = Branch(74, 500, 16, 16, 16)
    video: Branch = Branch(35, 375, 32, 32, 32)
    fused: int = 128


SHAPES = {
    "full": Shape(768, 12, 12, 30_522, 512),
    "small": Shape(96, 2, 4, 1024, 64),
}


def selfmm(
    size: str = "full", checkpoint: Path | None = None, vocabulary: Path = BUNDLED, seed: int | None = None
) -> Model:
    """Return Self-MM as it is profiled and served.

    Args:
        size: `full`, as published, or `small`, on a smaller BERT.
        checkpoint: its weights. Without them the small size has those that ship; those of the full size are
            random, and no accuracy is claimed.
        vocabulary: the word-pieces that the weights were trained with, one a line.
        seed: for random weights, which a small network has only if it is given.

    Raises:
        ModelError: there is no such size, or the vocabulary is none of its.
        FileError: the checkpoint or the vocabulary cannot be read.
    """
    if size not in SHAPES:
        raise ModelError(f"model selfmm: size {size!r}; expected one of {', '.join(SHAPES)}")
    shape = SHAPES[size]
    checkpoint = weights_of(size, checkpoint, seed, __file__)
    check_vocabulary("selfmm", vocabulary, shape.pieces, checkpoint)
    labelled = size == "small" and checkpoint is not None
    return Model(
        name="selfmm" if size == "full" else f"selfmm-{size}",
        modalities=_modalities(shape, vocabulary),
        outputs=(Tensor("sentiment", "FP32", (1,)),),
        load=functools.partial(_load, shape, checkpoint, seed or 0),
        samples=digits.samples if labelled else functools.partial(noise, shape),
        calibration=functools.partial(digits.samples, Split.CALIBRATION) if labelled else None,
        score=sentiment_score,
        confidence=sentiment_confidence,
        agreement=same_sentiment,
        precisions=PRECISIONS,
        version=version_with(vocabulary, version_of(checkpoint, seed)),
        replayable=True,
        trained=checkpoint is not None,
    )


def noise(shape: Shape) -> Samples:
    """Return words and features at random, of the longest that are taken. It is for timing only."""
    rng = np.random.default_rng(0)
    return Samples(
        {
            "text": {"text": texts(rng, shape.most_pieces)},
            "audio": {"audio": features(rng, shape.audio.longest, shape.audio.features)},
            "video": {"video": features(rng, shape.video.longest, shape.video.features)},
        },
        np.zeros(MADE_UP),
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
        _over_time("audio", shape.audio),
        _over_time("video", shape.video),
    )


def _over_time(name: str, branch: Branch) -> Modality:
    tensor = Tensor(name, "FP32", (-1, branch.features), limits=(branch.longest,))
    return Modality(name, (tensor,), preprocess=functools.partial(preprocess.features, name=name))


def _load(shape: Shape, checkpoint: Path | None, seed: int, device: str, precision: str) -> BatchFunction:
    """Return the network on `device`.

    Raises:
        ModelError: the precision is not offered there, or torch is not installed.
        FileError: the checkpoint is none of this network.
    """
    try:
        from mosel.models.selfmm.weights import load_network
    except ImportError as error:
        raise ModelError(f"model selfmm: {error}; run: pip install 'mosel[zoo]'") from error
    network: BatchFunction = load_network(shape, checkpoint, seed, device, precision)
    return network


OPTIONS = {"checkpoint": Path, "vocabulary": Path, "seed": int}
full = Recipe(functools.partial(selfmm, "full"), OPTIONS)
small = Recipe(functools.partial(selfmm, "small"), OPTIONS)
