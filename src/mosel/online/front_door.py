"""A front door of a fleet: it sends each job to one of two groups, by a view of their backlogs that is stale.

Each door has a view of its own: what every group last reported, less what its workers have done since, plus
what this door has sent there. Doors know nothing of each other and share nothing. Two groups are drawn, each
as likely as it has workers up, and the job goes to the one where it is expected to be less late: by the
backlog of the group and by what the job takes there, for groups may be unlike.

In a simulation groups are objects here (`group.py`) and are listened to; in a live server they are processes,
and what they say is handed to `heard`.
"""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from mosel.core.types import Job
from mosel.online.expected import Cost, Costs
from mosel.online.group import Load, Place

NO_COST = Cost(0.0, 0)
"""Of a job that no group can serve: any says so."""


class Known(Protocol):
    """What a front door knows of a group by itself."""

    @property
    def place(self) -> Place:
        """Where it stands in the fleet."""

    @property
    def costs(self) -> Costs:
        """What jobs ask of its workers."""


class Reporting(Protocol):
    """A group that can be listened to."""

    def load(self, now_ns: int) -> Load:
        """Return how it stands."""


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

    def cost(self, group: Known) -> Cost:
        """Return what the job costs in a group."""
        return self.costs[group.costs]


class Choices:
    """Which groups a job may go to, as they are made up now.

    Args:
        groups: of the fleet.
    """

    def __init__(self, groups: Sequence[Known]) -> None:
        self._groups = groups
        self.look()

    def look(self) -> None:
        """Take over how the groups are made up."""
        self._kinds = list(dict.fromkeys(group.costs for group in self._groups))
        self._candidates: dict[frozenset[Costs], Candidates] = {}

    def asked(self, job: Job) -> Asked:
        """Find the groups that could serve a job if they were idle; or those that come nearest to it."""
        known = {costs: cost for costs in self._kinds if (cost := costs.of(job)) is not None}
        slo_ns = job.deadline_ns - job.arrival_ns
        able = {costs: cost for costs, cost in known.items() if cost.alone_ns <= slo_ns} or known
        if not able:
            best = max(costs.best(job) for costs in self._kinds)
            able = {costs: NO_COST for costs in self._kinds if costs.best(job) == best}
        key = frozenset(able)
        if key not in self._candidates:
            numbers = (group.place.index for group in self._groups if group.costs in able)
            self._candidates[key] = Candidates(tuple(numbers))
        return Asked(job, self._candidates[key], able)


class FrontDoor:
    """One front door.

    Args:
        groups: of the fleet.
        report_ns: how often they do.
        phase_ns: how much later than one interval they do so first, until when all workers are taken to be up
            and idle; doors that hear at different times do not all run to the same group.
        choice_ns: how long a choice takes; a job waits until those before it are made.
        rng: draws the two groups.
    """

    def __init__(
        self, groups: Sequence[Known], report_ns: int, phase_ns: int, choice_ns: int, rng: random.Random
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

    def listen(self, groups: Sequence[Reporting], now_ns: int) -> None:
        """Hear from every group how it stands before anything that happens now."""
        self.due_ns += ((now_ns - self.due_ns) // self._report_ns + 1) * self._report_ns
        for number, group in enumerate(groups):
            self.heard(number, group.load(now_ns), now_ns)

    def heard(self, number: int, load: Load, at_ns: int) -> None:
        """Take over how a group stood at a time."""
        if load.up != self._up[number]:
            self._weights.clear()
        self._up[number], self._work_ns[number], self._at_ns[number] = load.up, load.work_ns, at_ns

    @property
    def down(self) -> list[int]:
        """The groups that have no worker up, as far as this door knows."""
        return [number for number, up in enumerate(self._up) if not up]

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
