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


def same_sentiment(
    outputs: Mapping[str, NDArray[Any]], others: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """Return 1.0 for each request whose two sentiments are negative or not alike, else 0.0; shape (batch,)."""
    negative, other = (each["sentiment"][:, 0] < 0 for each in (outputs, others))
    same: NDArray[np.float64] = (negative == other).astype(np.float64)
    return same


def micro_f1(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return twice the genres that are right, and those answered plus those meant: (samples, 2).

    The share of the sums is micro-F1. Every sample has to be of one genre at least.

    Args:
        outputs: `genres`, a logit a genre, answered where it is above 0, of shape (samples, genres).
        labels: 0 or 1, of the same shape.
    """
    answered, right = outputs["genres"] > 0, labels > 0
    pairs = [2 * (answered & right).sum(axis=1), answered.sum(axis=1) + right.sum(axis=1)]
    return np.stack(pairs, axis=1).astype(np.float64)
