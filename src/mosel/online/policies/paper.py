"""The paper's policies (§5.2, §7.1, appendix A), and `optimized`, ours under the same roof.

All run jobs in deadline order, one strategy a job, batches inside a job only. All that drop share one rule
(§4.3): a job that misses its deadline although every job before it runs as fast as its accuracy SLO allows is
given up. They differ in which strategies the others get.

The paper has one device, where a plan holds if its latencies add up to no more than the budget. With several
workers, plans are lined up batch by batch instead (`solve/line_up.py`); budgets are where the search starts.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from mosel.online.policies.base import Decision, Ints, View, head_batch
from mosel.online.tables import Strategy, point
from mosel.solve.assign import Options as Choices
from mosel.solve.line_up import Batches, ends

IN_FORCE = -1
"""Stands for the strategy that a job has already."""

MOST_REPAIRS = 8
"""How often strategies are chosen again because several workers would finish some jobs late."""


def none(view: View) -> Decision:
    """Keep every modality and every job: modality-agnostic, as in the paper."""
    return Decision(batch=head_batch(view, {}, np.arange(len(view.queue)), late=True))


def random(view: View) -> Decision:
    """Algorithm 1: jobs drawn at random get their fastest strategy until the violator's deadline holds.

    The violator's own latency counts, and it may be drawn, since its deadline cannot hold otherwise.
    """
    line = _Line(view)
    while (violator := line.violator()) is not None:
        line.quicken((int(view.rng.choice(line.slower(violator))),))
    return line.decision()


def aggressive(view: View) -> Decision:
    """Give every job the fastest strategy that meets its accuracy SLO, at risk or not."""
    line = _Line(view)
    if len(line.kept):
        line.quicken((0,))
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
    line = _Line(view, wide=True)
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
    """The kept jobs in running order, and the strategy that each is to run.

    A job's options are the strategies of its frontier (𝒫) that reach what it needs, fastest first; `_chosen`
    holds indices into the frontier, or `IN_FORCE`. Cascades are among them if the line is `wide`.
    """

    def __init__(self, view: View, wide: bool = False) -> None:
        self.kept = view.feasible()
        self.budget_ns = view.budget_ns()[self.kept]
        self.least_ns = view.queue.ints("least_ns")[self.kept]
        if view.pools:  # where workers differ, budgets only estimate what lining up says exactly
            self.budget_ns = np.maximum(self.budget_ns, np.cumsum(self.least_ns))
        self.planned_ns = view.queue.ints("planned_ns")[self.kept].copy()
        self.alone = len(view.free_ns) == 1
        self._view = view
        self._wide = wide
        self._by_ns = view.by_ns[self.kept]
        self._jobs = [view.queue.jobs[row] for row in self.kept.tolist()]
        self._accuracy = view.queue.floats("planned_accuracy")[self.kept].copy()
        self._chosen: Ints = np.full(len(self.kept), IN_FORCE)
        self._batches_ns = [] if self.alone else [job.batches_ns(job.strategy) for job in self._jobs]

    def over_ns(self) -> Ints:
        """Return by how much each job would be late, 0 where it would not."""
        if self.alone:
            over_ns = np.cumsum(self.planned_ns) - self.budget_ns
        else:
            over_ns = ends(self._view.free_ns, Batches.of(self._batches_ns), self._view.slow) - self._by_ns
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
            pairs = zip(self._batches_ns[: last + 1], self._jobs, strict=False)
            slower |= np.array([batches_ns != job.least_batches_ns for batches_ns, job in pairs])
        return np.flatnonzero(slower)

    def choose(self, budget_ns: Ints) -> None:
        """Maximise the accuracy of the first jobs, the work up to each of them within its budget."""
        jobs = len(budget_ns)
        options, which = self._options
        found = self._view.search.best(options.first(jobs), budget_ns, self._view.options.work_cap)
        assert found is not None, "jobs that are kept fit at their fastest"
        taken = options.offsets[:jobs] + found.choice
        self._chosen[:jobs] = which[taken]
        self.planned_ns[:jobs] = options.latency_ns[taken]
        self._accuracy[:jobs] = options.gain[taken]
        self._follow(range(jobs))

    def quicken(self, positions: Iterable[int]) -> None:
        """Give jobs their fastest strategies."""
        for position in positions:
            job = self._jobs[position]
            frontier, first = job.options(self._wide)
            self._chosen[position] = first
            self.planned_ns[position] = frontier.latency_ns[first]
            self._accuracy[position] = frontier.accuracy[first]
            self._follow((position,))

    def hold(self) -> None:
        """Let the violator and its predecessors run as fast as they may, while there is one."""
        while (violator := self.violator()) is not None:
            self.quicken(range(violator + 1))

    def decision(self) -> Decision:
        """Return what was decided: the rest is dropped, and the first job's first batch is next."""
        view = self._view
        dropped = np.ones(len(view.queue), np.bool_)
        dropped[self.kept] = False
        plans = {int(self.kept[position]): self._strategy(position) for position in self._changed()}
        batch = head_batch(view, plans, self.kept)
        return Decision(tuple(np.flatnonzero(dropped).tolist()), plans, batch, answer=self._answered(plans))

    def _answered(self, plans: Mapping[int, Strategy]) -> tuple[int, ...]:
        """The rows of which nothing is to run once more."""
        pairs = zip(self.kept.tolist(), self._jobs, strict=True)
        planned = ((row, plans.get(row) or job.strategy) for row, job in pairs if job.escalates)
        return tuple(row for row, strategy in planned if strategy is not None and not strategy.batches)

    @cached_property
    def _options(self) -> tuple[Choices, Ints]:
        """Every job's options, and which of its frontier each is."""
        jobs = self._jobs
        kinds: dict[tuple[int, int], int] = {}  # jobs of the same size and needs have the same options
        each = [job.options(self._wide) for job in jobs]
        kind = [kinds.setdefault((id(frontier), first), len(kinds)) for frontier, first in each]
        alike = dict(zip(kind, each, strict=True))
        pairs = [alike[at] for at in range(len(kinds))]
        of_kinds = Choices.of([(front.latency_ns[at:], front.accuracy[at:]) for front, at in pairs])
        options = of_kinds.pick(np.array(kind, np.int64))
        first = np.array([at for _, at in pairs], np.int64)[kind]
        which = np.arange(options.offsets[-1]) + np.repeat(
            first - options.offsets[:-1], np.diff(options.offsets)
        )
        return self._fitting(options, which) if jobs and not self.alone else (options, which)

    def _fitting(self, options: Choices, which: Ints) -> tuple[Choices, Ints]:
        """Those whose longest batch fits if it came first, and each job's fastest."""
        longest_ns = [job.longest_ns(self._wide)[job.options(self._wide)[1] :] for job in self._jobs]
        room_ns = np.repeat(self._by_ns - self._view.free_ns[0], np.diff(options.offsets))
        fits = np.concatenate(longest_ns) <= room_ns
        fits[options.offsets[:-1]] = True
        return options.only(fits), which[fits]

    def _changed(self) -> list[int]:
        """The jobs that are to run otherwise than is in force; the first, which runs next, if it was chosen."""
        queue = self._view.queue
        changed = self.planned_ns != queue.ints("planned_ns")[self.kept]
        changed |= self._accuracy != queue.floats("planned_accuracy")[self.kept]
        changed[:1] = True
        found: list[int] = np.flatnonzero(changed & (self._chosen != IN_FORCE)).tolist()
        return found

    def _strategy(self, position: int) -> Strategy:
        return point(self._jobs[position].options(self._wide)[0], int(self._chosen[position]))

    def _follow(self, positions: Iterable[int]) -> None:
        """Look up the batches of what was chosen, where they are lined up."""
        if not self.alone:
            for position in positions:
                job, chosen = self._jobs[position], int(self._chosen[position])
                self._batches_ns[position] = job.option_ns(chosen, self._wide)
