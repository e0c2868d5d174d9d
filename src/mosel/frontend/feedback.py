"""How right a model's answers are, by mode, from the scores that come back for them: live accuracy.

It is pure arithmetic on scores: which job ran in which mode is found in `answered.py`, and nothing here knows a
clock or a protocol. Profiled accuracy is what SLOs are held against (𝒟, §5.1); where it lies above what is seen
live, promises are broken that no receipt shows.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mosel.core.tables import Profile

log = logging.getLogger(__name__)

KEPT_SCORES = 2000
"""The last of each mode: live accuracy is that of late, and memory is bounded."""

LOOK_EVERY = 100
"""A profile is judged after so many more scores: looking at each would find a chance low before long."""

Z_95 = 1.959963984540054


class Estimate(NamedTuple):
    """The mean of some scores on 0..1, and the ends of its two-sided 95% interval."""

    mean: float
    low: float
    high: float
    scores: int


def estimate(scores: Sequence[float]) -> Estimate:
    """Return the mean of at least one score on 0..1, with its interval.

    The interval is Wilson's. Scores that are not all 0 or 1 vary less, so that so many say as much as more of
    those would; how much they vary is found from them and, counted once, from the most that their mean allows.
    """
    count = len(scores)
    mean = min(1.0, math.fsum(scores) / count)
    most = mean * (1 - mean)
    variance = (math.fsum((score - mean) ** 2 for score in scores) + most) / (count + 1)
    worth = count * most / variance if variance else count
    return Estimate(mean, *_wilson(mean, worth), count)


class LiveAccuracy:
    """Takes in scores, tells what they say, and warns once when a profile promises more.

    Args:
        profiles: 𝒟 of each model that is served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._profiled = {
            (profile.model, name): mode.accuracy
            for profile in profiles
            for name, mode in zip(profile.mode_names, profile.modes, strict=True)
        }
        self._scores: dict[tuple[str, str], deque[float]] = {}
        self._until_look = dict.fromkeys(self._profiled, LOOK_EVERY)
        self._told: set[tuple[str, str]] = set()

    def note(self, model: str, mode: str, score: float) -> None:
        """Take in the score, on 0..1, of one request that ran in `mode`."""
        key = model, mode
        self._scores.setdefault(key, deque(maxlen=KEPT_SCORES)).append(score)
        self._until_look[key] -= 1
        if not self._until_look[key]:
            self._until_look[key] = LOOK_EVERY
            self._look(key)

    def estimates(self) -> Mapping[tuple[str, str], Estimate]:
        """Return what the last scores of each mode say, by model and mode; modes without any are left out."""
        return {key: estimate(scores) for key, scores in self._scores.items()}

    def of_model(self, model: str) -> list[dict[str, object]]:
        """Return one entry a mode, in the profile's order: what it promises beside what is seen."""
        return [self._entry(key) for key in self._profiled if key[0] == model]

    def _entry(self, key: tuple[str, str]) -> dict[str, object]:
        profiled = self._profiled[key]
        found: dict[str, object] = {"mode": key[1], "profiled": profiled}
        if key not in self._scores:
            return {**found, "live": None, "low": None, "high": None, "scores": 0, "holds": None}
        seen = estimate(self._scores[key])
        holds = seen.high >= profiled if seen.scores >= LOOK_EVERY else None
        return {**found, **_named(seen), "holds": holds}

    def _look(self, key: tuple[str, str]) -> None:
        seen, profiled = estimate(self._scores[key]), self._profiled[key]
        if seen.high < profiled and key not in self._told:
            self._told.add(key)
            model, mode = key
            log.warning(
                "model %s in mode %s is right in %.3f of its last %d answers (95%% interval %.3f to %.3f); its "
                "profile says %.3f. Measure it anew on samples like these: mosel profile %s --exhaustive; or "
                "give its accuracies: mosel serve --accuracy FILE",
                *(model, mode, seen.mean, seen.scores, seen.low, seen.high, profiled, model),
            )
        elif seen.mean >= profiled:
            self._told.discard(key)


def _named(seen: Estimate) -> dict[str, object]:
    return {"live": seen.mean, "low": seen.low, "high": seen.high, "scores": seen.scores}


def _wilson(share: float, count: float) -> tuple[float, float]:
    """The ends of Wilson's interval of a share of so many."""
    spread = Z_95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
