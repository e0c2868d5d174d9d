"""Inputs at random, to time networks whose weights are random. Nothing is scored on them."""

import io

import numpy as np
from numpy.typing import NDArray

from mosel.models.wordpiece import read_vocabulary

MADE_UP = 8
"""How many of each there are."""


def texts(rng: np.random.Generator, pieces: int) -> list[NDArray[np.uint8]]:
    """Return texts of whole words, each of at least so many word-pieces, as UTF-8 of shape (bytes,)."""
    words = [piece for piece in read_vocabulary().numbers if piece.isalpha()]
    return [np.frombuffer(" ".join(rng.choice(words, pieces)).encode(), np.uint8) for _ in range(MADE_UP)]


def features(rng: np.random.Generator, times: int, size: int) -> NDArray[np.float32]:
    """Return features in time of shape (`MADE_UP`, times, size)."""
    return rng.standard_normal((MADE_UP, times, size), np.float32)


def images(rng: np.random.Generator, side: int) -> list[NDArray[np.uint8]]:
    """Return square images as JPEG files of shape (bytes,)."""
    return [
        np.frombuffer(_jpeg(rng.integers(0, 256, (side, side, 3), np.uint8)), np.uint8) for _ in range(MADE_UP)
    ]


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # an optional extra

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()
