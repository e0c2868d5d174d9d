"""𝒟 → 𝒫: the exact strategies of every job size and accuracy SLO (§4.2, §5.1).

A cascade is a mode like any other here, with the latency that it takes in the mean.

The mathematics stands in `solve/cover.py`; online, the scheduler builds the same frontiers from estimates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.arrays import accuracies, latency_table, resumptions
from mosel.core.clock import to_s
from mosel.core.tables import PLAN_FORMAT, Plan, PlanPoint, Profile, ProfileFile
from mosel.solve.cover import Frontier, frontiers
from mosel.solve.escalation import expected_ns


def plan(source: ProfileFile) -> Plan:
    """Return 𝒫 for a profile: per job size (and length bucket) the whole Pareto frontier."""
    profile = source.profile
    found: dict[str, tuple[PlanPoint, ...]] = {}
    table, accuracy, names = _columns(profile)
    for bucket in range(profile.buckets):
        per_size = frontiers(table[:, bucket], accuracy, profile.batch_sizes[-1])
        for size, frontier in enumerate(per_size[1:], start=1):
            if len(frontier):
                key = f"{size}@{bucket}" if profile.length_buckets else str(size)
                found[key] = _points(frontier, size, names)
    return Plan(PLAN_FORMAT, profile.model, source.sha256, found)


def _columns(profile: Profile) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[str, ...]]:
    """Latencies, accuracies and names of modes, then cascades."""
    table, accuracy, modes = latency_table(profile), accuracies(profile), profile.mode_names
    resumed = resumptions(profile)
    for cascade in profile.cascades:
        first, last = (modes.index(name) for name in cascade.stages)
        again = resumed.get(cascade.stages, table[last])
        rows = [expected_ns(table[first, b], again[b], cascade.escalated) for b in range(profile.buckets)]
        table = np.concatenate([table, np.array([rows], np.int64)])
        accuracy = np.append(accuracy, cascade.accuracy)
    return table, accuracy, (*modes, *(cascade.name for cascade in profile.cascades))


def _points(frontier: Frontier, size: int, names: Sequence[str]) -> tuple[PlanPoint, ...]:
    return tuple(
        PlanPoint(
            float(frontier.accuracy[index]) / size,
            to_s(int(frontier.latency_ns[index])),
            tuple((names[mode], count) for mode, count in frontier.batches[index]),
        )
        for index in range(len(frontier))
    )
