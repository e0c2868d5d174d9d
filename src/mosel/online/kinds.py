"""Kinds of workers: those with the same profiles and the same pace share tables, whatever their number.

A kind's tables hold what its workers take, so a worker that is found to be slower than others with the same
profiles moves to a kind of its own pace. How fast kinds are beside each other follows from what a request costs
each of them in its best batch.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import Batch, Job
from mosel.online import paces
from mosel.online.amortised import Amortised
from mosel.online.estimator import Estimator
from mosel.online.jobs import LiveJob, Progress
from mosel.online.tables import ModelTable

Floats = NDArray[np.float64]
Profiles = Mapping[str, Profile]


class Kind:
    """Workers with the same profiles and the same pace.

    Attributes:
        base: the number of the profiles, among the different ones.
        step: the pace, see `paces.py`.
        estimator: shared by all kinds with these profiles.
        tables: by model.
        amortised: what jobs cost its workers where batches are shared.
    """

    def __init__(
        self, base: int, step: int, profiles: Profiles, numbers: Mapping[str, int], shared: Estimator
    ) -> None:
        self.base = base
        self.step = step
        self.estimator = shared
        pace = paces.factor(step)
        self.tables = {name: ModelTable(found, pace, numbers[name]) for name, found in profiles.items()}
        self.amortised = Amortised(self.tables.values())
        self.follow(0)

    def follow(self, now_ns: int) -> set[ModelTable]:
        """Take over the estimates; returns the tables that moved."""
        moved = {table for table in self.tables.values() if table.follow(self.estimator, now_ns)}
        if moved:
            self.amortised.rebuild()
        return moved

    @property
    def is_behind(self) -> bool:
        """Whether there are estimates that wait to be taken over."""
        return any(table.is_behind(self.estimator) for table in self.tables.values())

    def limit(self, model: str, mode: str, bucket: int, size: int) -> set[ModelTable]:
        """Let batches of a mode be no larger than `size`; returns the tables that moved."""
        table = self.tables[model]
        if not table.limit(mode, bucket, size):
            return set()
        self.amortised.rebuild()
        return {table}

    def side(self, progress: Progress) -> LiveJob | None:
        """Return a job as these workers see it; None if they lack its model or its length is beyond them."""
        job = progress.job
        table = self.tables.get(job.model)
        if table is None or not table.takes(job.length):
            return None
        return LiveJob(progress, table, table.bucket_of(job.length))

    def forgive(self) -> None:
        """Let the estimator hold no miss against anyone that would not be made again."""
        self.estimator.forgive(lambda model, *what: self.tables[model].corrected_ns(*what))


class Kinds:
    """All kinds that there are, and which one each worker is of.

    Args:
        workers: the profiles of each worker, by model.
        known: of models that workers may be given later.

    Attributes:
        moved: whether a worker was ever given other profiles.

    Raises:
        UsageError: there is no worker, one has no profile, or two disagree about a model's modalities.
    """

    def __init__(self, workers: Sequence[Profiles], known: Profiles | None = None) -> None:
        self._profiles: list[Profiles] = []
        self._bases = [self._base(profiles, worker) for worker, profiles in enumerate(workers)]
        every = [known or {}, *self._profiles]
        self.models = {name: profile for profiles in every for name, profile in profiles.items()}
        _check(workers, self.models, self._profiles)
        self._numbers = {name: number for number, name in enumerate(self.models)}
        self._every_mask = {name: (1 << len(found.modalities)) - 1 for name, found in self.models.items()}
        self._estimators = [Estimator() for _ in self._profiles]
        self._followed: list[int] = []
        self._made: dict[tuple[int, int], Kind] = {}
        self._limits: list[dict[tuple[str, str, int], int]] = [{} for _ in self._profiles]
        self._paces = [paces.Pace() for _ in workers]
        self.moved = False
        self._count()
        self._speeds: dict[tuple[int, int, int, int], Floats] = {}
        for base in range(len(self._profiles)):
            self._kind(base, 0)

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._bases)

    @property
    def all(self) -> list[Kind]:
        """Every kind so far whose profiles a worker has, those at the common pace first in their order."""
        return [kind for kind in self._made.values() if self.has(kind)]

    def has(self, kind: Kind) -> bool:
        """Whether a worker has a kind's profiles."""
        return kind.base in self._used

    def assign(self, worker: int, profiles: Profiles) -> None:
        """Let a worker have other profiles.

        Raises:
            UsageError: there are none, one is of an unknown model, or has other modalities than its others.
        """
        for name, profile in profiles.items():
            if name not in self.models:
                known = ", ".join(self.models)
                raise UsageError(f"worker {worker} is given model {name!r}; expected some of {known}")
            _check([profiles], self.models, [{name: profile}])
        self._bases[worker] = base = self._base(profiles, worker)
        if base == len(self._estimators):
            self._estimators.append(Estimator())
            self._limits.append({})
        self._paces[worker] = paces.Pace()
        self.moved = True
        self._count()
        self._kind(base, 0)

    def of(self, worker: int) -> Kind:
        """Return a worker's kind."""
        return self._kind(self._bases[worker], self._paces[worker].step)

    def mask_of(self, job: Job) -> int:
        """Return the modalities that a job has as bits, in its model's order."""
        if not job.modalities:
            return self._every_mask[job.model]
        names = self.models[job.model].modalities
        return sum(1 << names.index(name) for name in job.modalities)

    def observe(self, batch: Batch, profiled_ns: int, took_ns: int, occupied_ns: int, now_ns: int) -> bool:
        """Take in a finished batch; whether its worker is of another kind now.

        A worker that is the only one with its profiles has no pace of its own: all is its estimator's.
        """
        base, pace, kind = self._bases[batch.worker], self._paces[batch.worker], self.of(batch.worker)
        model, mode, shared = batch.model, batch.mode, kind.estimator
        ratio = shared.ratio(model, mode)
        paced_ns = round(profiled_ns * paces.factor(pace.step))
        predicted_ns = max(batch.expected_ns, kind.tables[model].corrected_ns(mode, paced_ns))
        shared.observe(model, mode, paced_ns, took_ns, occupied_ns, predicted_ns, now_ns, batch.worker)
        if self._alone[base] or not profiled_ns or not pace.observe(max(took_ns, 1) / (profiled_ns * ratio)):
            return False
        shared.forget(batch.worker)
        return True

    def limit(self, batch: Batch, size: int) -> set[ModelTable]:
        """Let no more than `size` requests like those of a batch, which memory did not hold, run together.

        So it is from now on for all workers with these profiles. Returns the tables that moved.
        """
        base = self._bases[batch.worker]
        self._limits[base][batch.model, batch.mode, batch.bucket] = size
        kinds = [kind for kind in self._made.values() if kind.base == base]
        moved = set[ModelTable]().union(
            *(kind.limit(batch.model, batch.mode, batch.bucket, size) for kind in kinds)
        )
        if moved:
            self._speeds.clear()
        return moved

    def follow(self, now_ns: int) -> set[ModelTable]:
        """Let all tables follow the estimates; returns those that moved."""
        changes = [estimator.changes for estimator in self._estimators]
        if changes == self._followed:
            return set()
        moved = set[ModelTable]()
        for kind in self._made.values():
            if found := kind.follow(now_ns):
                moved |= found
                kind.forgive()
        if moved:
            self._speeds.clear()
        if not any(kind.is_behind for kind in self._made.values()):
            self._followed = changes
        return moved

    def starved(self, now_ns: int) -> None:
        """Note with every estimator that a job was given up although no worker has anything in hand."""
        for estimator in self._estimators:
            estimator.starved(now_ns)

    def speed(self, of: Kind, beside: Kind) -> Floats:
        """Return how much of `beside`'s work a worker of `of` does in the same time, by model number.

        It is 0 where either lacks the model, and the geometric mean over the modes that both have elsewhere.
        """
        key = (of.base, of.step, beside.base, beside.step)
        if key not in self._speeds:
            found = np.zeros(len(self._numbers))
            for name in of.tables.keys() & beside.tables.keys():
                found[self._numbers[name]] = _speed(of.tables[name], beside.tables[name])
            self._speeds[key] = found
        return self._speeds[key]

    def slowness(self, kind: Kind) -> float:
        """Return how many times as fast the fastest kind is, as a logarithm in the mean over models."""
        beside = [self.speed(other, kind) for other in self._made.values()]
        fastest = np.max(beside, axis=0)
        return round(float(np.log(fastest[fastest > 0]).mean()), 3)

    def _count(self) -> None:
        """Take over which profiles workers have, and which of these only one has."""
        self._used = set(self._bases)
        self._alone = [self._bases.count(base) == 1 for base in range(len(self._profiles))]

    def _base(self, profiles: Profiles, worker: int) -> int:
        if not profiles:
            raise UsageError(f"worker {worker} has no profile; give it one for each model that it runs")
        for base, known in enumerate(self._profiles):
            if known is profiles or dict(known) == dict(profiles):
                return base
        self._profiles.append(profiles)
        return len(self._profiles) - 1

    def _kind(self, base: int, step: int) -> Kind:
        if (base, step) not in self._made:
            made = Kind(base, step, self._profiles[base], self._numbers, self._estimators[base])
            for what, size in self._limits[base].items():
                made.limit(*what, size)
            self._made[base, step] = made
        return self._made[base, step]


def _check(workers: Sequence[Profiles], models: Profiles, different: Sequence[Profiles]) -> None:
    if not workers:
        raise UsageError("no workers; expected at least one")
    for profiles in different:
        for name, profile in profiles.items():
            if profile.modalities != models[name].modalities:
                raise UsageError(
                    f"model {name!r} has modalities {'+'.join(profile.modalities)} on one worker and "
                    f"{'+'.join(models[name].modalities)} on another; expected the same everywhere"
                )


def _speed(of: ModelTable, beside: ModelTable) -> float:
    logs = [
        math.log(beside.unit_ns(beside.modes.index(mode), bucket) / of.unit_ns(index, bucket))
        for index, mode in enumerate(of.modes)
        if mode in beside.modes
        for bucket in range(min(of.latency_ns.shape[1], beside.latency_ns.shape[1]))
    ]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0
