"""How much work the jobs without an outcome are, in seconds of one worker's time: the queue's bound.

A count of jobs says little where one job is a thousand requests and the next is one. What a job counts for is
what its requests cost at the least: in their best batch, in the cheapest mode that reaches its accuracy SLO by
itself, as the profile has it. Adding and taking away are O(1), and nothing waits for a decision: however long
the queue, a job over the bound is refused at once.
"""

from collections.abc import Iterable

import numpy as np

from mosel.core.arrays import UNAVAILABLE, accuracies, latency_table
from mosel.core.clock import to_ns, to_s
from mosel.core.errors import RefusedError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job

LONGEST_WAIT_S = 60.0
"""Nobody is told to come back later than that: by then much may have changed."""


class Backlog:
    """Work that was taken on and is not done.

    Args:
        profiles: of the models that are served.
        workers: how many share the work.
        limit_s: how much work a worker may have before it.

    Attributes:
        workers: as above; it may be changed.
    """

    def __init__(self, profiles: Iterable[Profile], workers: int, limit_s: float) -> None:
        self._units = {profile.model: _units(profile) for profile in profiles}
        self.workers = workers
        self._limit_s = limit_s
        self._work: dict[str, int] = {}
        self._total_ns = 0

    @property
    def seconds(self) -> float:
        """Work for each worker."""
        return to_s(self._total_ns) / self.workers

    def add(self, job: Job) -> None:
        """Take a job on.

        Raises:
            RefusedError: there is too much work already; it says when to try again.
        """
        if self.seconds >= self._limit_s:
            raise RefusedError(
                f"the server is overloaded: each worker has {self.seconds:.1f} s of work before it, and its "
                f"limit is {self._limit_s:g} s; try again later",
                min(self.seconds - self._limit_s / 2, LONGEST_WAIT_S),
            )
        self._work[job.id] = job.requests * self._unit_ns(job)
        self._total_ns += self._work[job.id]

    def remove(self, job: Job) -> None:
        """Let go of a job."""
        self._total_ns -= self._work.pop(job.id)

    def _unit_ns(self, job: Job) -> int:
        units = self._units[job.model]
        reaching = [unit for accuracy, unit in units if accuracy >= job.accuracy_slo - ACCURACY_TOLERANCE]
        return min(reaching) if reaching else max(unit for _, unit in units)


def _units(profile: Profile) -> tuple[tuple[float, int], ...]:
    """Return each mode's accuracy and what a request costs in its best batch, in the shortest bucket, in ns."""
    table = latency_table(profile)[:, 0]
    sizes = np.maximum(np.arange(table.shape[1]), 1)
    units = np.where(table < UNAVAILABLE, table / sizes, to_ns(3600.0)).min(axis=1)
    return tuple((float(a), max(1, int(unit))) for a, unit in zip(accuracies(profile), units, strict=True))
