"""Which answers in cascades shadow runs compare, and what agreement says of a cascade's calibration.

Where a cascade's answer is right as often as its calibration says, r, and the most accurate mode's answer to
requests like it, b, both are right in r + b − 1 of them at least, and then agree. So they agree at least so
often, and where they do not the calibration no longer holds, although nobody told what was right.
"""

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from mosel.core.cascades import Cascade
from mosel.core.tables import Profile
from mosel.core.types import Batch
from mosel.frontend.feedback import KEPT_SCORES, LOOK_EVERY
from mosel.frontend.reliability import Judged, broken, expected, tell_broken, widest
from mosel.online.answers import Confidences

KEPT_JOBS = 4_096


class Followed:
    """How sure the model was of the requests of the last jobs, and which of them went on."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[int, Judged]] = {}

    def judged(self, batch: Batch, confidences: Confidences) -> None:
        """Take down a batch of a first stage."""
        for (job, request), confidence in confidences.items():
            self._jobs.setdefault(job, {})[request] = Judged(batch.mode, confidence, escalated=False)
        while len(self._jobs) > KEPT_JOBS:
            del self._jobs[next(iter(self._jobs))]

    def ran(self, batch: Batch, _took_ns: int) -> None:
        """Take down a batch that ran: what was judged before and is in it went on."""
        if batch.judged or not self._jobs:
            return
        for part in batch.parts:
            if (own := self._jobs.get(part.job)) is not None:
                own |= {r: own[r]._replace(escalated=True) for r in part.requests if r in own}

    def take(self, job: str) -> dict[int, Judged]:
        """Return what is known of a job's requests; nothing is held of it any more."""
        return self._jobs.pop(job, {})


class CascadeAgreement:
    """Takes in how far answers in cascades agree with the most accurate mode's, beside what was expected.

    Args:
        profiles: 𝒟 of each model that is served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._cascades = {
            (profile.model, first): (widest(profile, first), max(mode.accuracy for mode in profile.modes))
            for profile in profiles
            for first in dict.fromkeys(cascade.stages[0] for cascade in profile.cascades)
        }
        self._seen: dict[tuple[str, str], deque[tuple[float, float]]] = {}
        self._until_look = dict.fromkeys(self._cascades, LOOK_EVERY)
        self._told: set[tuple[str, str]] = set()

    def note(self, model: str, judged: Judged, agreement: float) -> None:
        """Take in how far an answer agrees, on 0..1; one of no known cascade, or confidence, is left out."""
        key = model, judged.first
        if key not in self._cascades or not math.isfinite(judged.confidence):
            return
        pairs = self._seen.setdefault(key, deque(maxlen=KEPT_SCORES))
        pairs.append((least(*self._cascades[key], judged), agreement))
        self._until_look[key] -= 1
        if not self._until_look[key]:
            self._until_look[key] = LOOK_EVERY
            tell_broken(key, pairs, self._told, "agree with the most accurate mode")

    def count(self, model: str, first: str) -> int:
        """Return how many pairs of answers are known of cascades that begin with a mode."""
        return len(self._seen.get((model, first), ()))

    def of_model(self, model: str) -> list[dict[str, object]]:
        """Return one entry a first stage that was compared: agreement beside the least that was expected."""
        return [
            {
                "mode": first,
                "shadows": len(pairs),
                "agreement": math.fsum(seen for _, seen in pairs) / len(pairs),
                "least": math.fsum(one for one, _ in pairs) / len(pairs),
                "holds": None if len(pairs) < LOOK_EVERY else not broken(pairs),
            }
            for (of, first), pairs in sorted(self._seen.items())
            if of == model
        ]


def least(cascade: Cascade, best: float, judged: Judged) -> float:
    """Return how often at least such an answer agrees with the most accurate mode's, of accuracy `best`."""
    after = np.array(cascade.calibration, np.float64)[:, 2]
    if judged.confidence < cascade.threshold:
        right = expected(cascade, judged._replace(escalated=True))
    else:
        sure = (best - cascade.escalated * float(after.mean())) / (1 - cascade.escalated)
        right = min(1.0, max(0.0, sure))
    return max(0.0, expected(cascade, judged) + right - 1)
