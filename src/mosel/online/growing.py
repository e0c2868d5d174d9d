"""A column that grows at its end, and is read as an array without a copy of what stood there before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Growing:
    """Values of one type, in the order in which they were added; adding costs what is added, on average."""

    __slots__ = ("_room", "_size")

    def __init__(self, dtype: type[np.generic]) -> None:
        self._room: NDArray[Any] = np.empty(64, dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: Sequence[float]) -> None:
        """Add values at the end; arrays read before keep what they showed."""
        size = self._size + len(values)
        if size > len(self._room):
            room = np.empty(max(size, 2 * len(self._room)), self._room.dtype)
            room[: self._size] = self.values
            self._room = room
        self._room[self._size : size] = values
        self._size = size

    def at(self, index: int) -> Any:
        """Return one value as a plain number."""
        return self._room.item(index)

    @property
    def values(self) -> NDArray[Any]:
        """All values, of shape (len(self),); contiguous, and not to be written to."""
        return self._room[: self._size]
