"""Whether answers are right as often as cascades say, by how sure the model was of them.

A cascade's calibration (𝒟) tells how often an unsure answer is right as it is, and how often once it was
escalated; what is left of the cascade's accuracy is what sure answers have to be worth. Labelled feedback says
how often each was right. Where these differ by more than chance the calibration no longer holds, and what jobs
in cascades are promised is wrong. Pure arithmetic on scores, as `feedback.py` is.
"""

import logging
import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mosel.core.cascades import Cascade
from mosel.core.tables import Profile
from mosel.frontend.feedback import KEPT_SCORES, LOOK_EVERY, estimate

log = logging.getLogger(__name__)

Z_DRIFT = 3.0
"""From how many standard deviations under what was expected on the calibration counts as broken. It is looked
at again and again, so that less would be chance before long.
"""


class Judged(NamedTuple):
    """An answer in a cascade: its first stage's mode, how sure it was there, and whether it went on."""

    first: str
    confidence: float
    escalated: bool


class Bin(NamedTuple):
    """Answers of one first stage between two confidences that stayed, or that went on."""

    first: str
    low: float | None
    high: float | None
    escalated: bool


class Reliability:
    """Takes in scores of answers in cascades, and tells them beside what was expected of them.

    Args:
        profiles: 𝒟 of each model that is served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._widest = {
            (profile.model, first): widest(profile, first)
            for profile in profiles
            for first in dict.fromkeys(cascade.stages[0] for cascade in profile.cascades)
        }
        self._scores: dict[tuple[str, Bin], deque[tuple[float, float]]] = {}
        self._until_look = dict.fromkeys(self._widest, LOOK_EVERY)
        self._told: set[tuple[str, str]] = set()

    def note(self, model: str, judged: Judged, score: float) -> None:
        """Take in the score, on 0..1, of one answer; one of no known cascade, or confidence, is left out."""
        key = model, judged.first
        cascade = self._widest.get(key)
        if cascade is None or not math.isfinite(judged.confidence):
            return
        where = _bin(cascade, judged)
        kept = self._scores.setdefault((model, where), deque(maxlen=KEPT_SCORES))
        kept.append((expected(cascade, judged), score))
        self._until_look[key] -= 1
        if not self._until_look[key]:
            self._until_look[key] = LOOK_EVERY
            self._look(key)

    def of_model(self, model: str) -> list[dict[str, object]]:
        """Return one entry a bin that has scores: what was expected of its answers beside what is seen.

        Bins stand in the order of first stages and confidences, those that went on behind those that stayed.
        """
        found = [where for of, where in self._scores if of == model]
        return [self._entry(model, where) for where in sorted(found, key=_order)]

    def _entry(self, model: str, where: Bin) -> dict[str, object]:
        pairs = self._scores[model, where]
        seen = estimate([score for _, score in pairs])
        promised = math.fsum(one for one, _ in pairs) / len(pairs)
        return {
            "mode": where.first,
            "escalated": where.escalated,
            "from": where.low,
            "to": where.high,
            "expected": promised,
            "live": seen.mean,
            "low": seen.low,
            "high": seen.high,
            "scores": seen.scores,
            "holds": seen.high >= promised if seen.scores >= LOOK_EVERY else None,
        }

    def _look(self, key: tuple[str, str]) -> None:
        scores = self._scores.items()
        pairs = [pair for (of, where), kept in scores if (of, where.first) == key for pair in kept]
        tell_broken(key, pairs, self._told, "are right")


def broken(pairs: Collection[tuple[float, float]]) -> bool:
    """Whether what was seen lies further below what was expected than chance allows; (expected, seen) pairs."""
    missing = math.fsum(promised - seen for promised, seen in pairs)
    return missing > Z_DRIFT * _spread([promised for promised, _ in pairs])


def tell_broken(
    key: tuple[str, str], pairs: Collection[tuple[float, float]], told: set[tuple[str, str]], what: str
) -> None:
    """Warn once that a calibration no longer holds, and again only after what is seen was as expected.

    Args:
        key: the model, and the first stage.
        pairs: (expected, seen) of its last answers.
        told: the keys that were warned of.
        what: is seen of the answers, in words.
    """
    model, first = key
    promised, seen = (math.fsum(pair[at] for pair in pairs) / len(pairs) for at in (0, 1))
    if broken(pairs):
        if key not in told:
            told.add(key)
            log.warning(
                "model %s: cascades that begin with %s %s in %.3f of their last %d answers, where "
                "%.3f was expected at the confidences that the model told: their calibration no longer "
                "holds. Measure it anew on samples like these: mosel profile %s --exhaustive",
                *(model, first, what, seen, len(pairs), promised, model),
            )
    elif seen >= promised:
        told.discard(key)


def expected(cascade: Cascade, judged: Judged) -> float:
    """Return how often such an answer is right by the calibration of a cascade."""
    confidences, now, after = np.array(cascade.calibration, np.float64).T
    if judged.confidence < cascade.threshold:
        return float(np.interp(judged.confidence, confidences, after if judged.escalated else now))
    if judged.escalated:
        return float(after.max())
    sure = (cascade.accuracy - cascade.escalated * float(after.mean())) / (1 - cascade.escalated)
    return min(1.0, max(0.0, sure))


def widest(profile: Profile, first: str) -> Cascade:
    """The cascade with this first stage that knows most confidences."""
    own = [cascade for cascade in profile.cascades if cascade.stages[0] == first]
    return max(own, key=lambda cascade: (cascade.threshold, cascade.name))


def _bin(cascade: Cascade, judged: Judged) -> Bin:
    edges = _edges(cascade)
    at = int(np.searchsorted(edges, judged.confidence, side="right"))
    low = edges[at - 1] if at else None
    high = edges[at] if at < len(edges) else None
    return Bin(judged.first, low, high, judged.escalated)


def _edges(cascade: Cascade) -> Sequence[float]:
    """Confidences between bins: half way between the calibration's, and the threshold."""
    halves = [(before[0] + after[0]) / 2 for before, after in pairwise(cascade.calibration)]
    return [*(half for half in halves if half < cascade.threshold), cascade.threshold]


def _order(where: Bin) -> tuple[str, bool, float]:
    return where.first, where.escalated, -math.inf if where.low is None else where.low


def _spread(shares: Sequence[float]) -> float:
    """The standard deviation of how many of some answers are right, each in its share of cases."""
    return math.sqrt(math.fsum(share * (1 - share) for share in shares) + 1)
