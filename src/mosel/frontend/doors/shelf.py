"""The quotas of a server of several groups: one small file of buckets, which all groups map into memory.

A group that takes from a bucket locks the file for these microseconds; the lock of one that dies goes with it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mosel.frontend.quotas import SAVED_S, Bucket


class SharedShelf:
    """The buckets: `quotas.Shelf`. It is a context manager, which lets go of the file.

    Args:
        path: of the file, as `write_shelf` made it.
    """

    def __init__(self, path: Path) -> None:
        self._lock = path.open("rb")
        self._rows = np.memmap(path, _ROW, "r+")

    def __enter__(self) -> "SharedShelf":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @contextmanager
    def one(self, bucket: Bucket) -> Iterator[None]:
        """Let nobody else have this bucket inside the block, and let it be as the last one left it."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            left, at_ns = self._rows[bucket.row].item()
            bucket.left, bucket.at_ns = left, at_ns
            yield
        finally:
            self._rows[bucket.row] = bucket.left, bucket.at_ns
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def write_shelf(path: Path, rates: list[float]) -> None:
    """Write full buckets, one at least, since a file cannot be mapped that is empty."""
    np.array([(rate * SAVED_S, 0) for rate in rates] or [(0.0, 0)], _ROW).tofile(path)


_ROW = np.dtype([("left", "f8"), ("at_ns", "i8")])
