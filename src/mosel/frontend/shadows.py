"""Shadow runs: while nothing else is to be done, a request runs once more with all modalities, for comparison.

Of the jobs that carried all modalities and were answered in one cheaper mode, or in cascades, a share is kept,
one request of each, the newest by mode, and by the first stage of cascades. When the server has been idle for a
while that is long beside such a run, one of them is handed to the engine like a job that asks for the most
accurate mode; the two answers are compared (`agreement.py`, `cascade_shadows.py`). A worker is busy with it for
that one request: a job that arrives meanwhile waits as it would for any batch under way, which is why there is
no shadow run that nobody asked for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import to_ns
from mosel.core.errors import MoselError, UsageError
from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job, Receipt
from mosel.frontend.agreement import LiveAgreement
from mosel.frontend.cascade_shadows import CascadeAgreement, Followed
from mosel.frontend.reliability import Judged
from mosel.models.base import Model
from mosel.online.engine import Answer, Snapshot
from mosel.online.serving import ServedModel

log = logging.getLogger(__name__)

LEAST_IDLE_S = 0.05
IDLE_FACTOR = 10.0
"""So many times what a shadow run takes has the server to be idle before one."""

LIMIT_S = 60.0
LARGEST_BYTES = 8 << 20
"""Of the inputs of one request that is kept."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A request that was answered in `mode`, or in a cascade: its inputs and its outputs, each with one row."""

    model: str
    mode: str | Judged
    inputs: Arrays
    outputs: Arrays

    @property
    def kind(self) -> tuple[str, str, bool]:
        """The model, the mode or first stage, and whether it was in a cascade."""
        judged = isinstance(self.mode, Judged)
        return self.model, self.mode.first if isinstance(self.mode, Judged) else self.mode, judged


class Shadows:
    """Keeps requests and runs them.

    Args:
        served: the models; those that cannot say how far answers agree are left out.
        share: of the jobs that may be compared, how many are.
        submit: runs a job.
        snapshot: gives the engine's counters.
        now_ns: the engine's clock.
        agreement: takes in what comes of it.
        cascades: the same of answers in cascades.

    Raises:
        UsageError: no model has answers that can be compared.
    """

    def __init__(
        self,
        served: Sequence[ServedModel],
        share: float,
        submit: Callable[[Job, Arrays], Awaitable[Answer]],
        snapshot: Callable[[], Snapshot],
        now_ns: Callable[[], int],
        agreement: LiveAgreement,
        cascades: CascadeAgreement,
    ) -> None:
        self._models = {one.model.name: one.model for one in served if one.model.agreement_of is not None}
        if not self._models:
            names = ", ".join(one.model.name for one in served)
            raise UsageError(
                f"shadow_share {share:g}: nothing says how far two answers of {names} agree; "
                "give the model an `agreement`, or leave the share out"
            )
        self._best = {one.model.name: _Best(one.profile) for one in served}
        self._idle_s = max(LEAST_IDLE_S, IDLE_FACTOR * max(self._best[name].latency_s for name in self._models))
        self._share = share
        self._submit, self._snapshot, self._now_ns = submit, snapshot, now_ns
        self._agreement, self._cascades = agreement, cascades
        self.followed = Followed()
        self._due = 0.0
        self._kept: dict[tuple[str, str, bool], Kept] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._batches = -1
        self._number = 0

    def saw(self, receipt: Receipt, inputs: Arrays, outputs: Arrays | None) -> None:
        """Take in a job that has its answer, with its inputs and all of its outputs."""
        job, judged = receipt.job, self.followed.take(receipt.job.id)
        if outputs is None or job.modalities or job.model not in self._models:
            return
        best = self._best[job.model].modes
        at = (self._number + 1) % job.requests
        mode: str | Judged | None = judged.get(at)
        if not receipt.cascaded and len(receipt.modes) == 1 and receipt.modes[0][0] not in best:
            mode = receipt.modes[0][0]
        if mode is None or (
            isinstance(mode, Judged) and mode.escalated and best.issuperset(dict(receipt.modes))
        ):
            return
        self._due += self._share
        if self._due < 1:
            return
        self._due -= 1
        self._number += 1
        self._keep(Kept(job.model, mode, *_row(at, inputs, outputs)))

    def _keep(self, kept: Kept) -> None:
        if sum(array.nbytes for array in kept.inputs.values()) > LARGEST_BYTES:
            return
        self._kept[kept.kind] = kept
        self._look_later()

    def _look_later(self) -> None:
        if self._timer is None and self._running is None and self._kept:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._look)

    def _look(self) -> None:
        """Run a request if nothing ran since the last look, and nothing waits."""
        self._timer = None
        counters = self._snapshot()
        idle = counters.queued_jobs == 0 and counters.batches == self._batches
        self._batches = counters.batches
        if not idle:
            self._look_later()
            return
        key = min(self._kept, key=self._count)
        self._running = asyncio.get_running_loop().create_task(self._run(self._kept.pop(key)))

    async def _run(self, kept: Kept) -> None:
        try:
            agreement = await self._compared(kept)
            if agreement is not None and isinstance(kept.mode, Judged):
                self._cascades.note(kept.model, kept.mode, agreement)
            elif agreement is not None and isinstance(kept.mode, str):
                self._agreement.note(kept.model, kept.mode, agreement)
        except MoselError as error:  # the server drains, or the model fails on it: nothing is learnt
            log.info("a shadow run of model %s came to nothing: %s", kept.model, error)
        finally:
            self._running = None
            self._look_later()

    def _count(self, kind: tuple[str, str, bool]) -> int:
        model, mode, cascaded = kind
        return self._cascades.count(model, mode) if cascaded else self._agreement.count(model, mode)

    async def _compared(self, kept: Kept) -> float | None:
        """Run a request and return how far the answers agree; None if it ran in another mode than it was to."""
        best, now_ns = self._best[kept.model], self._now_ns()
        self._number += 1
        job = Job(f"shadow-{self._number}", kept.model, 1, best.accuracy, now_ns, now_ns + to_ns(LIMIT_S))
        answer = await self._submit(job, kept.inputs)
        receipt = answer.receipt
        if answer.outputs is None or receipt.cascaded or not best.modes.issuperset(dict(receipt.modes)):
            return None
        return _agreement(self._models[kept.model], kept.outputs, answer.outputs)


class _Best:
    """The most accurate modes of a model, of which there may be several, and what one request takes in one."""

    def __init__(self, profile: Profile) -> None:
        self.accuracy = max(mode.accuracy for mode in profile.modes)
        modes = [mode for mode in profile.modes if mode.accuracy >= self.accuracy - ACCURACY_TOLERANCE]
        self.modes = {
            name for name, mode in zip(profile.mode_names, profile.modes, strict=True) if mode in modes
        }
        self.latency_s = max(column[0] for mode in modes for column in profile.columns(mode.latency_s))


def _row(request: int, *of: Arrays) -> tuple[dict[str, NDArray[Any]], ...]:
    return tuple({name: array[request : request + 1].copy() for name, array in each.items()} for each in of)


def _agreement(model: Model, cheap: Arrays, best: Arrays) -> float | None:
    assert model.agreement_of is not None
    try:
        found = float(np.asarray(model.agreement_of(cheap, best), np.float64).reshape(()))
    except Exception:  # the edge to functions that are not ours
        log.warning("the agreement of model %s raised", model.name, exc_info=True)
        return None
    if not 0 <= found <= 1:
        log.warning("the agreement of model %s is %s; expected 0 to 1", model.name, found)
        return None
    return found
