"""The labelled samples of a model, checked once, as parts that a runner takes.

Where a model has none, latencies are measured on blank inputs of the largest shape it accepts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns, to_s
from mosel.core.errors import ModelError
from mosel.models.base import BYTES, Modality, Model, Samples, Tensor
from mosel.offline.settings import Column
from mosel.runtime.on_host import shape_problem
from mosel.runtime.padding import blank, repeated
from mosel.runtime.runner import prepare

Array = NDArray[Any]
PREPARATIONS = 50
MOST_OF_A_BUCKET = 16
"""Requests that are kept prepared for each length bucket; long ones are large."""

Parts = dict[str, list[Array]]
"""By tensor name one array per part of a batch, each of shape (requests, *shape)."""


def load_samples(model: Model) -> Samples | None:
    """Return the model's labelled samples, checked; None if it has none to give.

    Raises:
        ModelError: the set is empty, its lengths differ, or an input is not what the model declares.
    """
    return None if model.samples is None else _loaded(model, model.samples)


def load_calibration(model: Model) -> Samples | None:
    """Return the labelled samples that cascades are chosen on, checked; None if the model has none.

    Raises:
        ModelError: as `load_samples`.
    """
    return None if model.calibration is None else _loaded(model, model.calibration)


def _loaded(model: Model, load: Callable[[], Samples]) -> Samples:
    try:
        samples = load()
    except Exception as error:
        raise ModelError(
            f"model {model.name!r}: its samples cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not len(samples):
        raise ModelError(
            f"model {model.name!r}: its set of labelled samples is empty; accuracy needs at least one"
        )
    for modality in model.modalities:
        _check_modality(model, modality, samples)
    return samples


def choose(samples: Samples, count: int | None, seed: int) -> NDArray[np.int64]:
    """Return the indices of `count` samples in ascending order, chosen by `seed`; all without a count."""
    every = np.arange(len(samples))
    if count is None or count >= len(every):
        return every
    return np.sort(np.random.default_rng(seed).choice(every, count, replace=False))


def prepared(model: Model, samples: Samples, modality: str, chosen: Sequence[int]) -> Parts:
    """Return one modality of the chosen samples as the model takes it: one part if all are of one shape."""
    given = samples.inputs[modality]
    if all(isinstance(values, np.ndarray) for values in given.values()):
        whole = {name: np.asarray(values)[np.asarray(chosen)] for name, values in given.items()}
        return {name: [array] for name, array in prepare(model, modality, whole).items()}
    parts: Parts = {}
    for index in chosen:
        for name, array in prepare(model, modality, _request(samples, model.modality(modality), index)).items():
            parts.setdefault(name, []).append(array)
    return parts


class Pool:
    """Prepared requests to draw batches for timing from, each a part of its own, as jobs of one request are.

    With length buckets every request is as long as its bucket allows, so that 𝒟 holds for all of them.
    """

    def __init__(self, model: Model, samples: Samples | None, size: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        lengths: dict[int | None, float | None] = dict(enumerate(model.length_buckets)) or {None: None}
        several = min(size, MOST_OF_A_BUCKET) if model.length_buckets else size
        self._requests = {
            (modality.name, bucket): _single_requests(model, modality.name, samples, several, seed, length)
            for modality in model.modalities
            for bucket, length in lengths.items()
        }

    def draw(self, column: Column, size: int) -> Parts:
        """Return a random batch of `size` requests of this column's modalities and length."""
        requests = [self._requests[name, column.bucket] for name in column.modalities]
        count = len(requests[0])
        drawn = self._rng.choice(count, size, replace=size > count)
        return {
            tensor: [of_modality[index][tensor] for index in drawn]
            for of_modality in requests
            for tensor in of_modality[0]
        }


def preparation_s(model: Model, samples: Samples | None, chosen: NDArray[np.int64]) -> dict[str, float]:
    """Return the median seconds that preprocessing one request takes, by modality that has any."""
    if samples is None:
        return {}
    found: dict[str, float] = {}
    for modality in model.modalities:
        if modality.preprocess is not None:
            took_ns = [_preparation_ns(model, modality.name, samples, i) for i in chosen[:PREPARATIONS]]
            found[modality.name] = to_s(round(float(np.median(took_ns))))
    return found


def _preparation_ns(model: Model, modality: str, samples: Samples, index: int) -> int:
    arrays = _request(samples, model.modality(modality), index)
    started_ns = monotonic_ns()
    prepare(model, modality, arrays)
    return monotonic_ns() - started_ns


def _request(samples: Samples, modality: Modality, index: int) -> dict[str, Array]:
    arrays = {t.name: _single(t, samples.inputs[modality.name][t.name][index]) for t in modality.inputs}
    for tensor in modality.inputs:
        problem = shape_problem(tensor, arrays[tensor.name], 1)
        if problem:
            raise ModelError(f"labelled sample {index}: input {problem}")
    return arrays


def _single(tensor: Tensor, value: Any) -> Array:
    array: Array = np.asarray(value, object) if tensor.datatype == BYTES else np.asarray(value)
    return array[None]


def _single_requests(
    model: Model, modality: str, samples: Samples | None, size: int, seed: int, length: float | None
) -> list[Mapping[str, Array]]:
    if samples is None:
        return [blank(model, (modality,), 1, length)]
    declared = model.modality(modality).inputs
    requests = [_request(samples, model.modality(modality), index) for index in choose(samples, size, seed)]
    if length is not None:
        requests = [{t.name: repeated(t, request[t.name], length) for t in declared} for request in requests]
    return [prepare(model, modality, request) for request in requests]


def _check_modality(model: Model, modality: Modality, samples: Samples) -> None:
    where = f"model {model.name!r}: labelled samples"
    given = samples.inputs.get(modality.name)
    if given is None:
        raise ModelError(f"{where} lack modality {modality.name!r}; they have {', '.join(samples.inputs)}")
    for tensor in modality.inputs:
        values = given.get(tensor.name)
        if values is None:
            raise ModelError(f"{where} lack tensor {tensor.name!r} of modality {modality.name!r}")
        if len(values) != len(samples):
            raise ModelError(
                f"{where}: {len(values)} inputs {tensor.name!r} and {len(samples)} labels; "
                "expected one label for each"
            )
        if not isinstance(values, (np.ndarray, list, tuple)):
            continue  # read when it is asked for, and checked then
        whole = [values] if isinstance(values, np.ndarray) else [_single(tensor, value) for value in values]
        for array in whole:
            problem = shape_problem(tensor, array, len(array))
            if problem:
                raise ModelError(f"{where}: input {problem}")
