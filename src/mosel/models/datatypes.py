"""How the protocol's data types lie in memory and on the wire: little-endian, row by row.

All are numpy's but two. BF16, of which numpy knows nothing, is the upper half of an FP32, so that each of its
numbers is one of FP32, and it is held as such; on the wire it takes two bytes. BYTES is held as an array of
Python's `bytes`; on the wire each value has its length in front, in four bytes.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import BYTES, DATATYPES

BF16 = "BF16"
WIRE_DTYPES = {
    name: np.dtype("<u2") if name == BF16 else np.dtype(numpy_name).newbyteorder("<")
    for name, numpy_name in DATATYPES.items()
    if name != BYTES
}
"""What a value of each takes on the wire; one of BYTES takes what it takes."""

PREFIX_BYTES = 4
"""What says how long a value of BYTES is."""


def to_wire(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Return `values` as they travel raw, contiguous; those of BF16 rounded to the nearest, ties to even.

    BYTES come as the flat array of all that is sent.
    """
    if datatype == BYTES:
        return np.frombuffer(packed([values]), np.uint8)
    array: NDArray[Any] = np.ascontiguousarray(values, np.dtype(DATATYPES[datatype]).newbyteorder("<"))
    return _rounded(array) if datatype == BF16 else array


def from_wire(raw: memoryview | bytes, datatype: str) -> NDArray[Any]:
    """Return raw bytes, a whole number of values, as a flat array; a view of them where that can be.

    Raises:
        ValueError: they are no whole number of values.
    """
    if datatype == BYTES:
        return unpacked(raw)
    if datatype == "BOOL":
        truth: NDArray[Any] = np.frombuffer(raw, np.uint8) != 0  # any byte but 0; numpy would keep it as it is
        return truth
    array: NDArray[Any] = np.frombuffer(raw, WIRE_DTYPES[datatype])
    if datatype == BF16:
        widened: NDArray[Any] = (array.astype(np.uint32) << 16).view(np.float32)
        return widened
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def packed(parts: Sequence[NDArray[Any]]) -> bytes:
    """Return values of BYTES, of one array after the other, each with its length in front.

    Raises:
        TypeError: a value is not `bytes`.
    """
    pieces: list[bytes] = []
    for part in parts:
        for value in part.reshape(-1).tolist():
            if not isinstance(value, bytes):
                raise TypeError(f"a value of BYTES is {type(value).__name__}; expected bytes")
            pieces += len(value).to_bytes(PREFIX_BYTES, "little"), value
    return b"".join(pieces)


def unpacked(raw: memoryview | bytes) -> NDArray[Any]:
    """Return the values of BYTES that `raw` consists of, as a flat array; they are copies.

    Raises:
        ValueError: it ends within one.
    """
    values: list[bytes] = []
    start, end = 0, len(raw)
    while start < end:
        begin = start + PREFIX_BYTES
        start = begin + int.from_bytes(raw[start:begin], "little")
        if begin > end or start > end:
            raise ValueError(f"value {len(values)} of BYTES ends behind the last of {end} bytes")
        values.append(bytes(raw[begin:start]))
    return held(values)


def held(values: Sequence[bytes]) -> NDArray[Any]:
    """Return values of BYTES as a flat array."""
    array: NDArray[Any] = np.empty(len(values), object)
    array[:] = values
    return array


def as_bytes(found: Any) -> NDArray[Any]:
    """Return an array, or nested lists, of texts or `bytes` as an array of BYTES; texts become UTF-8.

    Raises:
        TypeError: a value is neither.
    """
    array: NDArray[Any] = np.asarray(found, object)
    values = [value.encode() if isinstance(value, str) else value for value in array.reshape(-1).tolist()]
    other = next((value for value in values if not isinstance(value, bytes)), None)
    if other is not None:
        raise TypeError(f"a value of BYTES is {type(other).__name__}; expected bytes or a text")
    return held(values).reshape(array.shape)


def _rounded(array: NDArray[Any]) -> NDArray[Any]:
    bits = array.view("<u4")
    odd = (bits >> 16) & 1
    upper: NDArray[Any] = ((bits + 0x7FFF + odd) >> 16).astype("<u2")  # of a NaN it may leave 32 bits
    nan = np.isnan(array)
    upper[nan] = (bits[nan] >> 16) | 0x40  # a NaN stays one, whatever its lower half was
    return upper
