"""The paper's policies (§5.2, §7.1, appendix A), and `optimized`, ours under the same roof.

All run jobs in deadline order, one strategy a job, batches inside a job only. All that drop share one rule
(§4.3): a job that misses its deadline although every job before it runs as fast as its accuracy SLO allows is
given up. They differ in which strategies the others get.

The paper has one device, where a plan holds if its latencies add up to no more than the budget. With several
workers, plans are lined up batch by batch instead (`solve/line_up.py`); budgets are where the search starts.
"""

import numpy as np

from mosel.online.jobs import LiveJob
from mosel.online.policies.base import Decision, Ints, View, cheapest, head_batch
from mosel.online.tables import Strategy, point
from mosel.solve.assign import Options as Choices
from mosel.solve.assign import best
from mosel.solve.line_up import Batches, ends

Plans = dict[int, Strategy]

MOST_REPAIRS = 8
"""How often strategies are chosen again because several workers would finish some jobs late."""


def none(view: View) -> Decision:
    """Keep every modality and every job: modality-agnostic, as in the paper."""
    return Decision(batch=head_batch(view, {}, np.arange(len(view.queue))))


def random(view: View) -> Decision:
    """Algorithm 1: jobs drawn at random get their fastest strategy until the violator's deadline holds.

    The violator's own latency counts, and it may be drawn, since its deadline cannot hold otherwise.
    """
    line = _Line(view)
    while (violator := line.violator()) is not None:
        line.quicken(int(view.rng.choice(line.slower(violator))))
    return line.decision()


def aggressive(view: View) -> Decision:
    """Give every job the fastest strategy that meets its accuracy SLO, at risk or not."""
    line = _Line(view)
    if len(line.kept):
        line.quicken(0)
    return line.decision()


def paper(view: View) -> Decision:
    """§5.2 as printed: one budget T up to the violator, it and its predecessors re-chosen.

    Without a violator T reaches to the last job's deadline, which restores accuracy; only the sum of all
    latencies is held against T, so an earlier job may become the next violator and is treated in turn. Where
    that has no end, the violator and its predecessors run as fast as they may.
    """
    line = _Line(view)
    if len(line.kept) and line.violator() is None:
        line.choose(np.full(len(line.kept), line.budget_ns[-1]))
    for _ in range(2 * len(line.kept) if line.alone else MOST_REPAIRS):
        violator = line.violator()
        if violator is None:
            break
        line.choose(np.full(violator + 1, line.budget_ns[violator]))
    line.hold()
    return line.decision()


def optimized(view: View) -> Decision:
    """Choose a strategy for every job so that accuracy is highest with **every** deadline held.

    Exact for one worker within `Options.work_cap`; beyond it the greedy answer stands in. With several workers
    the budgets of jobs that would end late are tightened until none does.
    """
    line = _Line(view)
    budget_ns = line.budget_ns.copy()
    for attempt in range(MOST_REPAIRS):
        line.choose(budget_ns)
        over_ns = line.over_ns()
        if not over_ns.any():
            break
        used_ns = np.cumsum(line.planned_ns)
        tighter_ns = np.maximum(np.cumsum(line.least_ns), used_ns - (over_ns << attempt))
        budget_ns = np.where(over_ns > 0, tighter_ns, budget_ns)
    line.hold()
    return line.decision()


class _Line:
    """The kept jobs in running order, and the strategy that each is to run."""

    def __init__(self, view: View) -> None:
        self.kept = view.feasible()
        self.budget_ns = view.budget_ns()[self.kept]
        self.least_ns = view.queue.ints("least_ns")[self.kept]
        self.planned_ns = view.queue.ints("planned_ns")[self.kept].copy()
        self._view = view
        self._by_ns = view.by_ns[self.kept]
        self._jobs = [view.queue.jobs[row] for row in self.kept]
        self._plans: Plans = {}
        self.alone = len(view.free_ns) == 1
        self._batches = [] if self.alone else [_batches(job, job.strategy) for job in self._jobs]

    def over_ns(self) -> Ints:
        """Return by how much each job would be late, 0 where it would not."""
        if self.alone:
            over_ns = np.cumsum(self.planned_ns) - self.budget_ns
        else:
            over_ns = ends(self._view.free_ns, Batches.of(self._batches)) - self._by_ns
        late_ns: Ints = np.maximum(over_ns, 0)
        return late_ns

    def violator(self) -> int | None:
        """Return the first job that would be late (§4.3)."""
        late = np.flatnonzero(self.over_ns())
        return int(late[0]) if len(late) else None

    def slower(self, last: int) -> Ints:
        """Return which of the jobs 0..last could run faster than planned."""
        slower = self.planned_ns[: last + 1] > self.least_ns[: last + 1]
        if not self.alone:
            pairs = zip(self._batches[: last + 1], self._jobs, strict=False)
            slower |= np.array([batches != job.least_batches_ns for batches, job in pairs])
        return np.flatnonzero(slower)

    def choose(self, budget_ns: Ints) -> None:
        """Maximise the accuracy of the first jobs, the work up to each of them within its budget."""
        jobs = self._jobs[: len(budget_ns)]
        options = [self._options(position) for position in range(len(jobs))]
        found = best(
            Choices.of(
                [
                    (job.frontier.latency_ns[which], job.frontier.accuracy[which])
                    for job, which in zip(jobs, options, strict=True)
                ]
            ),
            budget_ns,
            self._view.options.work_cap,
        )
        assert found is not None, "jobs that are kept fit at their fastest"
        for position, index in enumerate(found.choice):
            self._take(position, point(jobs[position].frontier, int(options[position][index])))

    def quicken(self, position: int) -> None:
        """Give a job its fastest strategy."""
        self._take(position, cheapest(self._jobs[position]))

    def hold(self) -> None:
        """Let the violator and its predecessors run as fast as they may, while there is one."""
        while (violator := self.violator()) is not None:
            for position in range(violator + 1):
                self.quicken(position)

    def decision(self) -> Decision:
        """Return what was decided: the rest is dropped, and the first job's first batch is next."""
        rows = np.arange(len(self._view.queue))
        dropped = np.setdiff1d(rows, self.kept, assume_unique=True)
        batch = head_batch(self._view, self._plans, self.kept)
        return Decision(tuple(int(row) for row in dropped), self._plans, batch)

    def _options(self, position: int) -> Ints:
        """The job's strategies that reach what is needed, and whose longest batch fits if it came first."""
        job = self._jobs[position]
        options: Ints = np.arange(job.first, len(job.frontier))
        if self.alone:
            return options
        longest_ns = job.table.longest_ns(job.bucket, job.mask, len(job.waiting))[job.first :]
        fits = longest_ns <= self._by_ns[position] - self._view.free_ns[0]
        fits[0] = True
        fitting: Ints = options[fits]
        return fitting

    def _take(self, position: int, strategy: Strategy) -> None:
        self._plans[int(self.kept[position])] = strategy
        self.planned_ns[position] = strategy.latency_ns
        if not self.alone:
            self._batches[position] = _batches(self._jobs[position], strategy)


def _batches(job: LiveJob, strategy: Strategy | None) -> tuple[int, ...]:
    assert strategy is not None, "a queued job has a strategy"
    return job.batches_ns(strategy)
