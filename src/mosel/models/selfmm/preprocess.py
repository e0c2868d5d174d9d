"""From what a client sends to what Self-MM takes: text to word-pieces; features are checked, and stay.

One function a modality, run only when it is chosen. Torch is not needed here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def features(arrays: Arrays, *, name: str) -> dict[str, NDArray[np.float32]]:
    """Return the features as they are, (requests, times, features); times of zeros behind fill a request up.

    Raises:
        ValueError: naming the first request that holds what is no number, or zeros only.
    """
    given = arrays[name]
    finite = np.isfinite(given).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"request {finite.argmin()} holds features that are no finite numbers; replace them, by 0 say"
        )
    there = given.any(axis=(1, 2))
    if not there.all():
        raise ValueError(f"request {there.argmin()} holds nothing but zeros; leave this modality out")
    return {name: given}
