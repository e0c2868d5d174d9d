"""Tensors as they travel, whatever the protocol: raw little-endian bytes, or lists of values."""

import contextvars
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import InputError
from mosel.models.base import BYTES, DATATYPES
from mosel.models.datatypes import PREFIX_BYTES, WIRE_DTYPES, from_wire, held

MOST_DIMENSIONS = 32

MOST_BYTES_VALUES = 1 << 16
"""Of BYTES in one call: each is an object of its own, made on the event loop."""


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


def check_counts(tensors: Iterable[Declared]) -> None:
    """Check that the tensors of BYTES in one call do not have too many values.

    Raises:
        InputError: they have.
    """
    count = sum([math.prod(tensor.shape) for tensor in tensors if tensor.datatype == BYTES])
    if count > MOST_BYTES_VALUES:
        raise InputError(
            f"the inputs have {count:,} values of BYTES; expected at most {MOST_BYTES_VALUES:,} in one call"
        )


def size_problem(tensor: Declared, size: int) -> str:
    """Return what is wrong with so many raw bytes for a tensor; empty if nothing is.

    Raises:
        InputError: there is no such data type.
    """
    _dtype_of(tensor)
    count = math.prod(tensor.shape)
    if tensor.datatype == BYTES:
        least = count * PREFIX_BYTES
        return f"takes {least} bytes at least" if size < least or (size and not count) else ""
    wanted = count * WIRE_DTYPES[tensor.datatype].itemsize
    return f"takes {wanted} bytes" if size != wanted else ""


def from_raw(tensor: Declared, raw: memoryview | bytes) -> NDArray[Any]:
    """Return raw bytes, which have no `size_problem`, as an array; a view of them, unless they are BYTES.

    Raises:
        InputError: there is no such data type, no such shape can be, or values of BYTES are not as many as it
            says.
    """
    _dtype_of(tensor)
    try:
        found = from_wire(raw, tensor.datatype)
    except ValueError as error:
        raise InputError(
            f"input {tensor.name!r}: {error}; expected four bytes of length before each"
        ) from error
    _check_count(tensor, found.size)
    return _shaped(found, tensor)


def from_texts(tensor: Declared, values: list[object]) -> NDArray[Any]:
    """Return texts, in lists nested however, as an array of BYTES: their UTF-8.

    Raises:
        InputError: one is no text, or they are too many or too few.
    """
    while any(isinstance(value, list) for value in values):
        if not all(isinstance(value, list) for value in values):
            raise InputError(
                f"input {tensor.name!r}: data nests lists unevenly; expected its values row by row"
            )
        values = list(itertools.chain.from_iterable(values))  # type: ignore[arg-type]
    _check_count(tensor, len(values))
    try:
        return _shaped(held([value.encode() for value in values]), tensor)  # type: ignore[attr-defined]
    except AttributeError as error:
        raise InputError(f"input {tensor.name!r}: data is no list of texts; expected BYTES") from error
    except UnicodeEncodeError as error:
        raise InputError(f"input {tensor.name!r}: a text is no Unicode: {error}") from error


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
    _check_count(tensor, array.size)
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(
                f"input {tensor.name!r}: data is out of range; expected {limits.min} to {limits.max}"
            )
    try:
        return _shaped(_STRICT.copy().run(array.astype, dtype), tensor)
    except FloatingPointError as error:
        raise InputError(f"input {tensor.name!r}: data is out of range of {tensor.datatype}") from error


def _check_count(tensor: Declared, count: int) -> None:
    wanted = math.prod(tensor.shape)
    if count != wanted:
        raise InputError(f"input {tensor.name!r}: data has {count} values; shape {tensor.shape} takes {wanted}")


def _shaped(array: NDArray[Any], tensor: Declared) -> NDArray[Any]:
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:  # a size of 0 beside others whose product is beyond any memory
        raise InputError(f"input {tensor.name!r}: shape {tensor.shape} cannot be: {error}") from error


def _dtype_of(tensor: Declared) -> np.dtype[Any]:
    found = _DTYPES.get(tensor.datatype)
    if found is None:
        raise InputError(
            f"input {tensor.name!r}: datatype {tensor.datatype!r}; expected one of {', '.join(DATATYPES)}"
        )
    return found


_STRICT = contextvars.copy_context()
"""What numpy raises on stands in a context: to run something in a copy costs a third of `np.errstate`."""
_STRICT.run(np.seterr, over="raise")

_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(held_as) for name, held_as in DATATYPES.items()}
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu", "O": "O"}
_WORDS = {"b": "true and false", "i": "whole numbers", "u": "whole numbers", "f": "numbers", "O": "bytes"}
