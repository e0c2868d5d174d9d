"""From the parts of several jobs to one array per tensor: padded, concatenated, lengths beside it.

A part is an array of shape (requests, *shape). Nothing here knows a device; where the batch is laid out is the
caller's choice (`empty`), which lets a GPU have it in page-locked memory at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import BYTES, Model, Tensor

Array = NDArray[Any]
Empty = Callable[[tuple[int, ...], str], Array]


def assemble(
    tensors: Sequence[Tensor], inputs: Mapping[str, Sequence[Array]], empty: Empty | None = None
) -> dict[str, Array]:
    """Return by keyword what the model receives: each tensor of shape (batch, *shape) and its lengths if asked.

    Without `empty` a lone part that already has the right type is handed on as it is, uncopied. With it every
    batch but one of BYTES is laid out in an array that it returned for (shape, numpy type name).
    """
    batch: dict[str, Array] = {}
    for tensor in tensors:
        parts = inputs[tensor.name]
        batch[tensor.name] = join(tensor, parts, None if tensor.datatype == BYTES else empty)
        if tensor.lengths:
            batch[f"{tensor.name}_lengths"] = lengths(tensor, parts)
    return batch


def join(tensor: Tensor, parts: Sequence[Array], empty: Empty | None = None) -> Array:
    """Return the parts as one array, shorter ones filled up with `tensor.pad` to the longest."""
    if empty is None and len(parts) == 1 and parts[0].dtype == tensor.dtype:
        return np.ascontiguousarray(parts[0])
    shape = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    whole = (sum(len(part) for part in parts), *shape)
    batch = empty(whole, tensor.dtype) if empty else np.empty(whole, tensor.dtype)
    start = 0
    for part in parts:
        _lay(batch[start : start + len(part)], part, tensor.filler)
        start += len(part)
    return batch


def lengths(tensor: Tensor, parts: Sequence[Array]) -> NDArray[np.int64]:
    """Return each request's own length along the tensor's first variable dimension; shape (batch,)."""
    axis = 1 + tensor.variable_axis
    return np.repeat(np.asarray([part.shape[axis] for part in parts], np.int64), [len(part) for part in parts])


def blank(
    model: Model, modalities: Sequence[str], requests: int = 1, length: float | None = None
) -> dict[str, Array]:
    """Return inputs of the largest shape the model accepts (at this length), every value the tensor's `pad`.

    By tensor name, of shape (requests, *shape): what the model takes, after preprocessing.
    """
    return {
        tensor.name: np.full((requests, *tensor.at_length(length)), tensor.filler, tensor.dtype)
        for name in modalities
        for tensor in model.modality(name).model_inputs
    }


def repeated(tensor: Tensor, requests: Array, length: float) -> Array:
    """Return requests brought to this length, again from their start where they end before.

    Args:
        tensor: a tensor without a part in the length is left as it is.
        requests: of shape (requests, *shape).
        length: in the model's own unit.
    """
    if not tensor.per_length:
        return requests
    wanted = range(tensor.at_length(length)[tensor.variable_axis])
    return np.take(requests, wanted, axis=1 + tensor.variable_axis, mode="wrap")


def trimmed(tensor: Tensor, rows: Array, own: NDArray[np.int64]) -> Array:
    """Return rows of an output cut to the longest of them; `own` are their lengths, (requests,)."""
    longest = max(1, int(own.max()))
    return np.take(rows, range(min(longest, rows.shape[1 + tensor.variable_axis])), 1 + tensor.variable_axis)


def _lay(place: Array, part: Array, pad: float | bytes) -> None:
    if place.shape == part.shape:
        place[...] = part
        return
    place.fill(pad)
    place[tuple(slice(0, size) for size in part.shape)] = part
