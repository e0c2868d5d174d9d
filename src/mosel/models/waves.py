"""What every waveform or clip has to be before anything is made of it. The modality is named by who calls."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_rate(given: NDArray[Any], expected: int) -> None:
    """Check the rates that requests state, in samples or frames a second.

    Raises:
        ValueError: one is another.
    """
    wrong = given[given != expected]
    if wrong.size:
        raise ValueError(f"a rate of {wrong[0]} a second; expected {expected}: resample before sending")


def check_wave(waves: NDArray[np.floating[Any]]) -> None:
    """Check that waveforms, the first dimension being requests, hold numbers from −1 to 1.

    Raises:
        ValueError: naming the first request that does not.
    """
    loudest = np.abs(waves).max(axis=tuple(range(1, waves.ndim)))
    wrong = np.flatnonzero(~(loudest <= 1))  # NaN compares to nothing
    if wrong.size:
        raise ValueError(
            f"request {wrong[0]} reaches {loudest[wrong[0]]:g}; expected numbers from -1 to 1: "
            "divide 16-bit samples by 32768"
        )


def until_zeros(values: NDArray[Any], request: int) -> NDArray[Any]:
    """Return the values up to the last along the first axis that is not all zero.

    Zeros at the end fill a request up to the longest of its job, and count as nothing.

    Raises:
        ValueError: there is nothing else; the request's number is told.
    """
    there = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
    if not there.size:
        raise ValueError(f"request {request} holds nothing but zeros; leave this modality out")
    return values[: there[-1] + 1]
