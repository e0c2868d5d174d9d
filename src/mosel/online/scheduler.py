"""The scheduler: a state machine with no clock, no I/O, no threads and no randomness of its own.

Rules:
1. `handle(events, now_ns) -> actions` is all there is; the live engine and the simulator drive the same object.
2. Events are taken in first, all of them; then, while a worker can take work, the policy decides.
3. Every job that arrives leaves in exactly one `Complete`; a report about a batch that is not known is ignored.
4. Under a policy that drops, a job that has become hopeless is told at once, at the time at which it does.

Paper: §4.3 and Fig. 4 (monitor), §5.2. What a policy decides stands in `policies/`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import UsageError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Batch, Part, Receipt
from mosel.online.admission import alone_ns, refusal_of
from mosel.online.amortised import Amortised
from mosel.online.crew import Crew, Sent
from mosel.online.demand import Demand
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
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.jobs import MOST_FAULTS, LiveJob, run_of
from mosel.online.policies import DEFAULT, POLICIES, Options
from mosel.online.policies.base import BatchChoice, Decision, View
from mosel.online.queue import JobQueue
from mosel.online.tables import ModelTable
from mosel.solve.assign import Search
from mosel.solve.line_up import Batches, ends_alone


class Scheduler:
    """Keeps jobs in deadline order and decides what runs, in which modes, and what is given up.

    Args:
        profiles: 𝒟 by model name.
        workers: how many workers there are, numbered from 0; each takes work after its `WorkerReady`.
        policy: a name in `POLICIES`.
        seed: for policies that draw lots.
        options: see `Options`.

    Raises:
        UsageError: the policy is not known.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        *,
        workers: int = 1,
        policy: str = DEFAULT,
        seed: int = 0,
        options: Options | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise UsageError(f"policy {policy!r} is not known; expected one of {', '.join(POLICIES)}")
        self._policy = POLICIES[policy]
        self._options = options or Options()
        self._rng = np.random.default_rng(seed)
        self._tables = {name: ModelTable(profile) for name, profile in profiles.items()}
        self._estimator = Estimator()
        self._amortised = Amortised(self._tables.values())
        self._demand = Demand()
        self._search = Search()
        self._crew = Crew(workers)
        self._queue = JobQueue()
        self._live: dict[str, LiveJob] = {}
        self._batches = 0
        self._wake_ns: int | None = None
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            Arrived: self._arrived,
            Cancelled: self._cancelled,
            WorkerReady: self._worker_ready,
            WorkerLost: self._worker_lost,
            Finished: self._finished,
            BatchFailed: self._batch_failed,
            Tick: self._tick,
            Shutdown: self._shutdown,
        }

    @property
    def queued(self) -> int:
        """How many jobs have requests waiting."""
        return len(self._queue)

    @property
    def live(self) -> int:
        """How many jobs have no outcome yet."""
        return len(self._live)

    @property
    def estimator(self) -> Estimator:
        """The estimates in force, for metrics; not to be changed by the reader."""
        return self._estimator

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened up to `now_ns` and return what is to be done, in order.

        Raises:
            UsageError: a job of an unknown model, or with the id of a job that has no outcome yet.
        """
        for event in events:
            self._handlers[type(event)](event, now_ns)
        self._follow()
        self._give_up_hopeless(now_ns)
        sent = self._batches
        wait_until_ns = self._decide(now_ns)
        if self._batches > sent:  # behind what was sent there may be no time left
            self._give_up_hopeless(now_ns)
        self._set_wake(now_ns, wait_until_ns)
        actions, self._actions = self._actions, []
        return actions

    # Events

    def _arrived(self, event: Arrived, now_ns: int) -> None:
        job = event.job
        if job.model not in self._tables or job.id in self._live:
            known = ", ".join(self._tables)
            raise UsageError(f"job {job.id!r} of model {job.model!r}: the id is taken, or not one of {known}")
        table = self._tables[job.model]
        live = LiveJob(job, table, 0, table.mask_of(job.modalities), list(range(job.requests)))
        refusal = refusal_of(live, len(self._crew.workers), now_ns)
        if refusal is not None:
            self._actions.append(Complete(live.end(State.REJECTED, *refusal, now_ns)))
            if refusal[0] is Reason.LATENCY_UNREACHABLE:
                self._starve(now_ns)
            return
        self._live[job.id] = live
        live.move(State.QUEUED)
        self._enqueue(live)
        self._note(live, now_ns)

    def _cancelled(self, event: Cancelled, now_ns: int) -> None:
        if live := self._live.get(event.job):
            self._end(live, State.DROPPED, Reason.CANCELLED, "the client went away", now_ns)

    def _worker_ready(self, event: WorkerReady, _now_ns: int) -> None:
        self._crew.workers[event.worker].up = True

    def _worker_lost(self, event: WorkerLost, now_ns: int) -> None:
        for sent in self._crew.lose(event.worker):
            for live, part in self._parts(sent):
                if sent.start_ns is not None:
                    live.blame(Reason.WORKER_LOST, event.detail)
                elif live.fault is None:  # a batch that only waited counts for nothing, but is the reason
                    live.fault, live.detail = Reason.WORKER_LOST, event.detail
                self._give_back(live, part.requests, sent.mode, now_ns)

    def _finished(self, event: Finished, now_ns: int) -> None:
        sent = self._crew.report(event.batch, now_ns)
        if sent is None:
            return
        assert sent.start_ns is not None
        self._learn(sent, event.took_ns, now_ns)
        run = run_of(sent.batch, sent.start_ns, now_ns)
        for live, part in self._parts(sent):
            undone = {c.request: c for c in event.undone if c.job == live.job.id}
            live.settle([r for r in part.requests if r not in undone], run)
            if undone:
                self._corrupt(live, sent.mode, tuple(undone), next(iter(undone.values())), now_ns)
            elif live.is_done:
                self._complete(live, live.finish(now_ns))

    def _batch_failed(self, event: BatchFailed, now_ns: int) -> None:
        sent = self._crew.report(event.batch, now_ns)
        if sent is None:
            return
        for live, part in self._parts(sent):
            live.blame(Reason.MODEL_FAILED, event.detail)
            self._give_back(live, part.requests, sent.mode, now_ns)

    def _tick(self, _event: Tick, _now_ns: int) -> None:
        """What is due is found by deciding anew; a tick that came early is asked for again."""
        self._wake_ns = None

    def _shutdown(self, _event: Shutdown, now_ns: int) -> None:
        for live in list(self._live.values()):
            self._end(live, State.DROPPED, Reason.SHUTDOWN, "the server is stopping", now_ns)

    # What follows from them

    def _parts(self, sent: Sent) -> list[tuple[LiveJob, Part]]:
        """The parts of a batch whose jobs have no outcome yet."""
        pairs = zip(sent.jobs, sent.batch.parts, strict=True)
        return [(live, part) for live, part in pairs if self._live.get(live.job.id) is live]

    def _corrupt(self, live: LiveJob, mode: int, requests: tuple[int, ...], first: Any, now_ns: int) -> None:
        """A modality could not be decoded: the job goes on without it if its SLO allows."""
        live.mask &= ~live.table.mask_of((first.modality,))
        live.detail = f"modality {first.modality} could not be decoded: {first.detail}"
        live.fault = Reason.BAD_INPUT
        self._give_back(live, requests, mode, now_ns)

    def _give_back(self, live: LiveJob, requests: Sequence[int], mode: int, now_ns: int) -> None:
        """Let requests wait again, or end the job if it has failed too often or can no longer be served."""
        live.give_back(requests, mode)
        live.look_up()
        in_time = live.reachable and now_ns + alone_ns(live, len(self._crew.workers)) <= live.job.deadline_ns
        if live.faults >= MOST_FAULTS or not in_time:
            assert live.fault is not None
            self._end(live, State.FAILED, live.fault, live.detail, now_ns)
            return
        row = self._queue.row(live)
        if row is None:
            self._enqueue(live)
        else:
            self._refresh(row)

    def _learn(self, sent: Sent, took_ns: int, now_ns: int) -> None:
        assert sent.start_ns is not None
        occupied_ns = now_ns - sent.start_ns
        table, batch = sent.table, sent.batch
        profiled_ns = int(table.profiled_ns[sent.mode, batch.bucket, batch.size])
        predicted_ns = max(batch.expected_ns, table.corrected_ns(batch.mode, profiled_ns))
        what = table.model, batch.mode, profiled_ns
        self._estimator.observe(*what, took_ns, occupied_ns, predicted_ns, now_ns)

    def _note(self, live: LiveJob, now_ns: int) -> None:
        """Let the demand include a job that has just arrived."""
        if self._policy.shares:
            low, high = live.shared
            work_ns = self._amortised.menu.work_ns
            worth = live.job.requests * live.job.weight
            cost_ns = work_ns[low] / worth if worth > 0 else np.inf
            self._demand.observe(now_ns, float(cost_ns), float(work_ns[low]), float(work_ns[high - 1]))

    def _follow(self) -> None:
        """Let tables and queue follow the estimates."""
        moved = {table for table in self._tables.values() if table.follow(self._estimator)}
        if moved:
            self._amortised.rebuild()
            self._estimator.forgive(lambda model, *what: self._tables[model].corrected_ns(*what))
        for row, live in enumerate(self._queue.jobs if moved else ()):
            if live.table in moved:
                live.strategy = None
            self._refresh(row)

    def _give_up_hopeless(self, now_ns: int) -> None:
        """Rule 4, for jobs that could not be served even if they were next."""
        if not self._policy.drops or not len(self._queue):
            return
        free_ns = self._crew.free_ns(now_ns)
        if not len(free_ns):
            free_ns = np.full(len(self._crew.workers), now_ns)
        late = np.flatnonzero(self._alone_ns(free_ns) > self._queue.ints("deadline_ns"))
        self._give_up([self._queue.jobs[row] for row in late], now_ns)

    def _alone_ns(self, free_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each job in the queue would end if it were next, as fast as it may be."""
        if len(free_ns) == 1:
            alone_ns: NDArray[np.int64] = free_ns[0] + self._queue.ints("least_ns")
            return alone_ns
        return ends_alone(free_ns, Batches.of([live.least_batches_ns for live in self._queue.jobs]))

    def _give_up(self, jobs: Sequence[LiveJob], now_ns: int) -> None:
        for live in jobs:
            if live.fault is not None:
                self._end(live, State.FAILED, live.fault, live.detail, now_ns)
            else:
                detail = "behind the jobs due before it, it could no longer finish by its deadline"
                self._end(live, State.DROPPED, Reason.NO_TIME_LEFT, detail, now_ns)
                self._starve(now_ns)

    def _starve(self, now_ns: int) -> None:
        """A job was given up for want of time: the estimates may be to blame if nothing runs under them."""
        if self._crew.up and self._crew.idle:
            self._estimator.starved(now_ns)

    # Decisions

    def _decide(self, now_ns: int) -> int | None:
        """Let the policy fill workers; returns when it wants to be asked again, if it waits."""
        while len(self._queue):
            worker = self._crew.ripe(now_ns, self._options.lead_ns)
            if worker is None:
                return None
            decision = self._policy.decide(self._view(worker, now_ns))
            if not self._apply(decision, worker, now_ns):
                return decision.wait_until_ns
        return None

    def _view(self, worker: int, now_ns: int) -> View:
        return View(
            now_ns,
            worker,
            self._crew.workers[worker].free_ns(now_ns),
            self._crew.free_ns(now_ns),
            self._queue,
            self._estimator.margin_ns,
            self._options,
            self._rng,
            self._amortised,
            self._demand,
            self._search,
        )

    def _apply(self, decision: Decision, worker: int, now_ns: int) -> bool:
        """Carry out a decision; whether it sent a batch."""
        dropped = [self._queue.jobs[row] for row in decision.drop]
        for row, strategy in decision.plans.items():
            self._queue.plan(row, strategy)
        if decision.batch is not None:
            self._send(decision.batch, worker, now_ns)
        self._give_up(dropped, now_ns)
        return decision.batch is not None

    def _send(self, choice: BatchChoice, worker: int, now_ns: int) -> None:
        jobs = tuple(self._queue.jobs[row] for row, _ in choice.parts)
        counts = [count for _, count in choice.parts]
        parts = tuple(
            Part(live.job.id, live.take(count, choice.mode)) for live, count in zip(jobs, counts, strict=True)
        )
        expected_ns = int(choice.table.latency_ns[choice.mode, choice.bucket, sum(counts)])
        mode = choice.table.modes[choice.mode]
        batch = Batch(self._batches, worker, choice.table.model, mode, choice.bucket, parts, expected_ns)
        self._batches += 1
        self._crew.send(Sent(batch, choice.table, choice.mode, jobs, None), now_ns)
        self._actions.append(Dispatch(batch))
        for live in jobs:
            row = self._queue.row(live)
            assert row is not None
            if live.waiting:
                self._refresh(row)
            else:
                self._queue.remove(row)

    def _set_wake(self, now_ns: int, wait_until_ns: int | None) -> None:
        """Ask to be woken when a worker's lead begins, a job becomes hopeless, or the policy wants to."""
        times = [wait_until_ns] if wait_until_ns is not None else []
        if len(self._queue):
            ripe_ns = self._crew.next_ripe_ns(now_ns, self._options.lead_ns)
            times += [ripe_ns] if ripe_ns is not None else []
            if self._policy.drops:
                idle = np.zeros(self._crew.up or len(self._crew.workers), np.int64)
                latest = self._queue.ints("deadline_ns") - self._alone_ns(idle)
                ahead = latest[latest >= now_ns]
                times += [int(ahead.min()) + 1] if len(ahead) else []
        if times and (wake_ns := min(times)) != self._wake_ns:
            self._wake_ns = wake_ns
            self._actions.append(WakeAt(wake_ns))

    # The queue and outcomes

    def _enqueue(self, live: LiveJob) -> None:
        least = self._policy.least(live)
        live.strategy = self._policy.first(live)
        self._share(live)
        self._queue.insert(live, least)

    def _refresh(self, row: int) -> None:
        live = self._queue.jobs[row]
        live.look_up()
        live.strategy = live.strategy or self._policy.first(live)
        self._share(live)
        self._queue.refresh(row, self._policy.least(live))

    def _share(self, live: LiveJob) -> None:
        """Look up what the job costs where batches are shared, if the policy shares any."""
        if self._policy.shares:
            live.shared = self._amortised.reach(
                live.table, live.bucket, live.mask, len(live.waiting), live.needed
            )

    def _end(self, live: LiveJob, outcome: State, reason: Reason, detail: str, now_ns: int) -> None:
        self._complete(live, live.end(outcome, reason, detail, now_ns))

    def _complete(self, live: LiveJob, receipt: Receipt) -> None:
        row = self._queue.row(live)
        if row is not None:
            self._queue.remove(row)
        del self._live[live.job.id]
        self._actions.append(Complete(receipt))
