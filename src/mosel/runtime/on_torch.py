"""How torch runs a batch on the CPU, without copies, and what it shares with a GPU. Imported only on use."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import WrongOutputError
from mosel.models.base import BYTES, BatchFunction, Tensor
from mosel.runtime.calls import Call, Ran, Staged
from mosel.runtime.on_host import bytes_output
from mosel.runtime.padding import assemble

Array = NDArray[Any]


class CpuBackend:
    """Torch on the CPU, on `threads` threads. Tensors share the arrays' memory."""

    device = "cpu"
    copies_ahead = False

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function with dropout and its like switched off."""
        return for_inference(function)

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Run a batch and time it by the monotonic clock."""
        assert staged is None, "nothing is copied ahead on a CPU"
        started_ns = monotonic_ns()
        with torch.inference_mode():
            batch = assemble(call.tensors, inputs)
            found = call({name: _shared(array) for name, array in batch.items()})
            outputs = {t.name: on_host(as_declared(found[t.name], t, call.where)) for t in call.outputs}
        return Ran(outputs, monotonic_ns() - started_ns)

    def stage(self, _tensors: Sequence[Tensor], _inputs: Mapping[str, Sequence[Array]], /) -> Staged | None:
        """Do nothing: tensors are where they are computed on."""

    def settle(self, _call: Call, _inputs: Mapping[str, Sequence[Array]], /) -> bool:
        """Say that batches are launched: there is no other way."""
        return False

    def recover(self) -> None:
        """Nothing is held between batches."""


def for_inference(function: BatchFunction) -> BatchFunction:
    """Return the function with dropout and its like switched off."""
    return function.eval() if isinstance(function, torch.nn.Module) else function


def _shared(array: Array) -> torch.Tensor | Array:
    # Torch cannot hold read-only memory: only such an array is copied. BYTES stay as they are.
    if array.dtype.hasobject:
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def on_host(output: torch.Tensor | Array) -> Array:
    """Return an output that is on the host as an array, uncopied."""
    if isinstance(output, torch.Tensor):
        array: Array = output.numpy()
        return array
    return output


def as_declared(found: Any, tensor: Tensor, where: str) -> torch.Tensor | Array:
    """Return an output, floats in the precision that was declared.

    Raises:
        WrongOutputError: it is no tensor.
    """
    if tensor.datatype == BYTES:
        return bytes_output(found, tensor, where)
    if not isinstance(found, torch.Tensor):
        raise WrongOutputError(
            f"{where}: output {tensor.name!r} is a {type(found).__name__}; expected a torch.Tensor"
        )
    # A precision inside a model is its own affair: floats come back as the floats that were declared.
    declared: torch.dtype = getattr(torch, tensor.dtype)
    return found.to(declared) if found.is_floating_point() and declared.is_floating_point else found
