"""A front door of a fleet: it sends each job to one of two groups, by a view of their backlogs that is stale.

Each door has a view of its own: what every group last reported, less what its workers have done since, plus
what this door has sent there. Doors know nothing of each other and share nothing. Two groups are drawn, each
as likely as it has workers up, and the job goes to the one where it is expected to be less late: by the
backlog of the group and by what the job takes there, for groups may be unlike.
"""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mosel.core.types import Job
from mosel.online.expected import Cost, Costs
from mosel.online.group import Group


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The numbers, ascending, of groups that a job may go to."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A job, the groups that it may go to, and what it costs in those made up alike."""

    job: Job
    candidates: Candidates
    costs: Mapping[Costs, Cost]

    def cost(self, group: Group) -> Cost:
        """Return what the job costs in a group."""
        return self.costs[group.costs]


class FrontDoor:
    """One front door.

    Args:
        groups: of the fleet; read only when they report.
        report_ns: how often they do.
        phase_ns: how much later than one interval they do so first, until when all workers are taken to be up
            and idle; doors that hear at different times do not all run to the same group.
        choice_ns: how long a choice takes; a job waits until those before it are made.
        rng: draws the two groups.
    """

    def __init__(
        self, groups: Sequence[Group], report_ns: int, phase_ns: int, choice_ns: int, rng: random.Random
    ) -> None:
        self.due_ns = report_ns + phase_ns
        self._groups = groups
        self._report_ns = report_ns
        self._choice_ns = choice_ns
        self._free_ns = 0
        self._rng = rng
        self._up = [len(group.place.workers) for group in groups]
        self._work_ns = [0.0] * len(groups)
        self._at_ns = [0] * len(groups)
        self._weights: dict[Candidates, tuple[float, ...]] = {}

    def listen(self, now_ns: int) -> None:
        """Hear from every group how it stands before anything that happens now."""
        self.due_ns += ((now_ns - self.due_ns) // self._report_ns + 1) * self._report_ns
        for number, group in enumerate(self._groups):
            load = group.load(now_ns)
            self._up[number], self._work_ns[number], self._at_ns[number] = load.up, load.work_ns, now_ns
        self._weights.clear()

    def chosen_ns(self, now_ns: int) -> int:
        """Return when the choice for a job that is here now will be made, and be busy until then."""
        self._free_ns = max(self._free_ns, now_ns) + self._choice_ns
        return self._free_ns

    def choose(self, asked: Asked, now_ns: int, besides: Sequence[int] = ()) -> int | None:
        """Return the better of two groups drawn at random; None if there is none `besides` those given."""
        drawn = list(besides)
        for _ in range(2):
            if (number := self._draw(asked.candidates, drawn)) is not None:
                drawn.append(number)
        two = drawn[len(besides) :]
        return min(two, key=lambda number: self.late_ns(asked, number, now_ns), default=None)

    def late_ns(self, asked: Asked, number: int, now_ns: int) -> float:
        """Return by how much a job is expected to miss its deadline in a group; negative if it will not."""
        up = self._up[number]
        if not up:
            return float("inf")
        alone_ns = asked.cost(self._groups[number]).alone_ns
        return now_ns + self._left_ns(number, now_ns) / up + alone_ns - asked.job.deadline_ns

    def sent(self, number: int, work_ns: float, now_ns: int) -> None:
        """Count work that this door sent to a group."""
        self._work_ns[number] = self._left_ns(number, now_ns) + work_ns
        self._at_ns[number] = now_ns

    def _left_ns(self, number: int, now_ns: int) -> float:
        """What is left of a group's backlog, as far as this door knows."""
        return max(0.0, self._work_ns[number] - self._up[number] * (now_ns - self._at_ns[number]))

    def _draw(self, candidates: Candidates, besides: Sequence[int]) -> int | None:
        """Draw a group that is not among those given, each as likely as it has workers up."""
        upto, numbers = self._upto(candidates), candidates.numbers
        out = sorted(at for at in (_place(numbers, number) for number in besides) if at is not None)
        if len(out) == len(numbers):
            return None
        weights = [upto[at] - (upto[at - 1] if at else 0.0) for at in out]
        point = self._rng.random() * (upto[-1] - sum(weights))
        for at, weight in zip(out, weights, strict=True):
            if point >= upto[at] - weight:
                point += weight
        drawn = min(bisect_right(upto, point), len(numbers) - 1)
        while drawn in out:  # rounding may end at the very edge of one that is out
            drawn = (drawn + 1) % len(numbers)
        return numbers[drawn]

    def _upto(self, candidates: Candidates) -> tuple[float, ...]:
        """The running sum of the groups' weights."""
        found = self._weights.get(candidates)
        if found is None:
            some = any(self._up[number] for number in candidates.numbers)
            found = tuple(accumulate(self._up[n] + 1e-6 if some else 1.0 for n in candidates.numbers))
            self._weights[candidates] = found
        return found


def _place(numbers: tuple[int, ...], number: int) -> int | None:
    at = bisect_right(numbers, number) - 1
    return at if at >= 0 and numbers[at] == number else None
