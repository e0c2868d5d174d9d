"""Which jobs of a cell another worker keeps features of, and for how long that worker is waited for.

An unsure request is sent to the worker that keeps features of it, which has less to do, unless that one would
begin so late that another is done before it, though it runs the stage whole.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from mosel.core.types import Part
from mosel.online.crew import Crew
from mosel.online.jobs import LiveJob, Progress
from mosel.online.policies.base import BatchChoice
from mosel.online.unsure import NOBODY


class Resuming:
    """The jobs of one cell that workers keep features of, where there are several workers.

    Args:
        crew: the cell's workers.
    """

    __slots__ = ("_crew", "_jobs")

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._jobs: dict[str, Progress] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._jobs)

    def note(self, progress: Progress) -> None:
        """Take a job in if it is one."""
        if len(self._crew.members) > 1 and progress.unsure and progress.holder != NOBODY:
            self._jobs[progress.job.id] = progress

    def leave(self, progress: Progress) -> None:
        """Take a job out."""
        self._jobs.pop(progress.job.id, None)

    def of_others(self, worker: int) -> Iterator[Progress]:
        """Yield the jobs that another worker keeps features of."""
        return (progress for progress in self._jobs.values() if progress.holder != worker)

    def overdue(self, seat: int, now_ns: int) -> list[Progress]:
        """Return the jobs whose worker is not worth waiting for when that of `seat` could have them."""
        found = []
        free_ns = self._crew.free_ns(now_ns)
        for progress in self.of_others(self._crew.members[seat]):
            owner = self._owner(progress.holder)
            saves_ns = max((_saves_ns(live) for live in progress.sides.values()), default=0)
            if owner is None or free_ns[owner] > free_ns[seat] + saves_ns:
                found.append(progress)
        return found

    def _owner(self, worker: int) -> int | None:
        """The seat of a worker that is up here."""
        if worker not in self._crew.members:
            return None
        seat = self._crew.members.index(worker)
        return seat if self._crew.up[seat] else None


def resuming(
    choice: BatchChoice, jobs: Sequence[LiveJob], parts: Sequence[Part], worker: int, mode: int
) -> tuple[int, str, tuple[bool, ...]]:
    """Return what a batch is expected to take, which first stage it resumes if any, and for which requests.

    Others in it run that stage before, if the batch takes less so than whole.
    """
    table, size = choice.table, sum(len(part.requests) for part in parts)
    whole = int(table.latency_ns[mode, choice.bucket, size]), "", ()
    held = [
        live.progress.again.get(request)
        for live, part in zip(jobs, parts, strict=True)
        for request in part.requests
    ]
    firsts = Counter(one.first for one in held if one is not None and one.worker == worker)
    if not firsts:
        return whole
    first = firsts.most_common(1)[0][0]
    resumes = tuple(one is not None and one.worker == worker and one.first == first for one in held)
    fresh = size - sum(resumes)
    profiled_ns = table.resuming_ns(table.modes.index(first), mode, choice.bucket, fresh, size)
    return whole if profiled_ns is None else (table.expected_ns(mode, profiled_ns), first, resumes)


def _saves_ns(live: LiveJob) -> int:
    """How much less a job's next request takes where its features are kept."""
    held, table = next(iter(live.progress.unsure.values())), live.table
    if held.first not in table.modes or held.last not in table.modes:
        return 0
    first, last = table.modes.index(held.first), table.modes.index(held.last)
    whole_ns = int(table.profiled_ns[last, live.bucket, 1])
    rest_ns = table.resuming_ns(first, last, live.bucket, 0, 1)
    return 0 if rest_ns is None else whole_ns - rest_ns
