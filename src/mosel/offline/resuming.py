"""What the last stages of cascades take where the model keeps features of the first.

Each is timed in turn with the same stage run whole, and stands in 𝒟 as that part of what its mode takes: a
machine that is slower for a while changes neither.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mosel.core.tables import Mode
from mosel.models.base import Model
from mosel.offline.samples import Parts
from mosel.offline.sampling import coarse_grid, interpolate
from mosel.offline.settings import Column
from mosel.offline.timing import Bench

Stages = tuple[str, str]


def resumable(model: Model, columns: Mapping[str, Column], stages: Stages) -> bool:
    """Whether the last stage can take features of the first: at the same precision, if the model keeps some."""
    first, last = (columns[name] for name in stages)
    return first.precision == last.precision and bool(model.encoded(first.modalities))


def resumed_s(
    bench: Bench,
    model: Model,
    columns: Mapping[str, Column],
    modes: Mapping[str, Mode],
    wanted: Collection[Stages],
    repeats: int,
) -> dict[Stages, Any]:
    """Return what last stages take with features of the first, in the form of their modes' `latency_s`.

    Args:
        bench: where the model runs.
        model: the model.
        columns: by mode name.
        modes: by mode name.
        wanted: the stages, each by its modes' names; those that cannot be resumed are left out.
        repeats: timings of each batch size that is timed; the others are interpolated.
    """
    able = [stages for stages in dict.fromkeys(wanted) if resumable(model, columns, stages)]
    return {stages: _lists(bench, model, columns, modes[stages[1]], stages, repeats) for stages in able}


def scaled(rest_s: Any, before_s: Any, now_s: Any) -> Any:
    """Return what a resumed stage takes where its mode took `before_s` and takes `now_s`: the same part of it.

    None if there are other batch sizes now than before.
    """
    if isinstance(rest_s, list | tuple):
        if not len(rest_s) == len(before_s) == len(now_s):
            return None
        found = [scaled(*each) for each in zip(rest_s, before_s, now_s, strict=True)]
        return None if None in found else found
    return rest_s * now_s / before_s if before_s else now_s


def _lists(
    bench: Bench,
    model: Model,
    columns: Mapping[str, Column],
    mode: Mode,
    stages: Stages,
    repeats: int,
) -> Any:
    first, last = (columns[name] for name in stages)
    bucketed = bench.columns(last) != [last]
    rows = mode.latency_s if bucketed else [mode.latency_s]
    found = [
        _row(bench, model, first, column, row, repeats)
        for column, row in zip(bench.columns(last), rows, strict=True)
    ]
    return found if bucketed else found[0]


def _row(
    bench: Bench, model: Model, first: Column, last: Column, whole_s: Sequence[float], repeats: int
) -> list[float]:
    parts = {size: _part(bench, model, first, last, size, repeats) for size in coarse_grid(len(whole_s))}
    return [took_s * interpolate(parts, size) for size, took_s in enumerate(whole_s, start=1)]


def _part(bench: Bench, model: Model, first: Column, last: Column, size: int, repeats: int) -> float:
    """Return what part of the time of the whole stage a batch takes that has features; 1 at most."""
    whole_ns, rest_ns = [], []
    for _ in range(repeats):
        inputs = bench.draw(last, size)
        features = bench.run(first, _of(model, first.modalities, inputs), keep=True).features
        known = model.encoded(first.modalities)
        left = _of(model, [name for name in last.modalities if name not in known], inputs)
        left |= {name: [array[at : at + 1] for at in range(size)] for name, array in features.items()}
        rest_ns.append(bench.run(last, left, known=known).took_ns)
        whole_ns.append(bench.run(last, inputs).took_ns)
    return min(1.0, float(np.median(rest_ns) / np.median(whole_ns)))


def _of(model: Model, modalities: Sequence[str], inputs: Parts) -> Parts:
    names = [tensor.name for name in modalities for tensor in model.modality(name).model_inputs]
    return {name: inputs[name] for name in names}
