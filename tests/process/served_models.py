"""Models that workers in the tests serve: one does what its input says, some cannot start."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.tables import Device, Mode, Profile
from mosel.models.base import Modality, Model, Tensor

RAISE, DIE, HANG, QUIT, LEAVE, CORRUPT = 1013.0, 1666.0, 1099.0, 1077.0, 1055.0, -1.0
"""What a request asks for by its number: the model raises, the process is killed, never answers, exits …"""

PRECISION = "float32"


def checked(arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Refuse a number that stands for corrupt data."""
    if (arrays["raw"] == CORRUPT).any():
        raise ValueError("not decodable")
    return {"number": arrays["raw"]}


def obey(**tensors: NDArray[Any]) -> NDArray[Any]:
    """Return twice the number of each request, or do what it asks for."""
    number = np.sum(list(tensors.values()), axis=0)
    time.sleep(0.002)
    if (number == DIE).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (number == QUIT).any():
        sys.stderr.write("the last words\n")
        os._exit(3)
    if (number == LEAVE).any():
        raise SystemExit("I had enough")
    if (number == HANG).any():
        time.sleep(600)
    if (number == RAISE).any():
        raise ValueError("unlucky number")
    doubled: NDArray[Any] = number * 2
    return doubled


def unloadable(_device: str, _precision: str) -> Any:
    """Fail to load."""
    raise OSError("weights are missing")


def deadly(_device: str, _precision: str) -> Any:
    """End the process."""
    sys.stderr.write("out of cheese\n")
    os._exit(4)


def _model(name: str, load: Any = lambda _device, _precision: obey) -> Model:
    one = (1,)
    return Model(
        name=name,
        modalities=(
            Modality("checked", (Tensor("raw", "FP32", one),), checked, (Tensor("number", "FP32", one),)),
            Modality("plain", (Tensor("plain", "FP32", one),)),
        ),
        outputs=(Tensor("doubled", "FP32", one),),
        load=load,
        framework="numpy",
        max_batch=4,
    )


obedient = _model("obedient")
mirror = Model(
    name="obedient",
    modalities=(Modality("plain", (Tensor("plain", "FP32", (-1,), (1 << 20,)),)),),
    outputs=(Tensor("doubled", "FP32", (-1,)),),
    load=lambda _device, _precision: obey,
    framework="numpy",
)
"""Like `obedient`, of any length."""

not_loading = _model("not_loading", unloadable)
dying = _model("dying", deadly)


def profile(model: Model) -> Profile:
    """Return 𝒟 of one of these models: 3 ms for a batch of any size."""
    sizes = (1, 2, 4)
    latency_s = [0.003] * len(sizes)
    accuracy = {("checked",): 0.7, ("plain",): 0.8, ("checked", "plain"): 0.9}
    modes = tuple(
        Mode(names, accuracy[names], accuracy[names], 100, latency_s, latency_s, [0] * len(sizes))
        for names in model.combinations()
    )
    return Profile(
        format="mosel.profile/1",
        model=model.name,
        modalities=model.modality_names,
        metric="accuracy",
        batch_sizes=sizes,
        modes=modes,
        device=Device("chosen", "host"),
        precision=PRECISION,
        software={},
        measured_at="2026-01-01T00:00:00Z",
    )
