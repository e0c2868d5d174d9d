"""How often a mode's answers agree with those of all modalities, and what that says of its accuracy.

No labels are needed for it: a request that ran in a cheaper mode runs once more in the most accurate one
(`shadows.py`), and the two answers are compared. Where these are the same both are right or neither is, and
where they differ one of them is right at the most: agreement a and the most accurate mode's accuracy A leave a
mode an accuracy between A − (1 − a) and the lesser of A + (1 − a) and 1 − A + a. Like `feedback.py` this is
arithmetic, without a clock or a protocol.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE
from mosel.frontend.feedback import KEPT_SCORES, LOOK_EVERY, Estimate, estimate

log = logging.getLogger(__name__)


class Between(NamedTuple):
    """What agreement leaves of a mode's accuracy, and whether its profile is within that; None if unsure."""

    least: float
    most: float
    holds: bool | None


class LiveAgreement:
    """Takes in how far pairs of answers agree, tells what that says, and warns once of a profile beyond it.

    Args:
        profiles: 𝒟 of each model that is served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._profiled = {
            profile.model: dict(zip(profile.mode_names, (mode.accuracy for mode in profile.modes), strict=True))
            for profile in profiles
        }
        self._seen: dict[tuple[str, str], deque[float]] = {}
        self._told: set[tuple[str, str]] = set()
        self._until_look: dict[tuple[str, str], int] = {}

    def note(self, model: str, mode: str, agreement: float) -> None:
        """Take in how far the answer to one request in `mode` agrees with that of all modalities, on 0..1."""
        key = model, mode
        self._seen.setdefault(key, deque(maxlen=KEPT_SCORES)).append(agreement)
        self._until_look[key] = self._until_look.get(key, LOOK_EVERY) - 1
        if not self._until_look[key]:
            self._until_look[key] = LOOK_EVERY
            self._look(model, mode)

    def estimates(self) -> Mapping[tuple[str, str], Estimate]:
        """Return the agreement of each mode that was compared, by model and mode."""
        return {key: estimate(seen) for key, seen in self._seen.items()}

    def count(self, model: str, mode: str) -> int:
        """Return how many pairs of answers are known."""
        return len(self._seen.get((model, mode), ()))

    def entry(self, model: str, mode: str) -> dict[str, object] | None:
        """Return what is known of a mode, in the words of the interface; None if nothing is."""
        if (model, mode) not in self._seen:
            return None
        seen = estimate(self._seen[model, mode])
        left = self._between(model, mode, seen)
        told = {"mean": seen.mean, "low": seen.low, "high": seen.high, "shadows": seen.scores}
        return {**told, "accuracy_low": left.least, "accuracy_high": left.most, "holds": left.holds}

    def _between(self, model: str, mode: str, seen: Estimate) -> Between:
        profiled = self._profiled[model]
        best = max(profiled.values())
        least = max(0.0, best - (1 - seen.low))
        most = min(1.0, best + (1 - seen.low), 1 - best + seen.high)
        within = least - ACCURACY_TOLERANCE <= profiled[mode] <= most + ACCURACY_TOLERANCE
        return Between(least, most, within if seen.scores >= LOOK_EVERY else None)

    def _look(self, model: str, mode: str) -> None:
        seen = estimate(self._seen[model, mode])
        left = self._between(model, mode, seen)
        if left.holds:
            self._told.discard((model, mode))
        elif (model, mode) not in self._told:
            self._told.add((model, mode))
            log.warning(
                "model %s in mode %s agrees with its most accurate mode in %.3f of %d answers (95%% interval "
                "%.3f to %.3f), which leaves it an accuracy of %.3f to %.3f; its profile says %.3f. Measure it "
                "anew on samples like these: mosel profile %s --exhaustive",
                *(model, mode, seen.mean, seen.scores, seen.low, seen.high, left.least, left.most),
                *(self._profiled[model][mode], model),
            )
