"""Models whose latency and accuracy are chosen: the small real stand-in for a network.

They run through the same profiler, workers and server as any other model, and only their batch function is
made up: it waits as long as its mode and batch size say, and answers rightly as often as its mode's accuracy
says. `noop` measures what everything around a model costs, `toy` has two modalities worth choosing between,
and `brittle` fails on request. On the command line: `mosel.models.synthetic:toy`.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import ModelError
from mosel.core.types import mode_name
from mosel.models.base import BatchFunction, Modality, Model, Samples, Tensor

CLASSES = 10
LONGEST = 4096
DEADLY = -1e6
"""An input below this ends the process of a fragile model; one below zero raises."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one mode behaves: `latency_s[n - 1]` is what a batch of n takes; `accuracy` is its share of hits."""

    latency_s: tuple[float, ...]
    accuracy: float


def linear(fixed_s: float, each_s: float, accuracy: float, max_batch: int = 16) -> Behaviour:
    """Return the behaviour of a mode whose batch of n takes `fixed_s` + n × `each_s`."""
    return Behaviour(tuple(fixed_s + n * each_s for n in range(1, max_batch + 1)), accuracy)


def synthetic(
    name: str,
    modes: Mapping[str, Behaviour],
    *,
    samples: int = 1000,
    spin: bool = False,
    fragile: bool = False,
) -> Model:
    """Return a model that behaves as `modes` says, by mode name (`audio`, `audio+video`).

    Each modality is one FP32 tensor of its own name with 1 to `LONGEST` values: the first is the label, the
    second, 0 if absent, how hard the request is. A mode of accuracy a is right up to hardness a. The `samples`
    labelled samples are spread evenly over 0..1, so that a measured accuracy is the chosen one to 1 / samples.

    Args:
        name: the model's name.
        modes: by mode name; modalities stand in the order in which they first occur.
        samples: how many labelled samples there are.
        spin: whether waiting keeps the core busy, as a network does, instead of sleeping.
        fragile: whether an input below 0 raises ValueError and one below `DEADLY` ends the process at once.

    Raises:
        ModelError: no modes, batch limits that differ, an accuracy outside 0..1 or a negative latency.
    """
    problem = _problem(modes)
    if problem:
        raise ModelError(f"synthetic model {name!r}: {problem}")
    behaviours = {tuple(mode.split("+")): behaviour for mode, behaviour in modes.items()}
    names = tuple(dict.fromkeys(modality for combination in behaviours for modality in combination))
    by_mode = {_ordered(combination, names): behaviour for combination, behaviour in behaviours.items()}
    function = _Function(by_mode, names, spin, fragile)
    return Model(
        name=name,
        modalities=tuple(
            Modality(modality, (Tensor(modality, "FP32", (-1,), limits=(LONGEST,)),)) for modality in names
        ),
        outputs=(Tensor("scores", "FP32", (CLASSES,)),),
        load=function.load,
        samples=lambda: _samples(names, samples),
        allowed=lambda combination: combination in by_mode,
        framework="numpy",
        max_batch=len(next(iter(by_mode.values())).latency_s),
    )


@dataclass(frozen=True, slots=True)
class _Function:
    """The batch function: waits, then scores."""

    modes: Mapping[tuple[str, ...], Behaviour]
    names: tuple[str, ...]
    spin: bool
    fragile: bool

    def load(self, device: str, precision: str) -> BatchFunction:
        """Return the function itself; it needs no device."""
        if precision != "float32":
            raise ModelError(f"synthetic model on {device}: precision {precision!r}; expected float32")
        return self

    def __call__(self, **inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores, (batch, CLASSES), after this mode's latency at this batch size."""
        until_s = time.perf_counter()
        if self.fragile:
            _fail_if_asked(inputs)
        behaviour = self.modes[_ordered(tuple(inputs), self.names)]
        seen = next(iter(inputs.values()))
        until_s += behaviour.latency_s[len(seen) - 1]
        scores = _scores(seen, behaviour.accuracy)
        _wait(until_s, self.spin)
        return scores


def _ordered(combination: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in combination)


def _scores(seen: NDArray[np.float32], accuracy: float) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # whatever a client sends is some label
        labels = seen[:, 0].astype(np.int64)
    hardness = seen[:, 1] if seen.shape[1] > 1 else np.zeros(len(seen), np.float32)
    answers = (labels + (hardness >= accuracy)) % CLASSES
    return np.eye(CLASSES, dtype=np.float32)[answers]


def _fail_if_asked(inputs: Mapping[str, NDArray[np.float32]]) -> None:
    least = min(float(values.min()) for values in inputs.values())
    if least < DEADLY:
        os._exit(1)
    if least < 0:
        raise ValueError(f"{mode_name(inputs)}: an input is {least}; expected none below 0")


def _wait(until_s: float, spin: bool) -> None:
    if spin:
        while time.perf_counter() < until_s:
            pass
        return
    left_s = until_s - time.perf_counter()
    if left_s > 0:
        time.sleep(left_s)


def _samples(names: tuple[str, ...], count: int) -> Samples:
    labels = np.arange(count) % CLASSES
    hardness = np.random.default_rng(count).permutation((np.arange(count) + 0.5) / count)
    content = np.stack([labels, hardness], axis=1).astype(np.float32)
    inputs: dict[str, Mapping[str, NDArray[Any]]] = {name: {name: content} for name in names}
    return Samples(inputs, labels, f"{count} made-up samples of even hardness")


def _problem(modes: Mapping[str, Behaviour]) -> str | None:
    if not modes:
        return "no modes; expected at least one"
    limits = {len(behaviour.latency_s) for behaviour in modes.values()}
    if len(limits) > 1 or 0 in limits:
        return f"latencies for {sorted(limits)} batch sizes; expected as many for every mode, at least one"
    for mode, behaviour in modes.items():
        if not 0 <= behaviour.accuracy <= 1:
            return f"mode {mode}: accuracy {behaviour.accuracy}; expected 0 to 1"
        if not min(behaviour.latency_s) >= 0:
            return f"mode {mode}: a latency of {min(behaviour.latency_s)} s; expected seconds ≥ 0"
    return None


noop = synthetic("noop", {"x": linear(0.0, 0.0, 1.0)})
toy = synthetic(
    "toy",
    {
        "audio": linear(0.003, 0.001, 0.70),
        "video": linear(0.010, 0.010, 0.85),
        "audio+video": linear(0.012, 0.011, 0.95),
    },
)
brittle = synthetic("brittle", {"x": linear(0.001, 0.001, 1.0)}, fragile=True)
