"""What becomes of requests between the stages of a cascade: done, unsure, run once more, or left as is."""

from collections.abc import Collection, Mapping, Sequence

from mosel.online.columns import LeftOut
from mosel.online.jobs import LiveJob, Progress
from mosel.online.unsure import NOBODY, in_line, judged


class Stages:
    """Settles requests that ran; knows how often escalations were left out of late."""

    def __init__(self) -> None:
        self._left_out = LeftOut()

    def settle(
        self,
        live: LiveJob,
        requests: Sequence[int],
        confidence: Mapping[int, float],
        kept: Collection[int] = (),
        worker: int = NOBODY,
    ) -> None:
        """Note that these requests ran: one with a promise is done, or unsure; one that ran again is done.

        Of those in `kept` the worker keeps features.
        """
        progress = live.progress
        if not (progress.again or progress.promises):
            return  # most jobs: none of its requests is in a cascade
        for request in requests:
            if (before := progress.again.pop(request, None)) is not None and before.optional:
                self._left_out.note(progress.job.model, before.cascade, left_out=False)
            promise = progress.promises.get(request)
            if promise is None:
                continue
            sure = confidence.get(request, float("nan"))
            holder = worker if request in kept else NOBODY
            counts, held = judged(promise, sure, live.table, self._left_out, holder)
            if held is None:
                progress.confirm(request, counts)
            else:
                progress.keep(request, held)

    def leave_out(self, progress: Progress) -> None:
        """Let no unsure request of a job run once more."""
        for held in progress.leave_out():
            if held.optional:
                self._left_out.note(progress.job.model, held.cascade, left_out=True)

    def prune(self, live: LiveJob) -> None:
        """Let unsure requests be done that lack, by now, a modality of their last stage."""
        progress = live.progress
        able = in_line(progress.unsure, live.table, live.mask)
        progress.unsure = {request: progress.unsure[request] for request in able}
