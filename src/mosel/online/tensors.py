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
from mosel.runtime.padding import join, trimmed

Arrays = Mapping[str, NDArray[Any]]


class Declared:
    """What one model's tensors are, found once for all of its jobs.

    Attributes:
        inputs: name and type of each, by modality.
        names: of all modalities, in the model's order.
        ragged: outputs with variable dimensions, by name.
    """

    __slots__ = ("inputs", "names", "ragged")

    def __init__(self, model: Model) -> None:
        self.names = model.modality_names
        self.inputs = {m.name: [(t, np.dtype(t.dtype)) for t in m.inputs] for m in model.modalities}
        self.ragged = {tensor.name: tensor for tensor in model.outputs if -1 in tensor.shape}


class JobTensors:
    """Inputs and outputs of one job.

    Args:
        job: the job.
        declared: what its model's tensors are.
        inputs: by tensor name, each of shape (requests, *shape), of the modalities that the job has.

    Raises:
        InputError: a tensor is missing, or does not have one row for each request.
    """

    __slots__ = ("_inputs", "_job", "_parts", "_ragged")

    def __init__(self, job: Job, declared: Declared, inputs: Arrays) -> None:
        for modality in job.modalities or declared.names:
            for tensor, dtype in declared.inputs[modality]:
                found = inputs.get(tensor.name)
                if found is None or found.dtype != dtype or not found.ndim or len(found) != job.requests:
                    given = "none" if found is None else f"{found.dtype} of shape {found.shape}"
                    raise InputError(
                        f"job {job.id!r}: tensor {tensor.name!r} is {given}; "
                        f"expected {tensor.dtype} of shape {(job.requests, *tensor.shape)}"
                    )
        self._job = job
        self._ragged = declared.ragged
        self._inputs = inputs
        self._parts: list[tuple[Sequence[int], dict[str, NDArray[Any]]]] = []

    def rows(self, name: str, requests: tuple[int, ...]) -> NDArray[Any]:
        """Return the rows of an input tensor that belong to these requests; a view where they are adjacent."""
        first, last = requests[0], requests[-1]
        if len(requests) == self._job.requests:
            return self._inputs[name]
        if last - first + 1 == len(requests):  # they ascend
            return self._inputs[name][first : last + 1]
        return self._inputs[name][list(requests)]

    def keep(self, requests: Sequence[int], outputs: Arrays) -> None:
        """Keep the outputs of some requests; those of a request that runs again replace the earlier ones.

        Of a ragged output, what only other jobs of the batch needed is left out.
        """
        if outputs and requests:
            self._parts.append((requests, {name: self._own(name, outputs) for name in outputs}))

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return every output in the order of the requests; nothing if no batch returned anything.

        Rows of an output with variable dimensions are filled up to the longest of the job.

        Raises:
            ExecutionError: batches returned outputs of different shapes, which do not fit in one tensor.
        """
        if len(self._parts) == 1 and list(self._parts[0][0]) == list(range(self._job.requests)):
            return self._parts[0][1]
        return {name: self._join(name) for name in (self._parts[0][1] if self._parts else ())}

    def _own(self, name: str, outputs: Arrays) -> NDArray[Any]:
        tensor = self._ragged.get(name)
        if tensor is None or not tensor.lengths:
            return outputs[name]
        return trimmed(tensor, outputs[name], outputs[f"{name}_lengths"])

    def _join(self, name: str) -> NDArray[Any]:
        parts = [outputs[name] for _, outputs in self._parts]
        rows = join(self._ragged[name], parts) if name in self._ragged else self._stacked(name, parts)
        joined = np.empty((self._job.requests, *rows.shape[1:]), rows.dtype)
        joined[[request for requests, _ in self._parts for request in requests]] = rows
        return joined

    def _stacked(self, name: str, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        first = parts[0].shape[1:]
        other = next((part.shape[1:] for part in parts if part.shape[1:] != first), first)
        if other != first:
            raise ExecutionError(
                f"job {self._job.id!r}: output {name!r} came in shapes {first} and {other} from two batches; "
                "declare its variable dimensions as -1, or return one shape for every batch"
            )
        return np.concatenate(parts)
