"""How many workers there should be: as many as jobs like those of late will need when new workers are warm.

Two rates of work follow from the jobs that came and their profiles: at their cheapest, which is what deadlines
need, and at their most accurate. Accuracy gives way at once, hardware follows: while jobs are more than the
workers can run at their most accurate, the scheduler runs them in cheaper modes, and a worker is added. Where
even the cheapest would be too much, violations are predicted, and as many are added as it takes.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mosel.core.arrays import UNAVAILABLE, accuracies, latency_table
from mosel.core.clock import NS_PER_S
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job

NOISE = 2.0
"""A rate that rises by less than so many standard deviations of a Poisson process does not rise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When workers come and go.

    Attributes:
        least, most: how many there may be.
        room: which part of a worker's time may be planned with.
        window_ns: jobs so far back count.
        warm_ns: how long a new worker takes; the rate is expected to go on growing as it does for so long.
        patience_ns: a worker is removed when for so long one fewer would have done.
    """

    least: int
    most: int
    room: float = 0.8
    window_ns: int = 5 * NS_PER_S
    warm_ns: int = 5 * NS_PER_S
    patience_ns: int = 30 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Rates:
    """Work per time, in workers, when new ones are warm: at the jobs' cheapest and at their most accurate."""

    cheapest: float
    accurate: float


class Autoscaler:
    """Counts jobs and says how many workers there should be. As pure as a scheduler.

    Args:
        profiles: of the models that are served.
        rules: see `Rules`.
    """

    def __init__(self, profiles: Iterable[Profile], rules: Rules) -> None:
        self._rules = rules
        self._units = {profile.model: _units(profile) for profile in profiles}
        self._jobs: deque[tuple[int, float, float]] = deque()
        self._enough_ns: int | None = None

    def note(self, job: Job, now_ns: int) -> None:
        """Count a job that came."""
        units = self._units[job.model]
        reaching = [unit for accuracy, unit in units if accuracy >= job.accuracy_slo - ACCURACY_TOLERANCE]
        cheapest_ns = min(reaching) if reaching else max(unit for _, unit in units)
        accurate_ns = max(cheapest_ns, max(units)[1])
        self._jobs.append((now_ns, job.requests * cheapest_ns, job.requests * accurate_ns))

    def rates(self, now_ns: int) -> Rates:
        """Return the work that is expected."""
        window_ns = self._rules.window_ns
        while self._jobs and self._jobs[0][0] <= now_ns - window_ns:
            self._jobs.popleft()
        known_ns = max(1, min(window_ns, now_ns - self._jobs[0][0])) if self._jobs else window_ns
        known_ns = max(known_ns, window_ns // 5)  # a few jobs at once are no rate
        middle_ns = now_ns - known_ns / 2
        late = [job for job in self._jobs if job[0] > middle_ns]
        return Rates(*(self._expected(kind, late, known_ns) for kind in (1, 2)))

    def wanted(self, workers: int, now_ns: int) -> int:
        """Return how many workers there should be, of which there are so many now."""
        rules, rates = self._rules, self.rates(now_ns)
        needed = math.ceil(rates.cheapest / rules.room)
        good = max(needed, math.ceil(rates.accurate / rules.room))
        if good >= workers:
            self._enough_ns = None
            more = max(needed, workers + (good > workers))  # for accuracy one at a time
            return min(max(more, rules.least), rules.most)
        self._enough_ns = now_ns if self._enough_ns is None else self._enough_ns
        if now_ns - self._enough_ns < rules.patience_ns:
            return min(max(workers, rules.least), rules.most)
        self._enough_ns = now_ns
        return min(max(workers - 1, rules.least), rules.most)

    def _expected(self, kind: int, late: list[tuple[int, float, float]], known_ns: int) -> float:
        """The rate of one kind of work, less than which none is expected even if it falls."""
        every = sum(job[kind] for job in self._jobs) / known_ns
        recent = sum(job[kind] for job in late) / (known_ns / 2)
        noise = NOISE * recent / math.sqrt(max(len(late), 1))
        slope = (recent - every - noise) / (
            known_ns / 4
        )  # from the middle of the whole to that of its later half
        return max(every, recent - noise, recent + slope * min(self._rules.warm_ns, known_ns))


def _units(profile: Profile) -> tuple[tuple[float, float], ...]:
    """Return each mode's accuracy and what a request costs in its best batch, in nanoseconds."""
    table = latency_table(profile)[:, 0]
    sizes = np.maximum(np.arange(table.shape[1]), 1)
    units = np.where(table < UNAVAILABLE, table / sizes, np.inf).min(axis=1)
    return tuple((float(a), float(unit)) for a, unit in zip(accuracies(profile), units, strict=True))
