"""Which of two ways runs a batch on a GPU: launched each time, or recorded once and replayed (a CUDA graph).

For each mode, precision and batch size both ways are timed once, and the quicker one is kept. Nothing here
knows torch or a device: those are a `Recorder`'s business (`on_cuda.py`).
"""

import logging
import statistics
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mosel.runtime.calls import Call

ROUNDS = 5
"""How often each way is timed, in turn."""

WORTH = 0.97
"""A recording holds memory: it is kept only if it takes at most this share of the time."""

log = logging.getLogger(__name__)

Batch = Mapping[str, Any]
"""What a model is called with, by keyword, each of shape (batch, …)."""


class Recording(Protocol):
    """The work of one batch on the device, recorded."""

    def holds(self, batch: Batch) -> bool:
        """Say whether this batch should run in it."""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Run the batch; return the model's outputs, which the next call may overwrite."""


class Recorder(Protocol):
    """What records on a device, and tells what work takes there."""

    def record(self, call: Call, batch: Batch) -> Recording:
        """Record the call; raises whatever stands against that."""

    def took_ns(self, work: Callable[[], object]) -> int:
        """Do the work; return how long the device took until all of it was done."""

    def agree(self, one: Batch, other: Batch) -> bool:
        """Say whether two outputs are the same but for rounding."""

    def recover(self) -> None:
        """Give back what a failed recording may have left behind."""


class Replays:
    """Recordings of those batches that are quicker for it.

    Args:
        recorder: of the device.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._recordings: dict[tuple[object, ...], Recording | None] = {}

    def settle(self, call: Call, batch: Batch) -> bool:
        """Find out, once, which way runs such batches; return whether it is a recording."""
        key = _key(call, batch)
        if key not in self._recordings:
            self._recordings[key] = self._quicker(call, batch)
        return self._recordings[key] is not None

    def run(self, call: Call, batch: Batch) -> dict[str, Any]:
        """Run a batch the way that was settled; one that was not is launched."""
        recording = self._recordings.get(_key(call, batch))
        return call(batch) if recording is None or not recording.holds(batch) else recording(batch)

    def _quicker(self, call: Call, batch: Batch) -> Recording | None:
        try:
            recording = self._recorder.record(call, batch)
            if not self._recorder.agree(call(batch), recording(batch)):
                log.warning("%s: recorded, it answers otherwise; it is launched each time", call.where)
                return None
            launched_ns, replayed_ns = self._timed(lambda: call(batch), lambda: recording(batch))
        except Exception as error:  # the edge to models that are not ours: what cannot be recorded is launched
            self._recorder.recover()
            log.warning("%s: cannot be recorded: %s; it is launched each time", call.where, error)
            return None
        return recording if replayed_ns <= WORTH * launched_ns else None

    def _timed(self, *ways: Callable[[], object]) -> list[float]:
        took_ns = [[self._recorder.took_ns(way) for way in ways] for _ in range(ROUNDS)]
        return [statistics.median(of_way) for of_way in zip(*took_ns, strict=True)]


def _key(call: Call, batch: Batch) -> tuple[object, ...]:
    outputs = tuple(tensor.name for tensor in call.outputs)
    return id(call.function), outputs, tuple(batch), len(next(iter(batch.values())))
