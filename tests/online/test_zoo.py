"""The zoo's small models as a worker runs them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.base import Model, Samples
from mosel.models.registry import find
from mosel.online.execution import Execution
from mosel.online.tasks import Task
from mosel.online.wire import ServedMode, Start, WorkerModel

MODELS = {"tvlt-small": "audio", "vilt-small": "image", "selfmm-small": "video"}
"""Each with the modality that the tests spoil."""

Tensors = Mapping[str, Sequence[NDArray[Any]]]


class Untouched(Mapping[str, Sequence[NDArray[Any]]]):
    """The tensors of a batch, in which those of one modality must not be asked for."""

    def __init__(self, tensors: Tensors, forbidden: set[str]) -> None:
        self._tensors, self._forbidden = tensors, forbidden

    def __getitem__(self, name: str) -> Sequence[NDArray[Any]]:
        assert name not in self._forbidden, f"{name} was touched"
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def served(name: str) -> tuple[Model, Samples, Execution]:
    """Return a model, its samples, and what a worker has of it."""
    model = find(name)
    assert model.samples is not None
    modes = tuple(ServedMode(mode, "float32", (1, 2)) for mode in model.combinations())
    start = Start(0, "cpu", 1, (0,), (0,), (WorkerModel(name, name, modes),))
    return model, model.samples(), Execution(start)


def parts(model: Model, samples: Samples, indices: Sequence[int]) -> dict[str, list[NDArray[Any]]]:
    """Return jobs of one request each as they arrive, all modalities."""
    return {
        tensor.name: [np.asarray(samples.inputs[modality.name][tensor.name][index])[None] for index in indices]
        for modality in model.modalities
        for tensor in modality.inputs
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_modality_that_is_not_chosen_is_never_touched(name: str) -> None:
    """In every mode a worker asks for the tensors of that mode's modalities alone, and answers each job."""
    model, samples, execution = served(name)
    for mode in model.combinations():
        others = {t.name for m in model.modalities if m.name not in mode for t in m.inputs}
        tensors = Untouched(parts(model, samples, [0, 1]), others)
        result = execution.run(execution.prepare(Task(name, mode, "float32", tensors)))
        assert result.failure is None
        assert result.outputs is not None
        assert [len(output) for output in result.outputs.values()] == [2]


@pytest.mark.parametrize("name", MODELS)
def test_a_corrupt_modality_takes_its_own_job_out_alone(name: str) -> None:
    """The other jobs of the batch are answered; the corrupt one is named with its modality."""
    model, samples, execution = served(name)
    spoilt = model.modality(MODELS[name])
    tensors = parts(model, samples, [0, 1, 2])
    array = tensors[spoilt.inputs[0].name][1].copy()
    array[:] = 0
    tensors[spoilt.inputs[0].name][1] = array
    task = Task(name, model.modality_names, "float32", tensors)
    result = execution.run(execution.prepare(task))
    assert [(undone.part, undone.modality) for undone in result.undone] == [(1, spoilt.name)]
    assert f"modality {spoilt.name!r}" in result.undone[0].detail
    assert result.outputs is not None
    assert [len(output) for output in result.outputs.values()] == [2]
