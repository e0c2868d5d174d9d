"""What modes, mixes of modes and cascades cost beside all modalities, and what selection can gain at most."""

from collections.abc import Sequence

import numpy as np

from mosel.core.tables import Profile
from mosel.online.tables import ModelTable

Point = tuple[str, float, float]
"""A name, the mean cost of a request as a part of the full mode's, and the accuracy."""

SLOS = 41
"""Accuracy SLOs from the lowest to the highest mode, at equal distances, that stand for uniform ones."""


def points(profile: Profile) -> tuple[list[Point], list[Point]]:
    """Return the modes and the cascades of a profile."""
    table = ModelTable(profile)
    bucket = table.bucket_of(None)
    unit = np.array([table.unit_ns(column, bucket) for column in range(len(table.column_accuracy))])
    part = (unit / _full_ns(profile)).tolist()
    names = [*table.modes, *(column.name for column in table.cascades)]
    found = list(zip(names, part, table.column_accuracy.tolist(), strict=True))
    return found[: len(table.modes)], found[len(table.modes) :]


def cheapest_mix(modes: Sequence[Point], accuracy: float) -> float:
    """Return the least mean cost of at most two modes that reach an accuracy in the mean."""
    costs = [cost for _, cost, reached in modes if reached >= accuracy]
    for _, cheap, less in modes:
        for _, dear, more in modes:
            if less < accuracy < more and cheap < dear:
                costs.append(cheap + (dear - cheap) * (accuracy - less) / (more - less))
    return min(costs)


def gain_of_selection(whole: Profile, selected: Profile) -> float:
    """Return how many times fewer seconds requests take if each is as cheap as its accuracy SLO lets it be.

    Costs are those of best batches, SLOs uniform from the lowest to the highest mode of `selected` (§7.1).

    Args:
        whole: its full mode is the measure.
        selected: from its modes, cascades and mixes of them is selected.
    """
    modes, cascades = points(selected)
    reached = [accuracy for _, _, accuracy in modes]
    slos = np.linspace(min(reached), max(reached), SLOS).tolist()
    mean = float(np.mean([cheapest_mix([*modes, *cascades], min(slo, max(reached))) for slo in slos]))
    return _full_ns(whole) / (_full_ns(selected) * mean)


def _full_ns(profile: Profile) -> float:
    """A request's share of the full mode's best batch."""
    table = ModelTable(profile)
    return table.unit_ns(table.full_mode(table.every_mask, 0.0, 1), table.bucket_of(None))
