"""The model of the conformance scenarios as workers run it: a batch takes what its profile says."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conformance import worlds

LATENCY_S = {
    name: dict(zip(worlds.profile().sizes_of(mode), mode.latency_s, strict=True))
    for name, mode in zip(worlds.profile().mode_names, worlds.profile().modes, strict=True)
}
NUMBER = {"wave": "audio", "frames": "video"}


def run(**tensors: NDArray[Any]) -> NDArray[Any]:
    """Take as long as the profile says and return each request's index in its job."""
    mode = "+".join(NUMBER[name] for name in NUMBER if name in tensors)
    first: NDArray[Any] = next(iter(tensors.values()))
    time.sleep(LATENCY_S[mode].get(len(first), 0.0))
    return np.ascontiguousarray(first[:, :1])


def loaded(_device: str, _precision: str) -> Any:
    """Load it."""
    return run


model = replace(worlds.model(), load=loaded)
