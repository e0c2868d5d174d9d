"""What the tests of the paper's models share: parameters counted, inputs prepared, outputs compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mosel.models.base import Model, Samples
from mosel.runtime.padding import assemble
from mosel.runtime.runner import prepare

Arrays = dict[str, NDArray[Any]]


def parameters(make: Callable[[], nn.Module]) -> int:
    """Return how many parameters a network has, without laying out any."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters())


def inputs(
    model: Model, samples: Samples, modalities: Sequence[str], chosen: Sequence[int]
) -> dict[str, Tensor]:
    """Return the batch function's keywords for these samples, prepared one by one and padded together."""
    tensors = [tensor for name in modalities for tensor in model.modality(name).model_inputs]
    parts: dict[str, list[NDArray[Any]]] = {tensor.name: [] for tensor in tensors}
    for index in chosen:
        for name in modalities:
            for tensor, array in prepare(model, name, request(samples, name, index)).items():
                parts[tensor].append(array)
    return {name: torch.from_numpy(array.copy()) for name, array in assemble(tensors, parts).items()}


def request(samples: Samples, modality: str, index: int) -> Arrays:
    """Return one modality of one sample as it arrives, with the dimension of requests."""
    return {name: np.asarray(values[index])[None] for name, values in samples.inputs[modality].items()}


def answers(function: Callable[..., Any], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch function's outputs by name; one alone is called `output`."""
    with torch.inference_mode():
        found = function(**given)
    return dict(found) if isinstance(found, Mapping) else {"output": found}
