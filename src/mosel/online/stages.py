"""What becomes of requests between the stages of a cascade: done, unsure, run once more, or left as is."""

from collections.abc import Mapping, Sequence

from mosel.online.columns import LeftOut
from mosel.online.jobs import LiveJob, Progress
from mosel.online.unsure import in_line, judged


class Stages:
    """Settles requests that ran; knows how often escalations were left out of late."""

    def __init__(self) -> None:
        self._left_out = LeftOut()

    def settle(self, live: LiveJob, requests: Sequence[int], confidence: Mapping[int, float]) -> None:
        """Note that these requests ran: one with a promise is done, or unsure; one that ran again is done."""
        progress = live.progress
        if not (progress.again or progress.promises):
            return  # most jobs: none of its requests is in a cascade
        for request in requests:
            if (held := progress.again.pop(request, None)) is not None and held.optional:
                self._left_out.note(progress.job.model, held.cascade, left_out=False)
            promise = progress.promises.get(request)
            if promise is None:
                continue
            sure = confidence.get(request, float("nan"))
            counts, kept = judged(promise, sure, live.table, self._left_out)
            if kept is None:
                progress.confirm(request, counts)
            else:
                progress.keep(request, kept)

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
