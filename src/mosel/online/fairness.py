"""Who is left behind: the on-time share of jobs by accuracy SLO, and what their worth is raised by.

Serving the most requests means serving the cheapest: under overload, jobs with high accuracy SLOs starve. Where
an aim is set, jobs of each model are told apart by the tercile of their accuracy SLO; as long as the on-time
share of a tercile stays below the aim × the mean over all, its jobs count for ever more. The shares fade, so
that it is the load of late that matters.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import UsageError
from mosel.core.types import Job

Floats = NDArray[np.float64]
TERCILES = 3

MEMORY = 1_000
"""How many requests the shares look back at."""

SLOS = 512
"""How many jobs of late the terciles are of."""

MARGIN = 1.15
"""By how much the aim is exceeded, as what is behind can only be caught up with."""

PULL = 0.02
"""By how much a request's worth grows, in logarithms, for a whole share that its tercile is behind."""

MOST = math.log(1_000)
"""The most that a job's worth is raised by, in logarithms."""


class Fairness:
    """On-time shares by tercile of the accuracy SLO.

    Args:
        aim: the least on-time share of a tercile, as a part of the mean over all; 0 lets worth alone decide.

    Raises:
        UsageError: the aim is not within 0 and 1.
    """

    def __init__(self, aim: float) -> None:
        if not 0 <= aim <= 1:
            raise UsageError(f"fairness {aim}; expected a number from 0 (off) to 1")
        self._aim = min(1.0, aim * MARGIN)
        self._models: dict[str, _Terciles] = {}

    @property
    def on(self) -> bool:
        """Whether any worth is raised at all."""
        return self._aim > 0

    def arrived(self, job: Job) -> None:
        """Note a job that was accepted."""
        if self.on:
            self._models.setdefault(job.model, _Terciles()).arrived(job.accuracy_slo)

    def decided(self, job: Job, *, on_time: bool) -> None:
        """Note the outcome of a job that was accepted."""
        if self.on:
            self._models[job.model].decided(job, on_time, self._aim)

    def raised(self, model: str, accuracy_slo: Floats) -> Floats:
        """Return the factor on the worth of jobs of a model, by their accuracy SLOs."""
        known = self._models.get(model)
        return np.ones(len(accuracy_slo)) if known is None else known.raised(accuracy_slo)


class _Terciles:
    """One model's jobs."""

    def __init__(self) -> None:
        self._slos = np.zeros(SLOS)
        self._count = 0
        self._edges = np.zeros(TERCILES - 1)
        self._asked = np.zeros(TERCILES)
        self._served = np.zeros(TERCILES)
        self._pulls = np.zeros(TERCILES)

    def arrived(self, accuracy_slo: float) -> None:
        self._slos[self._count % SLOS] = accuracy_slo
        self._count += 1
        if self._count % 16 == 0 or self._count < 16:
            seen = self._slos[: min(self._count, SLOS)]
            self._edges = np.quantile(seen, np.arange(1, TERCILES) / TERCILES)

    def decided(self, job: Job, on_time: bool, aim: float) -> None:
        tercile = int(np.searchsorted(self._edges, job.accuracy_slo))
        left = math.exp(-job.requests / MEMORY)
        self._asked *= left
        self._served *= left
        self._asked[tercile] += job.requests
        self._served[tercile] += job.requests * on_time
        mean = self._served.sum() / self._asked.sum()
        behind = aim * mean - self._served / np.maximum(self._asked, 1)
        self._pulls = np.clip(self._pulls + PULL * job.requests * behind * (self._asked > 0), 0, MOST)

    def raised(self, accuracy_slo: Floats) -> Floats:
        factors: Floats = np.exp(self._pulls)[np.searchsorted(self._edges, accuracy_slo)]
        return factors
