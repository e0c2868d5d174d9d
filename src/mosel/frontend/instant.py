"""A stand-in for the engine that answers every job at once: to test the front end, and to time it alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.states import Reason, State
from mosel.core.types import Batch, Job, Receipt
from mosel.models.base import BYTES, Model
from mosel.online.answers import Answer, Confidences, Live, Snapshot, Tell
from mosel.online.decisions import Decisions

Inputs = Mapping[str, NDArray[Any]]


class InstantEngine:
    """An engine without workers.

    Args:
        answer: makes the answer to a job from its inputs; see `zeros`.
        clock: the engine's clock.
    """

    def __init__(
        self, answer: Callable[[Job, Inputs], Answer], clock: Callable[[], int] = monotonic_ns
    ) -> None:
        self.ready = True
        self.backlog_s = 0.0
        self.now_ns = clock
        self.counters = Snapshot(0, 0, 0, 0, (), Decisions())
        self._answer = answer
        self._watchers: list[Callable[[Batch, int], None]] = []
        self._judge_watchers: list[Callable[[Batch, Confidences], None]] = []

    def watch(self, ran: Callable[[Batch, int], None]) -> None:
        """Call `ran` with each batch that a test tells of: this engine has none of its own."""
        self._watchers.append(ran)

    def watch_judged(self, judged: Callable[[Batch, Confidences], None]) -> None:
        """Call `judged` with each batch and its confidences that a test tells of."""
        self._judge_watchers.append(judged)

    def judged(self, batch: Batch, confidences: Confidences) -> None:
        """Tell of a batch that was a cascade's first stage."""
        for watcher in self._judge_watchers:
            watcher(batch, confidences)

    def ran(self, batch: Batch, took_ns: int) -> None:
        """Tell of a batch that ran."""
        for watcher in self._watchers:
            watcher(batch, took_ns)

    async def submit(self, job: Job, inputs: Inputs) -> Answer:
        """Answer the job."""
        return self._answer(job, inputs)

    def hand_in(self, job: Job, inputs: Inputs, tell: Tell) -> Live | None:
        """Tell of the answer at once; nothing is left to be withdrawn."""
        tell(self._answer(job, inputs))
        return None

    def withdraw(self, live: Live) -> None:
        """Nothing is ever withdrawn here: every job has its answer when it is handed in."""

    def snapshot(self) -> Snapshot:
        """Return `counters`."""
        return self.counters


def zeros(model: Model) -> Callable[[Job, Inputs], Answer]:
    """Return what serves every job on time, with outputs of zeros."""

    def answer(job: Job, _: Inputs) -> Answer:
        receipt = Receipt(
            job, State.SERVED, Reason.ON_TIME, "served", job.arrival_ns, job.arrival_ns, job.accuracy_slo
        )
        outputs = {
            t.name: np.full((job.requests, *t.shape), b"" if t.datatype == BYTES else 0, t.dtype)
            for t in model.outputs
        }
        return Answer(receipt, outputs)

    return answer
