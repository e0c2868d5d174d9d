"""How torch runs a batch on a GPU. Imported only on use.

A batch is laid out in page-locked memory and copied on a stream of its own: the next one's copies run while
this one computes. What a batch takes is counted by the host's clock, from the first of its copies, unless
another batch hid them (`Staged.count`), to when its outputs are on the host.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.models.base import BatchFunction, Tensor
from mosel.runtime.calls import Call, Ran, Staged
from mosel.runtime.on_torch import as_declared, for_inference, on_host
from mosel.runtime.padding import assemble
from mosel.runtime.replays import Batch, Recording, Replays

WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels and take their workspaces."""

CLOSE = 0.02
"""By how much a recording's outputs may differ from the launched ones', relative to the largest of those."""

MOST_FILLING = 2.0
"""A batch runs in a recording if that computes at most so many times as many inputs as the batch has."""

Array = NDArray[Any]


class CudaBackend:
    """Torch on one CUDA device."""

    copies_ahead = True

    def __init__(self, device: str) -> None:
        self.device = device if ":" in device else f"{device}:0"
        self._device = torch.device(self.device)
        self._copying = _stream(self._device)
        self._replays = Replays(CudaRecorder(self._device))

    def ready(self, function: BatchFunction) -> BatchFunction:
        """Return the function with dropout and its like switched off."""
        return for_inference(function)

    def stage(self, tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]]) -> Staged:
        """Lay a batch out and begin to copy it; in any thread."""
        with torch.cuda.device(self._device), torch.inference_mode():
            started_ns = monotonic_ns()
            batch = _assembled(tensors, inputs)
            with torch.cuda.stream(self._copying):
                moved = {name: self._moved(array) for name, array in batch.items()}
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record(self._copying)
            return Staged(moved, started_ns, arrived)

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Run a batch; returns when the outputs are on the host."""
        with torch.cuda.device(self._device), torch.inference_mode():
            staged = staged or self.stage(call.tensors, inputs)
            found = self._replays.run(call, _arrived(staged))
            outputs = {t.name: _copied_out(as_declared(found[t.name], t, call.where)) for t in call.outputs}
            torch.cuda.current_stream().synchronize()
            took_ns = monotonic_ns() - staged.began_ns
        return Ran({name: on_host(each) for name, each in outputs.items()}, took_ns)

    def settle(self, call: Call, inputs: Mapping[str, Sequence[Array]]) -> bool:
        """Find out whether such batches are quicker launched or replayed; return whether they are replayed."""
        with torch.cuda.device(self._device), torch.inference_mode():
            return self._replays.settle(call, _arrived(self.stage(call.tensors, inputs)))

    def recover(self) -> None:
        """Give cached blocks back, so that one batch too large does not starve the next.

        Raises:
            RuntimeError: the device's context is lost, as by an access out of bounds; only a new process helps.
        """
        _recover(self._device)

    def _moved(self, array: torch.Tensor | Array) -> torch.Tensor | Array:
        if not isinstance(array, torch.Tensor):
            return array  # BYTES stay on the host
        # Page-locked memory may be freed as soon as its copy is queued: torch's host allocator hands it out
        # again only after the stream has passed the copy.
        return array.to(self._device, non_blocking=True)


class CudaRecorder:
    """Records what a model does with a batch as a CUDA graph.

    All recordings share one pool for what they compute in between: no two of them run at once, and outputs are
    copied out before the next one runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._rooms = Rooms()

    def record(self, call: Call, batch: Batch) -> Recording:
        """Record the call on inputs of the largest shape that the model takes.

        Raises:
            ValueError: an input or an output is not on the device.
            Exception: whatever the model raises, and what CUDA says of work that cannot be recorded.
        """
        held = self._rooms.of(call.tensors, batch)
        held.lay(batch)
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                call(held.tensors)
        here.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            found = call(held.tensors)
        if not all(isinstance(each, torch.Tensor) and each.is_cuda for each in found.values()):
            raise ValueError("it returns outputs that are not on the device")
        return CudaRecording(graph, held, found)

    def took_ns(self, work: Callable[[], object]) -> int:
        """Do the work; return how long it takes until the device has nothing left to do."""
        torch.cuda.synchronize(self._device)
        started_ns = monotonic_ns()
        work()
        torch.cuda.synchronize(self._device)
        return monotonic_ns() - started_ns

    def agree(self, one: Batch, other: Batch) -> bool:
        """Say whether floats are the same but for rounding; whole numbers may turn on that rounding."""
        return all(_close(one[name], other[name]) for name in one if one[name].is_floating_point())

    def recover(self) -> None:
        """Give cached blocks back."""
        _recover(self._device)


class CudaRecording:
    """A CUDA graph with the tensors that it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, held: "Room", outputs: dict[str, Any]) -> None:
        self._graph, self._held, self._outputs = graph, held, outputs

    def holds(self, batch: Batch) -> bool:
        """Say whether filling the batch up does not cost more than launching it would."""
        return self._held.filling(batch) <= MOST_FILLING

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Lay the batch in and replay the graph."""
        self._held.lay(batch)
        self._graph.replay()
        return dict(self._outputs)


class Rooms:
    """Memory on the device that recordings of all modes and batch sizes read their inputs from."""

    def __init__(self) -> None:
        self._largest: dict[tuple[object, ...], torch.Tensor] = {}

    def of(self, tensors: Sequence[Tensor], batch: Batch) -> "Room":
        """Return room for batches of as many requests as this one has, each of the largest shape.

        Raises:
            ValueError: an input is of BYTES.
        """
        declared = {tensor.name: tensor for tensor in tensors}
        places, pads = {}, {}
        for name, given in batch.items():
            if not isinstance(given, torch.Tensor):
                raise ValueError(f"{name} is of BYTES, which stay on the host")
            shape = declared[name].largest_shape if name in declared else given.shape[1:]
            places[name] = self._place(name, given, (len(given), *shape))
            pads[name] = declared[name].pad if name in declared else 0
        return Room(places, pads)

    def _place(self, name: str, like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        key = name, shape[1:], like.dtype, like.device
        if key not in self._largest or len(self._largest[key]) < shape[0]:
            self._largest[key] = like.new_empty(shape)  # recordings made before keep what they have
        return self._largest[key][: shape[0]]


class Room:
    """The tensors that one recording reads, and what fills shorter requests up."""

    def __init__(self, tensors: dict[str, torch.Tensor], pads: dict[str, float]) -> None:
        self.tensors, self._pads = tensors, pads

    def lay(self, batch: Batch) -> None:
        """Copy a batch in, filled up to the shape that was recorded."""
        for name, place in self.tensors.items():
            given = batch[name]
            if place.shape != given.shape:
                place.fill_(self._pads[name])
            place[tuple(map(slice, given.shape))].copy_(given)

    def filling(self, batch: Batch) -> float:
        """Return how many times as many inputs the recording computes as the batch has."""
        given: int = sum(batch[name].numel() for name in self.tensors)
        return sum(map(torch.Tensor.numel, self.tensors.values())) / given


def _assembled(
    tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]]
) -> dict[str, torch.Tensor | Array]:
    """Return the batch in page-locked memory; lengths, which are few, and BYTES stay where they are."""
    locked: dict[int, torch.Tensor] = {}

    def empty(shape: tuple[int, ...], dtype: str) -> Array:
        tensor = torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=True)
        array: Array = tensor.numpy()
        locked[id(array)] = tensor
        return array

    batch = assemble(tensors, inputs, empty)
    return {
        name: array if array.dtype.hasobject else locked.get(id(array), torch.from_numpy(array))
        for name, array in batch.items()
    }


def _arrived(staged: Staged) -> dict[str, Any]:
    """Return the batch, which the current stream waits for and keeps from being freed under it."""
    here = torch.cuda.current_stream()
    here.wait_event(staged.arrived)
    batch = staged.take()
    for tensor in batch.values():
        if isinstance(tensor, torch.Tensor):
            tensor.record_stream(here)
    return batch


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _copied_out(tensor: torch.Tensor | Array) -> torch.Tensor | Array:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return place.copy_(tensor, non_blocking=True)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    scale = float(one.nan_to_num().abs().max())
    return bool(torch.allclose(one, other, rtol=0.0, atol=CLOSE * scale, equal_nan=True))


def _recover(device: torch.device) -> None:
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
