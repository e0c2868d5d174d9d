"""What `vilt-small` is trained and measured on: a digit's word, typed, and its picture; genres are its traits.

Made from AV-digits, which pairs both by class. Nobody reviewed a film: the genres are 23 yes-or-no traits of a
digit, so that the network keeps the head of its published size.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mosel.models.av_digits import distort
from mosel.models.av_digits.data import MOST_LETTERS, WORDS, Split, balanced, written
from mosel.models.base import Samples

TRAITS = {
    **{word: {digit} for digit, word in enumerate(WORDS)},
    "even": {0, 2, 4, 6, 8},
    "odd": {1, 3, 5, 7, 9},
    "prime": {2, 3, 5, 7},
    "square": {0, 1, 4, 9},
    "multiple of three": {0, 3, 6, 9},
    "below five": {0, 1, 2, 3, 4},
    "from five": {5, 6, 7, 8, 9},
    "power of two": {1, 2, 4, 8},
    "of Fibonacci": {0, 1, 2, 3, 5, 8},
    "with a loop": {0, 6, 8, 9},
    "of three letters": {1, 2, 6},
    "of four letters": {0, 4, 5, 9},
    "of five letters": {3, 7, 8},
}
"""The genres in the order of the output, and the digits that have each."""


COVER_PIXELS, GREY_SIGMA = (5, 9), (20.0, 70.0)
"""Less is hidden than of AV-digits, which shows eight frames of each digit and not one."""


def genres(digits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which traits digits have, 0 or 1, (digits, traits)."""
    table = np.array([[digit in having for having in TRAITS.values()] for digit in range(10)], np.int64)
    return table[digits]


def samples(split: Split = Split.TEST, count: int = 2000, seed: int = 0) -> Samples:
    """Return `count` labelled samples of `split`, balanced by digit; the same for the same seed."""
    drawn = drawing(split, count, np.random.default_rng([seed, split]))
    source = f"traits of AV-digits, {split.name.lower()} images, {count} samples, seed {seed}"
    return Samples(drawn.inputs, drawn.labels, source)


def drawing(split: Split, count: int, rng: np.random.Generator) -> Samples:
    """Return samples drawn by `rng`."""
    digits = balanced(count, rng)
    texts = [distort.mistype(WORDS[digit], MOST_LETTERS, rng) for digit in digits]
    pictures = distort.cover(written(split, digits, rng), 1, rng, COVER_PIXELS, GREY_SIGMA)
    files = [np.frombuffer(_png(frames[0]), np.uint8) for frames in pictures]
    return Samples({"text": {"text": texts}, "image": {"image": files}}, genres(digits))


def _png(grey: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
