"""The metrics by which the paper's data sets are judged, beside the one that SLOs are held against."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import Further

Array = NDArray[Any]
Facts = NDArray[np.float64]
Outputs = Mapping[str, Array]


def _sentiments(outputs: Outputs, labels: Array) -> Facts:
    return np.stack([outputs["sentiment"][:, 0], labels], axis=1).astype(np.float64)


def _of_sentiments(facts: Facts) -> dict[str, float]:
    """Accuracy and F1 tell negative from the rest, and from positive where neutral samples are left out.

    F1 weighs both kinds by how many there are. The data set's owners name both ways of counting.
    """
    answered, meant = facts.T
    found = {
        "accuracy": float(((answered < 0) == (meant < 0)).mean()),
        "F1": _weighted_f1(answered < 0, meant < 0),
        "MAE": float(np.abs(answered - meant).mean()),
    }
    if (told := meant != 0).any():
        negative, meant_negative = answered[told] <= 0, meant[told] < 0
        found["accuracy without neutral"] = float((negative == meant_negative).mean())
        found["F1 without neutral"] = _weighted_f1(negative, meant_negative)
    if answered.std() > 0 and meant.std() > 0:  # elsewhere a correlation is not defined
        found["correlation"] = float(np.corrcoef(answered, meant)[0, 1])
    return found


def _weighted_f1(answered: Array, meant: Array) -> float:
    return sum(float(f1(answered == kind, meant == kind) * (meant == kind).mean()) for kind in (True, False))


def _actions(outputs: Outputs, labels: Array) -> Facts:
    verbs, nouns = (outputs[name].argmax(axis=1) for name in ("verb", "noun"))
    return np.stack([verbs == labels[:, 0], nouns == labels[:, 1]], axis=1).astype(np.float64)


def _of_actions(facts: Facts) -> dict[str, float]:
    verb, noun = facts.T
    return {
        "verb top-1": float(verb.mean()),
        "noun top-1": float(noun.mean()),
        "action top-1": float((verb * noun).mean()),
    }


def _genres(outputs: Outputs, labels: Array) -> Facts:
    return np.concatenate([outputs["genres"] > 0, labels > 0], axis=1).astype(np.float64)


def _of_genres(facts: Facts) -> dict[str, float]:
    answered, right = (half > 0 for half in np.split(facts, 2, axis=1))
    return {
        "micro-F1": float(f1(answered.ravel(), right.ravel())),
        "macro-F1": float(f1(answered, right).mean()),
        "F1, mean over samples": float(f1(answered.T, right.T).mean()),
    }


def f1(answered: Array, meant: Array) -> Array:
    """Return F1 over the first axis; 0 where nothing is answered or meant."""
    hits = (answered & meant).sum(axis=0)
    both = answered.sum(axis=0) + meant.sum(axis=0)
    found: Array = 2 * hits / np.maximum(both, 1)
    return found


def _of_words(facts: Facts) -> dict[str, float]:
    return {"WER": float(1 - facts[:, 0].sum() / facts[:, 1].sum())}


def words(score: Any) -> Further:
    """Return the word error rate, of a score that gives words right and words in all; it may be above 1."""
    return Further(score, _of_words)


SENTIMENT = Further(_sentiments, _of_sentiments)
ACTIONS = Further(_actions, _of_actions)
GENRES = Further(_genres, _of_genres)
