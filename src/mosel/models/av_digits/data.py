"""The samples of AV-digits: spoken, seen and written digits, **paired by class** as in AV-MNIST.

Nobody recorded one person saying, drawing and typing a digit: a sample is a label, and for each modality
something of that class drawn on its own. Clean speech (log-mels of synthetic voices) and clean handwriting
(MNIST images) ship as compressed arrays made by `scripts/av_digits/make_data.py`; what makes them hard is
added by `distort.py` as each sample is drawn. Voices and images are divided into three splits that share
none. Batches and tensors of a framework are not known here.
"""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.files import read_bytes
from mosel.models.av_digits import distort
from mosel.models.base import Samples

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST_LETTERS, MOST_FRAMES, MELS, VIDEO_FRAMES, SIDE = 16, 80, 32, 8, 28

Varying = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]

SPEECH_FILE = Path(__file__).with_name("speech.npz")
DIGITS_FILE = Path(__file__).with_name("digits.npz")
FILE_LIMIT_BYTES = 1 << 24


class Split(IntEnum):
    """Which voices and images a sample may come from; no voice and no image is in two splits."""

    TRAINING = 0
    CALIBRATION = 1
    TEST = 2


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples of all three modalities; entry i of each is of class `labels[i]`.

    Attributes:
        text: lower-case letters as ASCII codes, one UINT8 array of shape (letters,) per sample.
        audio: log-mel in half decibels above the floor, one UINT8 array of shape (frames, MELS) per sample.
        video: grey levels, UINT8 of shape (samples, frames, SIDE, SIDE).
        labels: INT64 of shape (samples,), 0 to 9.
    """

    text: list[NDArray[np.uint8]]
    audio: list[NDArray[np.uint8]]
    video: NDArray[np.uint8]
    labels: NDArray[np.int64]


def samples(split: Split = Split.TEST, count: int = 2000, seed: int = 0) -> Samples:
    """Return `count` labelled samples of `split`, balanced by class; the same for the same seed."""
    drawn = draw(split, count, np.random.default_rng([seed, split]))
    return Samples(
        inputs={"text": {"text": drawn.text}, "audio": {"audio": drawn.audio}, "video": {"video": drawn.video}},
        labels=drawn.labels,
        source=f"AV-digits, {split.name.lower()} voices and images, {count} samples, seed {seed}",
    )


def draw(
    split: Split,
    count: int,
    rng: np.random.Generator,
    video_frames: int = VIDEO_FRAMES,
    vary: Varying | None = None,
) -> Draw:
    """Draw `count` samples of `split`, balanced by class and in random order, each distorted anew.

    `vary`, if given, turns each clean clip of speech, (frames, MELS), into another before noise is added.
    """
    labels = balanced(count, rng)
    clips = spoken(split, labels, rng, vary)
    images = written(split, labels, rng)
    return Draw(
        text=[distort.mistype(WORDS[label], MOST_LETTERS, rng) for label in labels],
        audio=distort.add_noise(clips, MOST_FRAMES, rng),
        video=distort.cover(images, video_frames, rng),
        labels=labels,
    )


def balanced(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` digits in random order, as many of each as can be."""
    return rng.permutation(np.arange(count) % len(WORDS))


def spoken(
    split: Split, labels: NDArray[np.int64], rng: np.random.Generator, vary: Varying | None = None
) -> list[NDArray[np.uint8]]:
    """Return a clean clip of each digit, (frames, MELS), by voices of `split`; `vary` as for `draw`."""
    speech = _speech()
    clips = [speech.clip(index) for index in _matching(labels, speech.digit, speech.split == split, rng)]
    return clips if vary is None else [vary(clip, rng) for clip in clips]


def written(split: Split, labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a clean image of each digit, (digits, SIDE, SIDE), of those of `split`."""
    digits = _digits()
    return digits.images[_matching(labels, digits.digit, digits.split == split, rng)]


@dataclass(frozen=True, slots=True)
class _Speech:
    frames: NDArray[np.uint8]
    start: NDArray[np.int64]
    digit: NDArray[np.uint8]
    split: NDArray[np.uint8]

    def clip(self, index: int) -> NDArray[np.uint8]:
        return self.frames[self.start[index] : self.start[index + 1]]


@dataclass(frozen=True, slots=True)
class _Digits:
    images: NDArray[np.uint8]
    digit: NDArray[np.uint8]
    split: NDArray[np.uint8]


@functools.cache
def _speech() -> _Speech:
    arrays = _read(SPEECH_FILE)
    start = np.concatenate([[0], np.cumsum(arrays["length"], dtype=np.int64)])
    return _Speech(arrays["frames"], start, arrays["digit"], arrays["split"])


@functools.cache
def _digits() -> _Digits:
    arrays = _read(DIGITS_FILE)
    return _Digits(arrays["images"], arrays["digit"], arrays["split"])


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(read_bytes(path, FILE_LIMIT_BYTES)), allow_pickle=False) as arrays:
        return dict(arrays)


def _matching(
    labels: NDArray[np.int64],
    digit: NDArray[np.uint8],
    usable: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return for each label the index of a usable item of that class; none twice before all were used."""
    chosen = np.empty(len(labels), np.int64)
    for value in range(len(WORDS)):
        wanted = labels == value
        pool = rng.permutation(np.flatnonzero(usable & (digit == value)))
        chosen[wanted] = np.resize(pool, np.count_nonzero(wanted))
    return chosen
