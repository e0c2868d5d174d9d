"""Which worker is slower or faster than others with the same profiles, and by how much.

What all of them have in common is the estimator's; a pace is what is left: seen over expected latency, in steps
so that workers of about the same pace share their tables. A worker that keeps to the estimates has step 0; one
is believed to have left its step when its batches say so beyond doubt: four batches are enough where they all
took twice as long, while noise alone moves nobody.
"""

import math
from collections import deque

STEPS_PER_OCTAVE = 2
MOST_STEPS = 8
"""Up to 16 times as slow or fast."""

WINDOW = 24
FEWEST = 4
BEYOND = 0.35
"""By how many octaves its batches have to differ from its step; steps lie 0.5 apart."""

DOUBT = 4.0
"""By how many standard errors as well."""


class Pace:
    """How one worker's batches compare with what is expected of all of its kind."""

    __slots__ = ("_octaves", "step")

    def __init__(self) -> None:
        self.step = 0
        self._octaves: deque[float] = deque(maxlen=WINDOW)

    def observe(self, ratio: float) -> bool:
        """Take in seen over expected latency of a batch, at step 0; whether the step is another now."""
        self._octaves.append(math.log2(ratio))
        away = sum(self._octaves) / len(self._octaves) - self.step / STEPS_PER_OCTAVE
        if len(self._octaves) < FEWEST or abs(away) < BEYOND or abs(away) < DOUBT * self._error(away):
            return False
        moved = round((away + self.step / STEPS_PER_OCTAVE) * STEPS_PER_OCTAVE)
        before, self.step = self.step, max(-MOST_STEPS, min(MOST_STEPS, moved))
        self._octaves.clear()
        return self.step != before

    def _error(self, away: float) -> float:
        """The standard error of the mean."""
        count, mean = len(self._octaves), away + self.step / STEPS_PER_OCTAVE
        variance = sum((octave - mean) ** 2 for octave in self._octaves) / (count - 1)
        return math.sqrt(variance / count)


def factor(step: int) -> float:
    """Return how many times as long as expected a worker at this step takes."""
    return float(2 ** (step / STEPS_PER_OCTAVE))
