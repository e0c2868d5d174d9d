"""What a worker does before it is ready: it runs every mode, so that no job waits for what is done but once."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from mosel.models.base import Model
from mosel.online.wire import WorkerModel
from mosel.runtime.padding import blank
from mosel.runtime.runner import Runner

WARM_UP_LIMIT_S = 1.0
"""Each mode is warmed up at its smallest and largest batch; sizes between only until so much time is spent."""


class WarmUp:
    """Models to be warmed up.

    Args:
        models: by name.
        modes: those that are served.
        runners: what runs each model.
    """

    def __init__(
        self, models: Mapping[str, Model], modes: Sequence[WorkerModel], runners: Mapping[str, Runner]
    ) -> None:
        self._models, self._modes, self._runners = models, modes, runners

    def run(self) -> None:
        """Run every mode at its smallest and its largest batch size, then as many others as time allows.

        With length buckets these are of the shortest requests; longer ones come last. What may be replayed on
        the device is recorded first, at every batch size.
        """
        self._settle()
        began = time.monotonic()
        for model, mode, size, must in _warm_up_order(self._modes):
            if not must and time.monotonic() - began > WARM_UP_LIMIT_S:
                return
            self._warm_up(model, mode, size, 0)
        for model, mode, bucket in self._longer():
            if time.monotonic() - began > WARM_UP_LIMIT_S:
                return
            self._warm_up(model, mode, 1, bucket)

    def _settle(self) -> None:
        """Let each batch size of models that may be replayed find its way, the largest first.

        Smaller ones then find room in the memory that recordings share.
        """
        every = [
            (size, served.name, (mode.modalities, mode.precision))
            for served in self._modes
            if self._runners[served.name].replays
            for mode in served.modes
            for size in mode.sizes
        ]
        for size, name, mode in sorted(every, key=lambda each: each[0], reverse=True):
            self._runners[name].settle(*mode, self._blank(name, mode, size, 0))

    def _warm_up(self, name: str, mode: tuple[tuple[str, ...], str], size: int, bucket: int) -> None:
        self._runners[name].run(*mode, self._blank(name, mode, size, bucket))

    def _blank(
        self, name: str, mode: tuple[tuple[str, ...], str], size: int, bucket: int
    ) -> dict[str, list[NDArray[Any]]]:
        model = self._models[name]
        length = model.length_buckets[bucket] if model.length_buckets else None
        return {tensor: [array] for tensor, array in blank(model, mode[0], size, length).items()}

    def _longer(self) -> Iterator[tuple[str, tuple[tuple[str, ...], str], int]]:
        for served in self._modes:
            for mode in served.modes:
                for bucket in range(1, len(self._models[served.name].length_buckets)):
                    yield served.name, (mode.modalities, mode.precision), bucket


def _warm_up_order(
    models: Sequence[WorkerModel],
) -> Iterator[tuple[str, tuple[tuple[str, ...], str], int, bool]]:
    modes = [
        (model.name, (mode.modalities, mode.precision), mode.sizes) for model in models for mode in model.modes
    ]
    for name, mode, sizes in modes:
        for size in sorted({sizes[0], sizes[-1]}):
            yield name, mode, size, True
    between = itertools.zip_longest(*(sizes[1:-1] for _, _, sizes in modes))
    for row in between:
        for (name, mode, _), size in zip(modes, row, strict=True):
            if size is not None:
                yield name, mode, size, False
