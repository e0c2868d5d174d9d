"""A small model whose accuracies are known, and a runner whose latencies are whatever a test wants."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel import Modality, Model, Samples, Tensor
from mosel.runtime.runner import ModelFailedError, Ran, Runner

CLASSES = 4
HIDDEN = Tensor("scores", "FP32", (CLASSES,))
Latency = Callable[[tuple[str, ...], int], float]


def samples(count: int = 40) -> Samples:
    """`ear` tells the class of three samples in four, `eye` of every other one; `eye` lists vary in length."""
    labels = np.arange(count) % CLASSES
    index = np.arange(count)
    ear = np.where(index % 4 == 0, (labels + 1) % CLASSES, labels)
    eye = np.where(index % 2 == 0, (labels + 1) % CLASSES, labels)
    return Samples(
        {
            "ear": {"ear": np.eye(CLASSES, dtype=np.float32)[ear]},
            "eye": {"eye": [np.full(1 + i % 5, value, np.int64) for i, value in enumerate(eye)]},
        },
        labels,
        "made up",
    )


def answer(
    ear: NDArray[Any] | None = None,
    eye: NDArray[Any] | None = None,
    eye_lengths: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """The ear is believed where it is there; the eye needs its lengths to be read."""
    if ear is not None:
        return ear.astype(np.float32)
    assert eye is not None
    assert eye_lengths is not None
    last = eye[np.arange(len(eye)), eye_lengths - 1]
    return np.asarray(np.eye(CLASSES, dtype=np.float32)[last])


def model(**changes: Any) -> Model:
    """The model; keyword arguments replace any part of its declaration."""
    given: dict[str, Any] = {
        "name": "senses",
        "modalities": (
            Modality("ear", (Tensor("ear", "FP32", (CLASSES,)),)),
            Modality("eye", (Tensor("eye", "INT64", (-1,), limits=(5,), pad=-1, lengths=True),)),
        ),
        "outputs": (HIDDEN,),
        "load": lambda *_: answer,
        "samples": samples,
        "framework": "numpy",
        "max_batch": 4,
    }
    return Model(**given | changes)


class ScriptedRunner:
    """A runner that runs the model for real and says it took what the script says, in seconds."""

    replays = False

    def __init__(self, real: Any, latency: Latency, ran: list[tuple[tuple[str, ...], int, int]]) -> None:
        self._real, self._latency, self._ran = real, latency, ran

    def run(
        self,
        modalities: tuple[str, ...],
        precision: str,
        inputs: Mapping[str, Sequence[NDArray[Any]]],
        *,
        known: Collection[str] = (),
        keep: bool = False,
    ) -> Ran:
        """Run the model; a scripted latency below 0 is a model that fails."""
        ran = self._real.run(modalities, precision, inputs, known=known, keep=keep)
        size = len(next(iter(ran.outputs.values())))
        latency_s = self._latency(modalities, size)
        if latency_s < 0:
            raise ModelFailedError(f"no memory for {'+'.join(modalities)} at batch {size}")
        took_ns = round(latency_s * 1e9)
        self._ran.append((modalities, size, took_ns))
        return Ran(ran.outputs, took_ns, ran.features)


@contextmanager
def scripted(latency: Latency) -> Iterator[list[tuple[tuple[str, ...], int, int]]]:
    """Inside, profiling takes the scripted latencies; yields the list of (modalities, size, ns) that ran."""
    ran: list[tuple[tuple[str, ...], int, int]] = []

    def make(*given: Any) -> ScriptedRunner:
        return ScriptedRunner(Runner(*given), latency, ran)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mosel.offline.timing.Runner", make)
        yield ran


def fail(**_: Any) -> NDArray[np.float32]:
    """A model that never runs."""
    raise RuntimeError("broken for good")


MODEL = model()
UNTRAINED = model(trained=False)
FAILS = model(load=lambda *_: fail)
EMPTY = model(samples=lambda: Samples({}, np.arange(0)))
