"""Requests of a batch as rows of arrays that are split by part: picked, cut in halves, and joined again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import ModelFailedError
from mosel.runtime.runner import Ran

Arrays = Mapping[str, NDArray[Any]]


def rows_between(parts: Sequence[NDArray[Any]], start: int, stop: int) -> list[NDArray[Any]]:
    """Return the requests from `start` to before `stop`, counted over all parts."""
    found, before = [], 0
    for part in parts:
        rows = part[max(start - before, 0) : max(stop - before, 0)]
        if len(rows):
            found.append(rows)
        before += len(part)
    return found


def joined_runs(halves: Sequence[Ran]) -> Ran:
    """Return what a batch gave that was run in halves.

    Raises:
        ModelFailedError: the halves of an output do not fit together.
    """
    outputs = _one_of([half.outputs for half in halves])
    return Ran(outputs, sum(half.took_ns for half in halves), _one_of([half.features for half in halves]))


def _one_of(halves: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    whole = {}
    for name in halves[0]:
        arrays = [half[name] for half in halves]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise ModelFailedError(f"output {name!r} of a batch that was run in halves differs in length")
        whole[name] = np.concatenate(arrays)
    return whole


def picked(parts: Mapping[int, NDArray[Any]], only: Sequence[NDArray[np.bool_]]) -> list[NDArray[Any]]:
    """The parts; of each `only` these requests, if given, and no part of which that leaves nothing."""
    if not only:
        return list(parts.values())
    return [part[only[number]] for number, part in parts.items() if only[number].any()]


def copied_row(features: Arrays, row: int) -> dict[str, NDArray[Any]]:
    """One request's features, as arrays of their own."""
    return {name: array[row : row + 1].copy() for name, array in features.items()}
