"""How far two answers of a model to the same requests are the same. Importing it does not import numpy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


def same_class(outputs: "Arrays", others: "Arrays") -> "NDArray[np.float64]":
    """Return 1.0 for each request whose first outputs are largest at the same class, else 0.0; (batch,)."""
    one, other = (next(iter(each.values())).argmax(axis=-1) for each in (outputs, others))
    same: NDArray[np.float64] = (one == other).astype("float64")
    return same
