"""What a batch function is called with and must return, whatever the framework; the seam under `runner.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import WrongOutputError
from mosel.models.base import BYTES, BatchFunction, Tensor
from mosel.models.datatypes import as_bytes
from mosel.runtime.padding import assemble

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a batch gave: outputs by name, each of shape (batch, …), and how long it took.

    An output may share memory with an input that the model handed through: read it before reusing the input.
    """

    outputs: dict[str, Array]
    took_ns: int


@dataclass(frozen=True, slots=True)
class Call:
    """A batch function with what it takes and declares, and the words that name it in errors."""

    function: BatchFunction
    tensors: Sequence[Tensor]
    outputs: tuple[Tensor, ...]
    where: str

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model's outputs by declared name, in whatever form the framework has them.

        Raises:
            WrongOutputError: one of them is missing.
        """
        found = self.function(**arguments)
        if not isinstance(found, Mapping):
            if len(self.outputs) > 1:
                names = ", ".join(tensor.name for tensor in self.outputs)
                raise WrongOutputError(
                    f"{self.where}: returned one {type(found).__name__}; expected a mapping with {names}"
                )
            found = {self.outputs[0].name: found}
        for tensor in self.outputs:
            if tensor.name not in found:
                given = ", ".join(map(str, found))
                raise WrongOutputError(f"{self.where}: output {tensor.name!r} is missing among {given}")
        return {tensor.name: found[tensor.name] for tensor in self.outputs}


class Backend(Protocol):
    """How a framework runs a batch on one device."""

    @property
    def device(self) -> str:
        """The device as the framework calls it, handed to the model's `load`."""

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return a loaded function as it should be called."""

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]]) -> Ran:
        """Run a batch and time it; raises whatever the model raises."""

    def recover(self) -> None:
        """Give back what a failed batch may have left behind."""


class NumpyBackend:
    """Plain functions on arrays: nothing to load, nothing to copy to."""

    device = "cpu"

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function itself."""
        return function

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]]) -> Ran:
        """Run a batch and time it by the monotonic clock."""
        started_ns = monotonic_ns()
        found = call(assemble(call.tensors, inputs))
        outputs = {tensor.name: _as_declared(found[tensor.name], tensor, call.where) for tensor in call.outputs}
        return Ran(outputs, monotonic_ns() - started_ns)

    def recover(self) -> None:
        """Nothing is held between batches."""


def shape_problem(tensor: Tensor, array: Array | None, requests: int) -> str:
    """Return what is wrong with an array that should be `tensor` of so many requests; empty if nothing is."""
    expected = f"expected {tensor.datatype} of shape {(requests, *tensor.shape)}"
    if array is None:
        return f"{tensor.name!r} missing; {expected}"
    if array.dtype != tensor.dtype:
        return f"{tensor.name!r} of type {array.dtype}; {expected}"
    sizes = array.shape[1:]
    fits = len(sizes) == len(tensor.shape) and all(
        declared in (-1, size) for declared, size in zip(tensor.shape, sizes, strict=True)
    )
    if not fits or len(array) != requests:
        return f"{tensor.name!r} of shape {array.shape}; {expected}"
    variable = [size for declared, size in zip(tensor.shape, sizes, strict=True) if declared == -1]
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
