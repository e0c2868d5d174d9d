"""What jobs are charged at least for the workers' time: rules 1 to 3 and 5 of `bound.py`.

A cascade counts as a mode that costs its first stage alone.

Workers may be of several kinds, each with profiles of its own. Then time is weighed: a nanosecond of a worker
of kind k counts `weights[k]`, and a request is charged where that is least.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import UNAVAILABLE
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job
from mosel.evaluation.simulate import Conditions
from mosel.online.tables import ModelTable
from mosel.solve.cover import cheapest_batches, frontiers
from mosel.solve.mix import WHOLE_UP_TO, least_costs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Kinds = Sequence[Mapping[str, Profile]]
"""The profiles of each kind of worker, by model; a kind that lacks a model does not run it."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Jobs of one model, length bucket and set of modalities.

    Attributes:
        rows: of shape (jobs,), which of the workload's jobs they are.
        requests: of shape (jobs,).
        needed: of shape (jobs,), the least mean accuracy, less twice the tolerance, so that no rounding makes a
            job cost too much.
        slo_ns: of shape (jobs,), the latency SLO.
        latency_ns: of shape (kinds, modes, sizes + 1), over the modes that these jobs can run in.
        accuracy: of shape (modes,).
    """

    rows: Ints
    requests: Ints
    needed: Floats
    slo_ns: Ints
    latency_ns: Ints
    accuracy: Floats

    @property
    def longest_ns(self) -> int:
        """The longest batch of any mode on any kind of worker; 0 if there is none."""
        return int(np.max(self.latency_ns, initial=0, where=self.latency_ns < UNAVAILABLE))

    def speeds(self) -> Floats:
        """Return the mean logarithm of each kind's speed, over the batches that all kinds can run."""
        common = np.all((self.latency_ns < UNAVAILABLE) & (self.latency_ns > 0), axis=0)
        if not common.any():
            return np.zeros(len(self.latency_ns))
        found: Floats = -np.log(self.latency_ns[:, common]).mean(axis=1)
        relative: Floats = found - found.max()
        return relative

    def work(self, weights: Ints, time: Ints) -> Floats:
        """Return the least weighed work of each job, infinite where it cannot be served, of shape (jobs,).

        Args:
            weights: of shape (kinds,), from 1.
            time: of shape (jobs,), the workers' weighed time inside each job's window.
        """
        amortised = self._amortised(weights)
        return np.where(self._fits_alone(weights, time) & (amortised <= time), amortised, np.inf)

    def _amortised(self, weights: Ints) -> Floats:
        ends = np.unique(self.latency_ns[self.latency_ns < UNAVAILABLE])
        known = np.searchsorted(ends, self.slo_ns, side="right")
        levels, level = np.unique(known, return_inverse=True)
        units = np.array([self._units(ends[at - 1] if at else -1, weights) for at in levels])
        kinds, kind = np.unique(units, axis=0, return_inverse=True)
        kind = kind.ravel()[level]
        found = np.full(len(self.rows), np.inf)
        for index, unit in enumerate(kinds):
            own = np.flatnonzero(kind == index)
            found[own] = least_costs(unit, self.accuracy, self.requests[own], self.needed[own])
        return found

    def _units(self, most_ns: int, weights: Ints) -> Floats:
        """Return the least charge of a request in each mode, over the batches that take at most so long."""
        latency_ns = self.latency_ns[:, :, 1:]
        size = np.arange(1, latency_ns.shape[2] + 1)
        each = np.where(latency_ns <= most_ns, latency_ns / size, np.inf).min(axis=2)
        found: Floats = (each * weights[:, None]).min(axis=0)
        return found

    def _fits_alone(self, weights: Ints, time: Ints) -> Flags:
        """Whether each job, alone and in real batches, fits into the time inside its window (rule 5).

        A request may ride in a batch larger than its job; where that is quicker, it counts as the job's own.
        """
        weighed = np.minimum(self.latency_ns, UNAVAILABLE // weights.max()) * weights[:, None, None]
        weighed = np.where(self.latency_ns < UNAVAILABLE, weighed, UNAVAILABLE).min(axis=0)
        least = np.minimum.accumulate(weighed[:, ::-1], axis=1)[:, ::-1]
        most = min(int(self.requests.max()), WHOLE_UP_TO)
        found: Flags = self.requests > WHOLE_UP_TO
        for row, reached in zip(least, self.accuracy, strict=True):
            alone = cheapest_batches(np.ascontiguousarray(row), most)[0][np.minimum(self.requests, most)]
            found |= (reached >= self.needed) & (alone <= time)
        unsure = np.flatnonzero(~found)
        if len(unsure):
            points = frontiers(least, self.accuracy, int(self.requests[unsure].max()))
            for row in unsure:
                size = int(self.requests[row])
                at = int(np.searchsorted(points[size].accuracy, self.needed[row] * size))
                found[row] = bool(at < len(points[size]) and points[size].latency_ns[at] <= time[row])
        return found


def alike(kinds: Kinds, jobs: Sequence[Job], conditions: Conditions) -> list[Alike]:
    """Return the jobs in groups; those that no mode, kind or length bucket is for are in none.

    Raises:
        UsageError: profiles of one model differ in modalities or length buckets.
    """
    rows: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    models = {model: _Model.of(model, kinds, conditions) for model in {job.model for job in jobs}}
    for row, job in enumerate(jobs):
        table = models[job.model].table
        if (bucket := _bucket(table, job)) is not None:
            rows[job.model, bucket, table.mask_of(job.modalities)].append(row)
    found = []
    for (model, bucket, mask), own in rows.items():
        if group := _group(models[model], bucket, mask, np.array(own), [jobs[row] for row in own]):
            found.append(group)
    return found


@dataclass(frozen=True, slots=True)
class _Model:
    """One model on every kind of worker.

    Attributes:
        table: of one of the profiles, for modalities and length buckets.
        masks: of shape (modes,), the modalities of each mode as bits; cascades are modes like others here.
        accuracy: of shape (modes,), the highest where profiles differ.
        latency_ns: of shape (kinds, modes, buckets, sizes + 1).
    """

    table: ModelTable
    masks: Ints
    accuracy: Floats
    latency_ns: Ints

    @classmethod
    def of(cls, model: str, kinds: Kinds, conditions: Conditions) -> "_Model":
        tables = {kind: ModelTable(each[model]) for kind, each in enumerate(kinds) if model in each}
        first = next(iter(tables.values()))
        for table in tables.values():
            if (table.modalities, table.length_buckets) != (first.modalities, first.length_buckets):
                raise UsageError(
                    f"the profiles of model {model!r} differ in their modalities or length buckets; "
                    "expected profiles of one and the same model"
                )
        columns = {kind: [*table.modes, *(c.name for c in table.cascades)] for kind, table in tables.items()}
        names = list(dict.fromkeys(name for own in columns.values() for name in own))
        largest = max(table.largest for table in tables.values())
        buckets = first.profiled_ns.shape[1]
        latency_ns = np.full((len(kinds), len(names), buckets, largest + 1), UNAVAILABLE, np.int64)
        accuracy, masks = np.zeros(len(names)), np.zeros(len(names), np.int64)
        for kind, table in tables.items():
            at = [names.index(name) for name in columns[kind]]
            latency_ns[kind, at, :, : table.largest + 1] = _scaled(table, conditions)
            accuracy[at] = np.maximum(accuracy[at], table.column_accuracy)
            masks[at] = table.column_masks
        return cls(first, masks, accuracy, latency_ns)


def _scaled(table: ModelTable, conditions: Conditions) -> Ints:
    scale = [conditions.scale * conditions.mode_scale.get(mode, 1.0) for mode in table.modes]
    scaled = np.rint(table.profiled_ns * np.array(scale)[:, None, None])
    found: Ints = np.where(table.profiled_ns < UNAVAILABLE, scaled, UNAVAILABLE).astype(np.int64)
    # Whoever knew which requests are sure would run a cascade's first stage only.
    return np.concatenate([found, found[[cascade.first for cascade in table.cascades]]])


def _group(model: _Model, bucket: int, mask: int, rows: Ints, jobs: Sequence[Job]) -> Alike | None:
    usable = np.flatnonzero(model.masks & ~mask == 0)
    if not len(usable):
        return None
    return Alike(
        rows,
        np.array([job.requests for job in jobs], np.int64),
        np.array([job.accuracy_slo for job in jobs]) - 2 * ACCURACY_TOLERANCE,
        np.array([job.deadline_ns - job.arrival_ns for job in jobs], np.int64),
        model.latency_ns[:, usable, bucket],
        model.accuracy[usable],
    )


def _bucket(table: ModelTable, job: Job) -> int | None:
    try:
        return table.bucket_of(job.length)
    except ValueError:
        return None
