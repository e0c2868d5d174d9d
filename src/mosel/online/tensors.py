"""The tensors of one live job: its inputs until it has its outcome, its outputs as batches bring them.

The scheduler never sees these; the engine moves them between clients and workers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import ExecutionError, InputError
from mosel.core.types import Job
from mosel.models.base import Model

Arrays = Mapping[str, NDArray[Any]]


class JobTensors:
    """Inputs and outputs of one job.

    Args:
        job: the job.
        model: what serves it.
        inputs: by tensor name, each of shape (requests, *shape), of the modalities that the job has.

    Raises:
        InputError: a tensor is missing, or does not have one row for each request.
    """

    __slots__ = ("_inputs", "_job", "_parts")

    def __init__(self, job: Job, model: Model, inputs: Arrays) -> None:
        for modality in job.modalities or model.modality_names:
            for tensor in model.modality(modality).inputs:
                found = inputs.get(tensor.name)
                if found is None or found.dtype != tensor.dtype or found.shape[:1] != (job.requests,):
                    given = "none" if found is None else f"{found.dtype} of shape {found.shape}"
                    raise InputError(
                        f"job {job.id!r}: tensor {tensor.name!r} is {given}; "
                        f"expected {tensor.dtype} of shape {(job.requests, *tensor.shape)}"
                    )
        self._job = job
        self._inputs = inputs
        self._parts: list[tuple[Sequence[int], dict[str, NDArray[Any]]]] = []

    def rows(self, name: str, requests: tuple[int, ...]) -> NDArray[Any]:
        """Return the rows of an input tensor that belong to these requests; a view where they are adjacent."""
        first, last = requests[0], requests[-1]
        if last - first + 1 == len(requests):  # they ascend
            return self._inputs[name][first : last + 1]
        return self._inputs[name][list(requests)]

    def keep(self, requests: Sequence[int], outputs: Arrays) -> None:
        """Copy the outputs of some requests; those of a request that runs again replace the earlier ones."""
        if outputs and requests:
            self._parts.append((requests, {name: array.copy() for name, array in outputs.items()}))

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return every output in the order of the requests; nothing if no batch returned anything.

        Raises:
            ExecutionError: batches returned outputs of different shapes, which do not fit in one tensor.
        """
        if len(self._parts) == 1 and list(self._parts[0][0]) == list(range(self._job.requests)):
            return self._parts[0][1]
        return {name: self._join(name) for name in (self._parts[0][1] if self._parts else ())}

    def _join(self, name: str) -> NDArray[Any]:
        first = self._parts[0][1][name]
        joined: NDArray[Any] = np.empty((self._job.requests, *first.shape[1:]), first.dtype)
        for requests, outputs in self._parts:
            part = outputs[name]
            if part.shape[1:] != first.shape[1:]:
                raise ExecutionError(
                    f"job {self._job.id!r}: output {name!r} came in shapes {first.shape[1:]} and "
                    f"{part.shape[1:]} from two batches; the model has to return one shape for every batch"
                )
            joined[list(requests)] = part
        return joined
