"""From what a client sends to what ViLT takes: text to word-pieces, an image file to a square of pixels.

One function a modality, run only when it is chosen. Torch is not needed here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mosel.models.images import read_image
from mosel.models.wordpiece import encode_all

Arrays = Mapping[str, NDArray[Any]]


def text(arrays: Arrays, *, most: int, vocabulary: Path) -> dict[str, NDArray[np.int64]]:
    """Return `text`, numbers of word-pieces of shape (requests, pieces), 0 behind the last.

    Args:
        arrays: `text`, UTF-8 of shape (requests, bytes), 0 behind the last.
        most: pieces of a text; what is beyond is cut off.
        vocabulary: the file of the pieces.

    Raises:
        ValueError: a request is no UTF-8, or holds no text.
    """
    return {"text": encode_all(arrays["text"], most, vocabulary)}


def image(arrays: Arrays, *, side: int) -> dict[str, NDArray[np.uint8]]:
    """Return `image`, red, green and blue of shape (requests, 3, side, side): the whole image, made square.

    Args:
        arrays: `image`, an image file (or a `.npy` array) of shape (requests, bytes), 0 behind the last.
        side: in pixels.

    Raises:
        ValueError: a request is no image, is damaged, or too large.
    """
    size, filtered = (side, side), Image.Resampling.BICUBIC
    squares = [
        np.asarray(read_image(file, request).resize(size, filtered))
        for request, file in enumerate(arrays["image"])
    ]
    return {"image": np.ascontiguousarray(np.stack(squares).transpose(0, 3, 1, 2))}
