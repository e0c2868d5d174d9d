"""𝒟 → 𝒫: the exact strategies of every job size and accuracy SLO (§4.2, §5.1).

The mathematics stands in `solve/cover.py`; online, the scheduler builds the same frontiers from estimates.
"""

from mosel.core.arrays import accuracies, latency_table
from mosel.core.clock import to_s
from mosel.core.tables import PLAN_FORMAT, Plan, PlanPoint, Profile, ProfileFile
from mosel.solve.cover import Frontier, frontiers


def plan(source: ProfileFile) -> Plan:
    """Return 𝒫 for a profile: per job size (and length bucket) the whole Pareto frontier."""
    profile = source.profile
    found: dict[str, tuple[PlanPoint, ...]] = {}
    table = latency_table(profile)
    for bucket in range(profile.buckets):
        per_size = frontiers(table[:, bucket], accuracies(profile), profile.batch_sizes[-1])
        for size, frontier in enumerate(per_size[1:], start=1):
            if len(frontier):
                key = f"{size}@{bucket}" if profile.length_buckets else str(size)
                found[key] = _points(frontier, size, profile)
    return Plan(PLAN_FORMAT, profile.model, source.sha256, found)


def _points(frontier: Frontier, size: int, profile: Profile) -> tuple[PlanPoint, ...]:
    names = profile.mode_names
    return tuple(
        PlanPoint(
            float(frontier.accuracy[index]) / size,
            to_s(int(frontier.latency_ns[index])),
            tuple((names[mode], count) for mode, count in frontier.batches[index]),
        )
        for index in range(len(frontier))
    )
