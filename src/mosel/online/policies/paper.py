"""The paper's policies (§5.2, §7.1, appendix A), and `optimized`, ours under the same roof.

All run jobs in deadline order, one strategy a job, batches inside a job only. All that drop share one rule
(§4.3): a job that misses its deadline although every job before it runs as fast as its accuracy SLO allows is
given up. They differ in which strategies the others get.
"""

import numpy as np

from mosel.online.policies.base import Decision, Ints, View, cheapest, head_batch
from mosel.online.tables import Strategy, point
from mosel.solve.assign import Options as Choices
from mosel.solve.assign import best, keep_feasible

Plans = dict[int, Strategy]


def none(view: View) -> Decision:
    """Keep every modality and every job: modality-agnostic, as in the paper."""
    return Decision(batch=head_batch(view, {}, np.arange(len(view.queue))))


def random(view: View) -> Decision:
    """Algorithm 1: jobs drawn at random get their fastest strategy until the violator's deadline holds.

    The violator's own latency counts, and it may be drawn, since its deadline cannot hold otherwise.
    """
    kept, plans = _feasible(view), Plans()
    budget, planned = view.budget_ns()[kept], view.queue.ints("planned_ns")[kept].copy()
    least = view.queue.ints("least_ns")[kept]
    while (violator := _first_violation(planned, budget)) is not None:
        slower = np.flatnonzero(planned[: violator + 1] > least[: violator + 1])
        drawn = int(view.rng.choice(slower))
        plans[int(kept[drawn])] = cheapest(view.queue.jobs[kept[drawn]])
        planned[drawn] = least[drawn]
    return _decision(view, kept, plans)


def aggressive(view: View) -> Decision:
    """Give every job the fastest strategy that meets its accuracy SLO, at risk or not."""
    return _decision(view, _feasible(view), {})


def paper(view: View) -> Decision:
    """§5.2 as printed: one budget T up to the violator, it and its predecessors re-chosen.

    Without a violator T reaches to the last job's deadline, which restores accuracy; only the sum of all
    latencies is held against T, so an earlier job may become the next violator and is treated in turn.
    """
    kept = _feasible(view)
    budget, options = view.budget_ns()[kept], _Menu(view, kept)
    planned = view.queue.ints("planned_ns")[kept].copy()
    if len(kept) and _first_violation(planned, budget) is None:
        options.choose(len(kept) - 1, budget, planned)
    for _ in range(2 * len(kept)):
        violator = _first_violation(planned, budget)
        if violator is None:
            break
        options.choose(violator, budget, planned)
    return _decision(view, kept, options.plans)


def optimized(view: View) -> Decision:
    """Choose a strategy for every job so that accuracy is highest with **every** deadline held, exactly.

    The greedy answer stands in where the exact one would take more work than `Options.work_cap`.
    """
    kept = _feasible(view)
    menu = _Menu(view, kept)
    found = best(menu.choices(len(kept)), view.budget_ns()[kept], view.options.work_cap)
    assert found is not None, "jobs that are kept fit at their fastest"
    for position, index in enumerate(found.choice):
        menu.take(position, int(index))
    return _decision(view, kept, menu.plans)


class _Menu:
    """The strategies that each kept job may choose from."""

    def __init__(self, view: View, kept: Ints) -> None:
        self.plans: Plans = {}
        self._kept = kept
        self._jobs = [view.queue.jobs[row] for row in kept]
        self._work_cap = view.options.work_cap

    def choices(self, count: int) -> Choices:
        """Return the options of the first `count` jobs for the solver."""
        return Choices.of(
            [
                (job.frontier.latency_ns[job.first :], job.frontier.accuracy[job.first :])
                for job in self._jobs[:count]
            ]
        )

    def choose(self, last: int, budget: Ints, planned: Ints) -> None:
        """Maximise accuracy of jobs 0..last with the sum of their latencies within the last one's budget."""
        found = best(self.choices(last + 1), np.full(last + 1, budget[last]), self._work_cap)
        assert found is not None, "jobs that are kept fit at their fastest"
        for position, index in enumerate(found.choice):
            planned[position] = self.take(position, int(index)).latency_ns

    def take(self, position: int, index: int) -> Strategy:
        """Note that a job is to run its `index`-th option."""
        job = self._jobs[position]
        strategy = point(job.frontier, job.first + index)
        self.plans[int(self._kept[position])] = strategy
        return strategy


def _feasible(view: View) -> Ints:
    """Rows that the drop rule keeps."""
    return np.flatnonzero(keep_feasible(view.queue.ints("least_ns"), view.budget_ns()))


def _first_violation(planned: Ints, budget: Ints) -> int | None:
    late = np.flatnonzero(np.cumsum(planned) > budget)
    return int(late[0]) if len(late) else None


def _decision(view: View, kept: Ints, plans: Plans) -> Decision:
    dropped = np.setdiff1d(np.arange(len(view.queue)), kept, assume_unique=True)
    return Decision(tuple(int(row) for row in dropped), plans, head_batch(view, plans, kept))
