"""Shared memory between the engine and one worker: anonymous files (`memfd`), one for each slot.

Why not `multiprocessing.shared_memory`: its blocks have names under `/dev/shm`, so they outlive a process that
is killed, want a tracker process to clean up after them, and share a file system that containers limit to
64 MB. An anonymous file has no name: the kernel frees it when the last process that holds it is gone, however
it went. The price is that this runs on Linux alone.

A slab has one writer at a time and knows nothing of batches; who may write when is agreed in `wire.py`.
"""

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mosel.models.datatypes import packed, unpacked
from mosel.online.tensor_layout import TensorLayout

ALIGNMENT = 64
"""Tensors start at multiples of this many bytes: a cache line, and what vector instructions like best."""

JOINED_BYTES = 64 << 10
"""Parts of small batches are joined before they are written: an array for each would cost more than that."""

PAGE_BYTES = mmap.PAGESIZE

OBJECT = np.dtype(object).str
"""The type of an array that holds BYTES."""


class Slab:
    """A growing piece of memory that two processes share through an inherited file descriptor.

    Args:
        handle: the file descriptor; the slab owns it from now on.
    """

    __slots__ = ("_handle", "_map")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls, label: str) -> "Slab":
        """Return a new, empty slab; `label` shows up in `/proc/PID/fd` and has no other meaning."""
        return cls(os.memfd_create(label, os.MFD_CLOEXEC))

    @property
    def handle(self) -> int:
        """The file descriptor, for a child process to inherit."""
        return self._handle

    @property
    def mapped_bytes(self) -> int:
        """How much of it this process has mapped."""
        return len(self._map) if self._map else 0

    def reserve(self, needed_bytes: int) -> None:
        """Make room for `needed_bytes`, growing the file where it is smaller. For the writer.

        Raises:
            OSError: there is not that much memory.
        """
        if needed_bytes <= self.mapped_bytes:
            return
        size = max(PAGE_BYTES, 1 << (needed_bytes - 1).bit_length())
        os.posix_fallocate(
            self._handle, 0, size
        )  # unlike ftruncate, it fails now rather than at the first write
        self._remap(size)

    def attach(self, size_bytes: int) -> None:
        """Map at least `size_bytes`, to which the writer has grown the file. For the reader."""
        if size_bytes > self.mapped_bytes:
            self._remap(size_bytes)

    def write(self, tensors: Mapping[str, Sequence[NDArray[Any]]]) -> tuple[TensorLayout, ...]:
        """Copy tensors in, each a sequence of parts, and return where they stand.

        Raises:
            OSError: there is not enough memory.
            TypeError: a tensor holds Python objects other than `bytes`.
        """
        raw = {name: _packed(name, parts) for name, parts in tensors.items() if parts[0].dtype.hasobject}
        layouts, needed_bytes = _lay_out(tensors, raw)
        self.reserve(needed_bytes)
        for layout in layouts:
            if layout.dtype == OBJECT:
                self._raw(layout)[...] = np.frombuffer(raw[layout.name], np.uint8)
                continue
            parts = tensors[layout.name]
            if needed_bytes > JOINED_BYTES or not all(part.flags.c_contiguous for part in parts):
                for target, part in zip(self.parts(layout), parts, strict=True):
                    target[...] = part
            elif self._map is not None:  # it is, unless there is nothing to write
                joined = b"".join([part.data for part in parts])
                self._map[layout.offset : layout.offset + len(joined)] = joined
        return layouts

    def parts(self, layout: TensorLayout) -> list[NDArray[Any]]:
        """Return one array for each part of a tensor, without copying; values of BYTES are copies."""
        if layout.dtype == OBJECT:
            return self._read_bytes(layout)
        dtype, offset, found = np.dtype(layout.dtype), layout.offset, []
        for shape in layout.shapes:
            array: NDArray[Any] = np.ndarray(shape, dtype, self._map, offset)
            found.append(array)
            offset += array.nbytes
        return found

    def read(self, layouts: Sequence[TensorLayout], *, joined: bool) -> dict[str, list[NDArray[Any]]]:
        """Return the parts of every tensor, as `parts` does.

        With `joined` all parts of a tensor come as one array, where that can be had of every tensor: parts that
        differ in length do not join.
        """
        if joined and all(len({shape[1:] for shape in layout.shapes}) == 1 for layout in layouts):
            layouts = [_joined(layout) for layout in layouts]
        return {layout.name: self.parts(layout) for layout in layouts}

    def close(self) -> None:
        """Give the memory back; arrays made from it stay readable until they are gone themselves."""
        self._map = None
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _raw(self, layout: TensorLayout) -> NDArray[np.uint8]:
        return np.ndarray(layout.size_bytes, np.uint8, self._map, layout.offset)

    def _read_bytes(self, layout: TensorLayout) -> list[NDArray[Any]]:
        values, start, found = unpacked(self._raw(layout).tobytes()), 0, []
        for shape in layout.shapes:
            count = math.prod(shape)
            found.append(values[start : start + count].reshape(shape))
            start += count
        return found

    def _remap(self, size_bytes: int) -> None:
        # The old mapping is not closed but let go: arrays that stand on it keep it alive, over the same pages.
        self._map = mmap.mmap(self._handle, size_bytes)


def _packed(name: str, parts: Sequence[NDArray[Any]]) -> bytes:
    try:
        return packed(parts)
    except TypeError as error:
        raise TypeError(f"tensor {name} holds Python objects: {error}") from error


def _lay_out(
    tensors: Mapping[str, Sequence[NDArray[Any]]], raw: Mapping[str, bytes]
) -> tuple[tuple[TensorLayout, ...], int]:
    layouts, offset = [], 0
    for name, parts in tensors.items():
        dtype = parts[0].dtype
        offset = -(-offset // ALIGNMENT) * ALIGNMENT
        size = len(raw.get(name, b""))
        layouts.append(TensorLayout(name, dtype.str, offset, tuple(part.shape for part in parts), size))
        offset += size if dtype.hasobject else sum(part.size for part in parts) * dtype.itemsize
    return tuple(layouts), offset


def _joined(layout: TensorLayout) -> TensorLayout:
    rows = sum(shape[0] for shape in layout.shapes)
    return msgspec.structs.replace(layout, shapes=((rows, *layout.shapes[0][1:]),))
