"""How the protocol's data types lie in memory and on the wire: little-endian, row by row.

All are numpy's but BF16, of which numpy knows nothing: it is the upper half of an FP32, so that each of its
numbers is one of FP32, and it is held as such. On the wire it takes two bytes.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.base import DATATYPES

BF16 = "BF16"
WIRE_DTYPES = {
    name: np.dtype("<u2") if name == BF16 else np.dtype(numpy_name).newbyteorder("<")
    for name, numpy_name in DATATYPES.items()
}
"""What a value of each takes on the wire."""


def to_wire(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Return `values` as they travel raw, contiguous; those of BF16 rounded to the nearest, ties to even."""
    array: NDArray[Any] = np.ascontiguousarray(values, np.dtype(DATATYPES[datatype]).newbyteorder("<"))
    return _rounded(array) if datatype == BF16 else array


def from_wire(raw: memoryview | bytes, datatype: str) -> NDArray[Any]:
    """Return raw bytes, a whole number of values, as a flat array; a view of them where that can be."""
    if datatype == "BOOL":
        truth: NDArray[Any] = np.frombuffer(raw, np.uint8) != 0  # any byte but 0; numpy would keep it as it is
        return truth
    array: NDArray[Any] = np.frombuffer(raw, WIRE_DTYPES[datatype])
    if datatype == BF16:
        widened: NDArray[Any] = (array.astype(np.uint32) << 16).view(np.float32)
        return widened
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def _rounded(array: NDArray[Any]) -> NDArray[Any]:
    bits = array.view("<u4")
    odd = (bits >> 16) & 1
    upper: NDArray[Any] = ((bits + 0x7FFF + odd) >> 16).astype("<u2")  # of a NaN it may leave 32 bits
    nan = np.isnan(array)
    upper[nan] = (bits[nan] >> 16) | 0x40  # a NaN stays one, whatever its lower half was
    return upper
