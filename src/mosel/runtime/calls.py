"""What a batch function is called with and must return, whatever the framework; the seam under `runner.py`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import WrongOutputError
from mosel.models.base import BYTES, BatchFunction, Tensor
from mosel.models.datatypes import as_bytes
from mosel.runtime.padding import assemble

Array = NDArray[Any]


class Ran(Struct, frozen=True):
    """What a batch gave: outputs by name, each of shape (batch, …), and how long it took.

    An output may share memory with an input that the model handed through: read it before reusing the input.
    `features` are those of the modalities that ran, where they were asked for.
    """

    outputs: dict[str, Array]
    took_ns: int
    features: Mapping[str, Array] = field(default_factory=dict)


class Staged:
    """A batch that is on its way to the device.

    Args:
        batch: what the model is called with, by keyword.
        began_ns: from when on what it takes is counted: when it began to be laid out, by the monotonic clock.
        arrived: what tells when it is there; the framework's own.
    """

    def __init__(self, batch: Mapping[str, Any], began_ns: int, arrived: Any) -> None:
        self.began_ns, self.arrived = began_ns, arrived
        self._batch = dict(batch)

    def count(self, free_ns: int, now_ns: int) -> None:
        """Count from now on if the device was busy until `free_ns`, and so hid the copies."""
        if self.began_ns < free_ns:
            self.began_ns = now_ns

    def take(self) -> dict[str, Any]:
        """Return the batch and hold it no longer, so that its memory is free once it has run."""
        batch, self._batch = self._batch, {}
        return batch


class Call(Struct, frozen=True):
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

    @property
    def copies_ahead(self) -> bool:
        """Whether a batch can be copied to the device while another one runs there."""

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return a loaded function as it should be called."""

    def stage(self, tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]], /) -> Staged | None:
        """Begin to copy a batch to the device, in any thread; None where nothing is copied ahead."""

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Run a batch, which may be `staged`, and time it; raises whatever the model raises."""

    def settle(self, call: Call, inputs: Mapping[str, Sequence[Array]], /) -> bool:
        """Find out which way of running such batches is the quickest; return whether they are replayed."""

    def recover(self) -> None:
        """Give back what a failed batch may have left behind."""


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
