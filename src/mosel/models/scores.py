"""How right an answer is, on 0..1, for tasks that several models share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sentiment_score(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1.0 for each sample whose sentiment is negative exactly where its label is, else 0.0.

    Args:
        outputs: `sentiment`, below 0 where negative, of shape (samples, 1).
        labels: the same, of shape (samples,).
    """
    hits: NDArray[np.float64] = ((outputs["sentiment"][:, 0] < 0) == (labels < 0)).astype(np.float64)
    return hits


def sentiment_confidence(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return how far each request's sentiment is from neither; shape (batch,)."""
    away: NDArray[np.float64] = np.abs(outputs["sentiment"][:, 0].astype(np.float64))
    return away
