"""How torch runs a batch: on the CPU without copies, on a GPU through page-locked memory. Imported only on use.

On a GPU the clock is a pair of CUDA events on the stream. The stream is idle when the first is recorded, so
that what lies between them includes the host's padding and joining, as it does on a CPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from mosel.core.clock import NS_PER_MS, monotonic_ns
from mosel.core.errors import WrongOutputError
from mosel.models.base import BYTES, BatchFunction, Tensor
from mosel.runtime.calls import Backend, Call, Ran, bytes_output
from mosel.runtime.device import describe
from mosel.runtime.padding import assemble

Array = NDArray[Any]


def backend(device: str, threads: int) -> Backend:
    """Return what runs batches on `device` (`cpu`, `cuda`, `cuda:1`).

    Raises:
        UsageError: there is no such device.
    """
    describe(device)
    return CpuBackend(threads) if device == "cpu" else CudaBackend(device)


class CpuBackend:
    """Torch on the CPU, on `threads` threads. Tensors share the arrays' memory."""

    device = "cpu"

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function with dropout and its like switched off."""
        return _for_inference(function)

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]]) -> Ran:
        """Run a batch and time it by the monotonic clock."""
        started_ns = monotonic_ns()
        with torch.inference_mode():
            batch = assemble(call.tensors, inputs)
            found = call({name: _shared(array) for name, array in batch.items()})
            outputs = {t.name: _on_host(_as_declared(found[t.name], t, call.where)) for t in call.outputs}
        return Ran(outputs, monotonic_ns() - started_ns)

    def recover(self) -> None:
        """Nothing is held between batches."""


class CudaBackend:
    """Torch on one CUDA device. Batches are laid out in page-locked memory and copied asynchronously."""

    def __init__(self, device: str) -> None:
        self.device = device if ":" in device else f"{device}:0"
        self._device = torch.device(self.device)

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function with dropout and its like switched off."""
        return _for_inference(function)

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]]) -> Ran:
        """Run a batch and time it by CUDA events; returns when the outputs are on the host."""
        with torch.cuda.device(self._device), torch.inference_mode():
            begin, end = _event(), _event()
            begin.record()
            found = call(self._copied_in(call.tensors, inputs))
            staged = {t.name: _copied_out(_as_declared(found[t.name], t, call.where)) for t in call.outputs}
            end.record()
            end.synchronize()
            took_ns = round(begin.elapsed_time(end) * NS_PER_MS)
        return Ran({name: _on_host(tensor) for name, tensor in staged.items()}, took_ns)

    def recover(self) -> None:
        """Give cached blocks back, so that one batch too large does not starve the next.

        Raises:
            RuntimeError: the device's context is lost, as by an access out of bounds; only a new process helps.
        """
        with torch.cuda.device(self._device):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def _copied_in(
        self, tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]]
    ) -> dict[str, torch.Tensor | Array]:
        # The staging tensors may be freed as soon as their copy is queued: torch's host allocator hands such
        # memory out again only after the stream has passed the copy.
        staging: dict[int, torch.Tensor] = {}

        def locked(shape: tuple[int, ...], dtype: str) -> Array:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=True)
            array: Array = tensor.numpy()
            staging[id(array)] = tensor
            return array

        batch = assemble(tensors, inputs, locked)
        return {
            name: array if array.dtype.hasobject else self._moved(staging.get(id(array), array))
            for name, array in batch.items()
        }

    def _moved(self, source: torch.Tensor | Array) -> torch.Tensor:
        tensor = source if isinstance(source, torch.Tensor) else torch.from_numpy(source)
        return tensor.to(self._device, non_blocking=True)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _for_inference(function: BatchFunction) -> BatchFunction:
    return function.eval() if isinstance(function, torch.nn.Module) else function


def _shared(array: Array) -> torch.Tensor | Array:
    # Torch cannot hold read-only memory: only such an array is copied. BYTES stay as they are.
    if array.dtype.hasobject:
        return array
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _on_host(output: torch.Tensor | Array) -> Array:
    if isinstance(output, torch.Tensor):
        array: Array = output.numpy()
        return array
    return output


def _as_declared(found: Any, tensor: Tensor, where: str) -> torch.Tensor | Array:
    if tensor.datatype == BYTES:
        return bytes_output(found, tensor, where)
    if not isinstance(found, torch.Tensor):
        raise WrongOutputError(
            f"{where}: output {tensor.name!r} is a {type(found).__name__}; expected a torch.Tensor"
        )
    # A precision inside a model is its own affair: floats come back as the floats that were declared.
    declared: torch.dtype = getattr(torch, tensor.dtype)
    return found.to(declared) if found.is_floating_point() and declared.is_floating_point else found


def _copied_out(tensor: torch.Tensor | Array) -> torch.Tensor | Array:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return place.copy_(tensor, non_blocking=True)
