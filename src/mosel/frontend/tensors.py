"""Tensors as they travel, whatever the protocol: raw little-endian bytes, or lists of values."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import InputError
from mosel.models.base import DATATYPES
from mosel.models.datatypes import WIRE_DTYPES, from_wire

MOST_DIMENSIONS = 32


class Declared(Protocol):
    """What a client says of a tensor that it sends."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def datatype(self) -> str:
        """Its data type."""

    @property
    def shape(self) -> Sequence[int]:
        """Its sizes, none of them negative."""


def raw_size(tensor: Declared) -> int:
    """Return how many bytes the tensor takes.

    Raises:
        InputError: there is no such data type.
    """
    _dtype_of(tensor)
    return math.prod(tensor.shape) * WIRE_DTYPES[tensor.datatype].itemsize


def from_raw(tensor: Declared, raw: memoryview | bytes) -> NDArray[Any]:
    """Return a view of raw bytes, `raw_size` of them, as an array.

    Raises:
        InputError: there is no such data type, or no such shape can be.
    """
    _dtype_of(tensor)
    return _shaped(from_wire(raw, tensor.datatype), tensor)


def from_values(tensor: Declared, array: NDArray[Any]) -> NDArray[Any]:
    """Return values, of whatever type their list had, as an array of the declared type and shape.

    Raises:
        InputError: there is no such data type, or the values are too many, too few, or do not fit it.
    """
    dtype = _dtype_of(tensor)
    if array.dtype.kind not in _KINDS[dtype.kind] and array.size:
        raise InputError(
            f"input {tensor.name!r}: data is no list of {_WORDS[dtype.kind]}; expected {tensor.datatype}"
        )
    wanted = math.prod(tensor.shape)
    if array.size != wanted:
        raise InputError(
            f"input {tensor.name!r}: data has {array.size} values; shape {tensor.shape} takes {wanted}"
        )
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(
                f"input {tensor.name!r}: data is out of range; expected {limits.min} to {limits.max}"
            )
    try:
        with np.errstate(over="raise"):
            return _shaped(array.astype(dtype), tensor)
    except FloatingPointError as error:
        raise InputError(f"input {tensor.name!r}: data is out of range of {tensor.datatype}") from error


def _shaped(array: NDArray[Any], tensor: Declared) -> NDArray[Any]:
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:  # a size of 0 beside others whose product is beyond any memory
        raise InputError(f"input {tensor.name!r}: shape {tensor.shape} cannot be: {error}") from error


def _dtype_of(tensor: Declared) -> np.dtype[Any]:
    if tensor.datatype not in DATATYPES:
        raise InputError(
            f"input {tensor.name!r}: datatype {tensor.datatype!r}; expected one of {', '.join(DATATYPES)}"
        )
    return np.dtype(DATATYPES[tensor.datatype])


_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}
_WORDS = {"b": "true and false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}
