"""How a batch of plain functions on arrays runs; and whether what a model returns is as it declares."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import WrongOutputError
from mosel.models.base import BYTES, BatchFunction, Tensor
from mosel.models.datatypes import as_bytes
from mosel.runtime.calls import Call, Ran, Staged
from mosel.runtime.padding import assemble

Array = NDArray[Any]


class NumpyBackend:
    """Plain functions on arrays: nothing to load, nothing to copy to."""

    device = "cpu"
    copies_ahead = False

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function itself."""
        return function

    def stage(self, _tensors: Sequence[Tensor], _inputs: Mapping[str, Sequence[Array]], /) -> Staged | None:
        """Do nothing: arrays are where they are computed on."""

    def settle(self, _call: Call, _inputs: Mapping[str, Sequence[Array]], /) -> bool:
        """Say that functions are called: there is no other way."""
        return False

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Run a batch and time it by the monotonic clock."""
        assert staged is None, "nothing is copied ahead on a host"
        started_ns = monotonic_ns()
        found = call(assemble(call.tensors, inputs))
        outputs = {tensor.name: _as_declared(found[tensor.name], tensor, call.where) for tensor in call.outputs}
        return Ran(outputs, monotonic_ns() - started_ns)

    def recover(self) -> None:
        """Nothing is held between batches."""


def shape_problem(tensor: Tensor, array: Array | None, requests: int) -> str:
    """Return what is wrong with an array that should be `tensor` of so many requests; empty if nothing is."""
    if array is None:
        return f"{tensor.name!r} missing; {_expected(tensor, requests)}"
    if array.dtype != tensor.dtype:
        return f"{tensor.name!r} of type {array.dtype}; {_expected(tensor, requests)}"
    if len(array) != requests or len(array.shape) != len(tensor.shape) + 1:
        return f"{tensor.name!r} of shape {array.shape}; {_expected(tensor, requests)}"
    variable = []
    for declared, size in zip(tensor.shape, array.shape[1:], strict=True):
        if declared == -1:
            variable.append(size)
        elif declared != size:
            return f"{tensor.name!r} of shape {array.shape}; {_expected(tensor, requests)}"
    if any(not 1 <= size <= limit for size, limit in zip(variable, tensor.limits, strict=False)):
        return f"{tensor.name!r} of shape {array.shape}; expected variable lengths of at most {tensor.limits}"
    return ""


def bytes_output(found: Any, tensor: Tensor, where: str) -> Array:
    """Return an output of BYTES, which a model gives as an array, or nested lists, of texts or `bytes`.

    Raises:
        WrongOutputError: it is something else.
    """
    try:
        return as_bytes(found)
    except (TypeError, ValueError) as error:
        raise WrongOutputError(f"{where}: output {tensor.name!r}: {error}") from error


def _as_declared(found: Any, tensor: Tensor, where: str) -> Array:
    if tensor.datatype == BYTES:
        return bytes_output(found, tensor, where)
    # A precision inside a model is its own affair: floats come back as the floats that were declared.
    array: Array = np.asarray(found)
    floats = array.dtype.kind == "f" and np.dtype(tensor.dtype).kind == "f"
    return array.astype(tensor.dtype, copy=False) if floats else array


def _expected(tensor: Tensor, requests: int) -> str:
    return f"expected {tensor.datatype} of shape {(requests, *tensor.shape)}"
