"""The scheduler: a state machine with no clock, no I/O, no threads and no randomness of its own.

Rules:
1. `handle(events, now_ns) -> actions` is all there is; the live engine and the simulator drive the same object.
2. Events are taken in first, all of them; then, while a worker can take work, the policy decides.
3. Every job that arrives leaves in exactly one `Complete`; a report about a batch that is not known is ignored.
4. Under a policy that drops, a job that has become hopeless is told at once, at the time at which it does.
5. What is decided concerns one cell (`cells.py`), its workers and its queue; few workers are one cell.

Paper: §4.3 and Fig. 4 (monitor), §5.2. What a policy decides stands in `policies/`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mosel.core.errors import UsageError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Batch, Part, Receipt
from mosel.online.admission import refusal_of
from mosel.online.cells import Cell
from mosel.online.cellular import Cells
from mosel.online.estimator import Estimator
from mosel.online.events import (
    Action,
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Dispatch,
    Event,
    Finished,
    Retired,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
    WorkerRetiring,
)
from mosel.online.fairness import Fairness
from mosel.online.jobs import MOST_FAULTS, LiveJob, Progress, run_of
from mosel.online.kinds import Kinds
from mosel.online.policies import DEFAULT, POLICIES, Options
from mosel.online.policies.base import BatchChoice, Decision, View
from mosel.online.resuming import resuming
from mosel.online.sent import Sent
from mosel.online.stages import Stages


class Scheduler:
    """Keeps jobs in deadline order and decides what runs, in which modes, and what is given up.

    Args:
        profiles: 𝒟 by model name, the same for all workers if `workers` is their number; else of all models
            that workers have or may be given later.
        workers: how many there are, or the profiles of each by model name; they are numbered from 0, and each
            takes work after its `WorkerReady`. A worker never runs a model that it has no profile of.
        policy: a name in `POLICIES`.
        seed: for policies that draw lots.
        options: see `Options`.

    Raises:
        UsageError: the policy is not known, there is no worker, one has no profile, or two of them disagree
            about the modalities of a model.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        *,
        workers: int | Sequence[Mapping[str, Profile]] = 1,
        policy: str = DEFAULT,
        seed: int = 0,
        options: Options | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise UsageError(f"policy {policy!r} is not known; expected one of {', '.join(POLICIES)}")
        self._policy = POLICIES[policy]
        self._kinds = Kinds([profiles] * workers if isinstance(workers, int) else workers, profiles)
        options = options or Options()
        self._fairness = Fairness(options.fairness)
        rng = np.random.default_rng(seed)
        self._cells = Cells(self._kinds, self._policy, options, rng, self._fairness)
        self._stages = Stages()
        self._live: dict[str, Progress] = {}
        self._batches = 0
        self._wake_ns: int | None = None
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            Arrived: self._arrived,
            Cancelled: self._cancelled,
            WorkerReady: self._worker_ready,
            WorkerRetiring: self._worker_retiring,
            WorkerLost: self._worker_lost,
            Finished: self._finished,
            BatchFailed: self._batch_failed,
            Tick: self._tick,
            Shutdown: self._shutdown,
        }

    @property
    def queued(self) -> int:
        """How many jobs have requests waiting."""
        return sum(len(cell.jobs) for cell in self._cells.all)

    @property
    def live(self) -> int:
        """How many jobs have no outcome yet."""
        return len(self._live)

    @property
    def estimator(self) -> Estimator:
        """The estimates in force for the first worker's kind, for metrics; not to be changed by the reader."""
        return self._kinds.of(0).estimator

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened up to `now_ns` and return what is to be done, in order.

        Raises:
            UsageError: a job of an unknown model, or with the id of a job that has no outcome yet.
        """
        for event in events:
            self._handlers[type(event)](event, now_ns)
        self._follow(now_ns)
        for cell in self._cells.astir(now_ns):
            self._give_up_hopeless(cell, now_ns)
            sent = self._batches
            wait_until_ns = self._decide(cell, now_ns)
            if self._batches > sent:  # behind what was sent there may be no time left
                self._give_up_hopeless(cell, now_ns)
            self._cells.settle(cell, now_ns, wait_until_ns)
        self._actions += [Retired(worker) for worker in self._cells.let_go()]
        self._set_wake()
        actions, self._actions = self._actions, []
        return actions

    # Events

    def _arrived(self, event: Arrived, now_ns: int) -> None:
        job = event.job
        if job.model not in self._kinds.models or job.id in self._live:
            known = ", ".join(self._kinds.models)
            raise UsageError(f"job {job.id!r} of model {job.model!r}: the id is taken, or not one of {known}")
        progress = Progress(job, self._kinds.mask_of(job), list(range(job.requests)))
        refusal = refusal_of(progress, self._kinds.all, self._cells.largest, now_ns)
        if refusal is not None:
            self._actions.append(Complete(progress.end(State.REJECTED, *refusal, now_ns)))
            progress.leave()
            if refusal[0] is Reason.LATENCY_UNREACHABLE:
                self._starve(now_ns)
            return
        cell = self._cells.only or self._cells.route(progress, max(now_ns, job.arrival_ns))
        assert cell is not None, "a job that is accepted could be served"
        self._live[job.id] = progress
        progress.move(State.QUEUED)
        self._cells.put(progress, cell, looked_up=True)
        cell.note(progress, now_ns)
        self._fairness.arrived(job)

    def _cancelled(self, event: Cancelled, now_ns: int) -> None:
        if progress := self._live.get(event.job):
            self._end(progress, State.DROPPED, Reason.CANCELLED, "the client went away", now_ns)

    def _worker_ready(self, event: WorkerReady, now_ns: int) -> None:
        waiting = [] if event.profiles is None else self._cells.assign(event.worker, event.profiles)
        self._cells.ready(event.worker)
        for progress in waiting:
            self._wait(progress, now_ns)

    def _worker_retiring(self, event: WorkerRetiring, now_ns: int) -> None:
        self._cells.retire(event.worker)
        self._release(event.worker)
        self._cells.spread(event.worker, now_ns)

    def _worker_lost(self, event: WorkerLost, now_ns: int) -> None:
        for sent in self._cells.lose(event.worker):
            for live, part in self._parts(sent):
                progress = live.progress
                if sent.start_ns is not None:
                    progress.blame(Reason.WORKER_LOST, event.detail)
                elif progress.fault is None:  # a batch that only waited counts for nothing, but is the reason
                    progress.fault, progress.detail = Reason.WORKER_LOST, event.detail
                self._give_back(live, part.requests, sent.mode, now_ns)
        self._release(event.worker)
        self._cells.spread(event.worker, now_ns)

    def _finished(self, event: Finished, now_ns: int) -> None:
        sent = self._cells.report(event.batch, now_ns)
        if sent is None:
            return
        assert sent.start_ns is not None
        if not (event.fits or event.whole):
            self._learn(sent, event.took_ns, now_ns)
        run = run_of(sent.batch, sent.start_ns, now_ns, whole=event.whole)
        for live, part in self._parts(sent):
            undone = {c.request: c for c in event.undone if c.job == live.job.id} if event.undone else {}
            done = [r for r in part.requests if r not in undone] if undone else part.requests
            live.progress.settle(done, run)
            kept = sent.kept(event, part.job) if event.kept else ()
            sure = sent.judged(event, part.job) if sent.batch.judged else {}
            self._stages.settle(live, done, sure, kept, sent.batch.worker)
            if undone:
                self._corrupt(live, sent.mode, tuple(undone), next(iter(undone.values())), now_ns)
            else:
                self._go_on(live.progress, now_ns)
        if event.fits:
            self._limit(sent, event.fits)

    def _batch_failed(self, event: BatchFailed, now_ns: int) -> None:
        sent = self._cells.report(event.batch, now_ns, failed=True)
        if sent is None:
            return
        for live, part in self._parts(sent):
            live.progress.blame(Reason.MODEL_FAILED, event.detail)
            self._give_back(live, part.requests, sent.mode, now_ns)

    def _tick(self, _event: Tick, _now_ns: int) -> None:
        """What is due is found by deciding anew; a tick that came early is asked for again."""
        self._wake_ns = None

    def _shutdown(self, _event: Shutdown, now_ns: int) -> None:
        for progress in list(self._live.values()):
            if progress.answerable and not progress.running:
                self._answer(progress, now_ns)
                continue
            self._end(progress, State.DROPPED, Reason.SHUTDOWN, "the server is stopping", now_ns)

    # What follows from them

    def _parts(self, sent: Sent) -> list[tuple[LiveJob, Part]]:
        """The parts of a batch whose jobs have no outcome yet."""
        pairs = zip(sent.jobs, sent.batch.parts, strict=True)
        return [(live, part) for live, part in pairs if self._live.get(live.job.id) is live.progress]

    def _release(self, worker: int) -> None:
        """What a worker kept is gone, or soon will be."""
        for progress in self._live.values():
            if progress.holder == worker:
                progress.release()
                self._cells.put(progress, self._cells.all[progress.cell])

    def _corrupt(self, live: LiveJob, mode: int, requests: tuple[int, ...], first: Any, now_ns: int) -> None:
        """A modality could not be decoded: the job goes on without it if its SLO allows."""
        progress = live.progress
        progress.mask &= ~live.table.mask_of((first.modality,))
        progress.detail = f"modality {first.modality} could not be decoded: {first.detail}"
        progress.fault = Reason.BAD_INPUT
        self._give_back(live, requests, mode, now_ns)

    def _give_back(self, live: LiveJob, requests: Sequence[int], mode: int, now_ns: int) -> None:
        """Let requests wait again, or end the job if it has failed too often or can no longer be served."""
        progress = live.progress
        live.give_back(requests, mode)
        self._stages.prune(live)
        if progress.answerable:  # a job that was hit takes the answers that it has
            self._answer(progress, now_ns)
            return
        cell = self._cells.place(progress, now_ns)
        if progress.faults >= MOST_FAULTS or cell is None:
            assert progress.fault is not None
            self._end(progress, State.FAILED, progress.fault, progress.detail, now_ns)
            return
        self._cells.put(progress, cell)

    def _go_on(self, progress: Progress, now_ns: int) -> None:
        """Answer a job that is done; let its unsure requests wait for their next stage."""
        if progress.is_done:
            self._complete(progress, progress.finish(now_ns))
        elif progress.unsure and progress.faults and progress.answerable:
            self._answer(progress, now_ns)
        elif progress.unsure:
            self._wait(progress, now_ns)

    def _wait(self, progress: Progress, now_ns: int) -> None:
        """Let a job wait where it did, or where there is still a worker for it; end it if there is none."""
        home: Cell | None = self._cells.all[progress.cell]
        if self._kinds.moved and home is not None and not home.takes(progress):
            home = self._cells.place(progress, now_ns)
        if home is not None:
            self._cells.put(progress, home)
        elif progress.answerable:
            self._answer(progress, now_ns)
        else:
            detail = "no worker has what it needs any more"
            self._end(progress, State.DROPPED, Reason.NO_TIME_LEFT, detail, now_ns)

    def _answer(self, progress: Progress, now_ns: int) -> None:
        """Let no unsure request run once more; the job is answered when nothing of it runs."""
        self._stages.leave_out(progress)
        self._cells.take_out(progress)
        if progress.is_done:
            self._complete(progress, progress.finish(now_ns))

    def _learn(self, sent: Sent, took_ns: int, now_ns: int) -> None:
        assert sent.start_ns is not None
        occupied_ns = now_ns - sent.start_ns
        if self._kinds.observe(sent.batch, sent.profiled_ns, took_ns, occupied_ns, now_ns):
            self._cells.regroup(sent.batch.worker)

    def _limit(self, sent: Sent, size: int) -> None:
        """Memory did not hold a batch, which then ran in pieces: none so large is sent any more."""
        if moved := self._kinds.limit(sent.batch, size):
            self._cells.reload(moved)

    def _follow(self, now_ns: int) -> None:
        """Let tables and queues follow the estimates."""
        if moved := self._kinds.follow(now_ns):
            self._cells.reload(moved)

    def _give_up_hopeless(self, cell: Cell, now_ns: int) -> None:
        """Rule 4, for jobs that could not be served even if they were next."""
        if self._policy.drops and cell.jobs:
            self._give_up(cell.hopeless(now_ns), now_ns)

    def _give_up(self, jobs: Sequence[Progress], now_ns: int) -> None:
        for progress in jobs:
            if progress.answerable:
                self._answer(progress, now_ns)
            elif progress.fault is not None:
                self._end(progress, State.FAILED, progress.fault, progress.detail, now_ns)
            else:
                detail = "behind the jobs due before it, it could no longer finish by its deadline"
                self._end(progress, State.DROPPED, Reason.NO_TIME_LEFT, detail, now_ns)
                self._starve(now_ns)

    def _starve(self, now_ns: int) -> None:
        """A job was given up for want of time: the estimates may be to blame if nothing runs under them."""
        if self._cells.idle:
            self._kinds.starved(now_ns)

    # Decisions

    def _decide(self, cell: Cell, now_ns: int) -> int | None:
        """Let the policy fill workers; returns when it wants to be asked again, if it waits."""
        passed: set[int] = set()
        waits: list[int] = []
        while cell.jobs or self._cells.help_out(cell, now_ns):
            seat = cell.ripe(now_ns, passed)
            if seat is None:
                break
            if cell.resuming:
                cell.release(seat, now_ns)
            view = cell.view(seat, now_ns)
            decision = Decision() if view is None else self._policy.decide(view)
            if view is None or not self._apply(decision, view, now_ns):
                passed.add(int(cell.crew.lanes[seat]))
                waits += [] if decision.wait_until_ns is None else [decision.wait_until_ns]
        return min(waits, default=None)

    def _apply(self, decision: Decision, view: View, now_ns: int) -> bool:
        """Carry out a decision; whether it sent a batch."""
        jobs = view.queue.jobs
        dropped = [jobs[row].progress for row in decision.drop]
        answered = [jobs[row].progress for row in decision.answer]
        cell = self._cells.of(view.worker)
        for row, strategy in decision.plans.items():
            cell.plan(jobs[row], view.worker, strategy)
        if decision.batch is not None:
            self._send(decision.batch, [jobs[row] for row, _ in decision.batch.parts], view.worker, now_ns)
        self._give_up(dropped, now_ns)
        for progress in answered:
            self._answer(progress, now_ns)
        return decision.batch is not None or bool(answered)

    def _send(self, choice: BatchChoice, jobs: Sequence[LiveJob], worker: int, now_ns: int) -> None:
        counts = [count for _, count in choice.parts]
        parts = tuple(
            Part(live.job.id, live.take(count, choice.column)) for live, count in zip(jobs, counts, strict=True)
        )
        table, bucket, cascade = choice.table, choice.bucket, choice.table.cascade(choice.column)
        mode = choice.column if cascade is None else cascade.first
        expected_ns, first, resumes = resuming(choice, jobs, parts, worker, mode)
        what = table.model, table.modes[mode], bucket, parts, expected_ns, cascade is not None
        batch = Batch(self._batches, worker, *what, cascade.keep_below if cascade else None, first, resumes)
        self._batches += 1
        self._cells.send(Sent(batch, table, mode, tuple(jobs), None), now_ns)
        self._actions.append(Dispatch(batch))

    def _set_wake(self) -> None:
        """Ask to be woken when something has to happen although no event comes."""
        wake_ns = self._cells.wake_ns
        if wake_ns is not None and wake_ns != self._wake_ns:
            self._wake_ns = wake_ns
            self._actions.append(WakeAt(wake_ns))

    # Outcomes

    def _end(self, progress: Progress, outcome: State, reason: Reason, detail: str, now_ns: int) -> None:
        self._complete(progress, progress.end(outcome, reason, detail, now_ns))

    def _complete(self, progress: Progress, receipt: Receipt) -> None:
        self._cells.take_out(progress)
        del self._live[progress.job.id]
        progress.leave()
        self._fairness.decided(progress.job, on_time=receipt.outcome is State.SERVED)
        self._actions.append(Complete(receipt))
