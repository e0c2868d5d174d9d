"""The last jobs that were answered, and the mode of each of their requests: what feedback can be given on.

Only a job that its client gave an id is held, so that others cost nothing. While one runs, the engine's batches
say which of its requests ran in which mode. A request that ran in a cascade counts for no mode: it was answered
by the first because it was easy, or went on to the second because it was hard. What is held of it is how sure
the model was.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from mosel.core.errors import GoneError, InputError
from mosel.core.types import Batch, Job
from mosel.frontend.feedback_body import FeedbackBody
from mosel.frontend.reliability import Judged
from mosel.online.answers import Answer, Confidences

KEPT_REQUESTS = 50_000
"""Of all jobs that are held; the oldest make room."""

ID_LIMIT = 128
"""Characters of an id: what is held of a job is bounded."""

IN_CASCADE = ""

Mode = str | Judged
"""What a request ran in: a mode, or a cascade."""


@dataclass(slots=True)
class _Held:
    """A job that was answered.

    Attributes:
        modes: of each request; of one that ran in a cascade what its first stage said, or `IN_CASCADE` if that
            is not known.
        labelled: whether its feedback has come.
        twice: whether another job was answered under the same id.
    """

    modes: tuple[Mode, ...]
    labelled: bool = False
    twice: bool = False


class Answered:
    """Keeps them.

    Args:
        kept: how many requests, of all jobs together.
    """

    def __init__(self, kept: int = KEPT_REQUESTS) -> None:
        self._kept = kept
        self._running: dict[str, dict[int, Mode]] = {}
        self._held: dict[tuple[str, str, str], _Held] = {}
        self._requests = 0

    def judged(self, batch: Batch, confidences: Confidences) -> None:
        """Take down how sure the model was of the requests of a batch that ran."""
        if self._running:
            for (job, request), confidence in confidences.items():
                if (modes := self._running.get(job)) is not None:
                    modes[request] = Judged(batch.mode, confidence, escalated=False)

    def ran(self, batch: Batch, _took_ns: int) -> None:
        """Take down a batch that ran."""
        if not self._running:
            return
        for part in batch.parts:
            modes = self._running.get(part.job)
            if modes is not None:
                for request in part.requests:
                    modes[request] = _after(modes.get(request), batch)

    async def follow(self, given: str, job: Job, running: Awaitable[Answer]) -> Answer:
        """Return the answer to a job, and hold the job if it has outputs, under the id that its client gave."""
        self.begin(given, job)
        outputs = None
        try:
            answer = await running
            outputs = answer.outputs
        finally:
            self.end(given, job, has_outputs=outputs is not None)
        return answer

    def begin(self, given: str, job: Job) -> None:
        """Take down the modes of a job until `end`, if it can be held under the id that its client gave."""
        if len(given) <= ID_LIMIT:
            self._running[job.id] = {}

    def end(self, given: str, job: Job, *, has_outputs: bool) -> None:
        """Take down no more of a job, and hold it if it has outputs."""
        modes = self._running.pop(job.id, None)
        if modes is not None and has_outputs and len(modes) == job.requests:
            self._hold((job.model, job.tenant, given), tuple(modes[at] for at in range(job.requests)))

    def take(self, model: str, body: FeedbackBody) -> tuple[Mode, ...]:
        """Return what each request of the job ran in that a feedback is about, which it can be only once.

        Raises:
            GoneError: no such job is held, or it has its feedback.
            InputError: the scores are not as many as its requests, or several jobs had this id.
        """
        told = repr(body.id[:ID_LIMIT])
        held = self._held.get((model, body.tenant, body.id))
        if held is None:
            raise GoneError(
                f"no answered job {told} of model {model!r} is held: held are jobs that were sent with an id "
                f"of at most {ID_LIMIT} characters, and the last {self._kept:,} of their requests; "
                "give feedback sooner, under the id of the inference request"
            )
        if held.twice:
            raise InputError(f"several jobs were sent with the id {told}; give each an id of its own")
        if held.labelled:
            raise GoneError(f"job {told} has its feedback already; it is counted once")
        if len(body.scores) != len(held.modes):
            raise InputError(
                f"there are {len(body.scores)} scores for job {told}; expected one for each of its "
                f"{len(held.modes)} requests"
            )
        held.labelled = True
        return held.modes

    def _hold(self, key: tuple[str, str, str], modes: tuple[Mode, ...]) -> None:
        if key in self._held:
            self._held[key].twice = True
            return
        self._held[key] = _Held(modes)
        self._requests += len(modes)
        while self._requests > self._kept:
            oldest = next(iter(self._held))
            self._requests -= len(self._held.pop(oldest).modes)


def _after(before: Mode | None, batch: Batch) -> Mode:
    """What a request ran in after a batch."""
    if isinstance(before, Judged):
        return before if batch.judged else before._replace(escalated=True)
    return IN_CASCADE if batch.judged or before == IN_CASCADE else batch.mode


def counted(modes: Sequence[Mode]) -> dict[str, int]:
    """Return how many requests count for each mode."""
    single = [mode for mode in modes if isinstance(mode, str) and mode != IN_CASCADE]
    return {mode: single.count(mode) for mode in dict.fromkeys(single)}
