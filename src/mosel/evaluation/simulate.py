"""The scheduler in virtual time: the same object that the live engine drives, with a heap for a world.

Rules:
1. Events of the same instant go to one `handle` call: finished batches, worker events, arrivals, tick.
2. The scheduler never sees what has not happened yet.
3. A batch sent to a busy worker starts the moment that worker's batch in hand is done.
4. A batch takes exactly its profiled latency, times the scale, pace and seeded noise that `Conditions` ask
   for, and keeps its worker for their overhead beyond that.
   How sure the model is of an answer is drawn from the profile's cascades, by the seed.
5. A worker in an outage loses the batch in hand and every batch that waits, and comes back when it is over.

Two runs of the same inputs and seed give the same result, unless decisions are charged for: then the wall time
of each decision passes in virtual time as well, and what happens meanwhile waits for the next decision.
"""

import heapq
import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from mosel.core.clock import monotonic_ns, to_s
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import Batch, Receipt
from mosel.evaluation.draws import Confidences, Noise, kept_of, latencies_ns, latency_ns
from mosel.evaluation.garbage import no_collector
from mosel.evaluation.results import BatchResult, JobResult, modes_run
from mosel.evaluation.workload import Workload
from mosel.online.events import (
    Action,
    Arrived,
    Complete,
    Dispatch,
    Event,
    Finished,
    Scheduling,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)

Profiles = Mapping[str, Profile]
"""𝒟 by model name."""

Sure = Callable[[Batch], tuple[float, ...]]

NEVER_NS = 1 << 62
FINISH, WORKER, ARRIVAL = range(3)
ENDED, DOWN, UP = range(3)


@dataclass(frozen=True, slots=True)
class Outage:
    """A worker is lost at one time and ready again at another."""

    worker: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the simulated world differs from the profile.

    Attributes:
        workers: how many there are.
        seed: of the noise.
        scale: every latency is multiplied by this.
        mode_scale: further factors for single modes, by name.
        noise_cv: coefficient of variation of a log-normal factor with mean 1 on every batch.
        outages: when workers are lost.
        overhead_ns: how long each batch keeps its worker beyond its latency, as sending it and reporting do.
        charge_decisions: whether a decision's wall time passes in virtual time.
        pace: times in nanoseconds, ascending, and the factor on latencies of batches that start from then on.
    """

    workers: int = 1
    seed: int = 0
    scale: float = 1.0
    mode_scale: Mapping[str, float] = field(default_factory=dict)
    noise_cv: float = 0.0
    outages: tuple[Outage, ...] = ()
    charge_decisions: bool = False
    overhead_ns: int = 0
    pace: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if problem := _conditions_problem(self):
            raise UsageError(problem)

    def departures(self) -> dict[str, Any]:
        """Return where the world departs from the profile, for the run's `extra`."""
        down = [[outage.worker, to_s(outage.from_ns), to_s(outage.to_ns)] for outage in self.outages]
        every = {
            "latency_scale": (self.scale, 1.0),
            "mode_latency_scale": (dict(self.mode_scale), {}),
            "noise_cv": (self.noise_cv, 0.0),
            "outages_s": (down, []),
            "overhead_s": (to_s(self.overhead_ns), 0.0),
            "charge_decisions": (self.charge_decisions, False),
            "pace_s": ([[to_s(from_ns), factor] for from_ns, factor in self.pace], []),
        }
        return {name: value for name, (value, usual) in every.items() if value != usual}


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of every job and batch.

    `reasons` counts requests by the reason of their job's outcome; `decisions_ns` are wall times.
    """

    jobs: list[JobResult]
    batches: list[BatchResult]
    reasons: dict[str, int]
    decisions_ns: Sequence[int]


@no_collector()
def simulate(
    scheduler: Scheduling,
    profiles: Profiles | Sequence[Profiles],
    workload: Workload,
    conditions: Conditions,
    sure: Sure | None = None,
) -> Simulated:
    """Run `workload` through `scheduler` in virtual time.

    Args:
        scheduler: what decides.
        profiles: what batches really take, by model: on all workers alike, or on each.
        workload: the jobs.
        conditions: how the world departs from that.
        sure: tells the confidence in each request of a batch that is judged, where it is not to be drawn.

    Raises:
        UsageError: a mode is scaled that no profile has, or there are profiles for another number of workers.
    """
    crew = [profiles] * conditions.workers if isinstance(profiles, Mapping) else list(profiles)
    if len(crew) != conditions.workers:
        raise UsageError(f"profiles of {len(crew)} workers; expected those of {conditions.workers}")
    names = {name for found in crew for profile in found.values() for name in profile.mode_names}
    if unknown := sorted(conditions.mode_scale.keys() - names):
        raise UsageError(
            f"mode {unknown[0]!r} is not in the profile; expected one of {', '.join(sorted(names))}"
        )
    world = _World(crew, workload, conditions, sure)
    world.run(scheduler)
    modes = modes_run(world.batches)
    jobs = [
        _job_result(world.receipts[job.id], modes.get(job.id, {}), world.last_modes.get(job.id, {}))
        for job in workload.jobs
    ]
    reasons = Counter[str]()
    for receipt in world.receipts.values():
        reasons[receipt.reason.value] += receipt.job.requests
    batches = sorted(world.batches, key=lambda batch: batch.id)
    return Simulated(jobs, batches, dict(sorted(reasons.items())), world.decisions_ns)


def _job_result(receipt: Receipt, modes: Iterable[str], last: Mapping[int, str]) -> JobResult:
    """A job's row; `modes` are those that it ran in, in that order, `last` is each request's last."""
    counts = Counter(last.values())
    return JobResult(
        receipt.job,
        receipt.outcome,
        receipt.decided_ns,
        receipt.finish_ns,
        receipt.accuracy,
        tuple((mode, counts[mode]) for mode in modes if counts[mode]),
    )


def _conditions_problem(given: Conditions) -> str | None:
    if given.workers < 1:
        return f"{given.workers} workers; expected at least 1"
    if any(before >= after for (before, _), (after, _) in pairwise(given.pace)):
        return "times of the pace do not ascend; expected each once, in order"
    for factor in (given.scale, *given.mode_scale.values(), *(factor for _, factor in given.pace)):
        if not (math.isfinite(factor) and factor > 0):
            return f"latency scale {factor}; expected a number > 0"
    if not (math.isfinite(given.noise_cv) and given.noise_cv >= 0):
        return f"noise {given.noise_cv}; expected a coefficient of variation ≥ 0"
    if given.overhead_ns < 0:
        return f"overhead {to_s(given.overhead_ns)}; expected seconds ≥ 0"
    if given.seed < 0:
        return f"seed {given.seed}; expected a whole number from 0"
    ordered = sorted(given.outages, key=lambda outage: (outage.worker, outage.from_ns))
    for outage in ordered:
        if not (0 <= outage.worker < given.workers and 0 <= outage.from_ns < outage.to_ns):
            words = f"{outage.worker}:{to_s(outage.from_ns):g}:{to_s(outage.to_ns):g}"
            return f"outage {words}; expected a worker from 0 to {given.workers - 1} and ascending times"
    for before, after in pairwise(ordered):
        if before.worker == after.worker and after.from_ns <= before.to_ns:
            return f"outages of worker {after.worker} overlap; expected one to end before the next begins"
    return None


@dataclass(slots=True)
class _Worker:
    """A worker's batch in hand and those that wait, each with the time it was sent.

    `latency_ns` is what batches take on it by (model, mode, bucket, size); `bucketed` are the models of which
    it has length buckets; `sure` tells the confidences of a batch; `turn` tells the finish of a
    batch that was lost from that of the batch in hand.
    """

    latency_ns: Mapping[tuple[str, str, int, int], int]
    bucketed: frozenset[str]
    sure: Sure
    up: bool = False
    running: Batch | None = None
    start_ns: int = 0
    took_ns: int = 0
    turn: int = 0
    waiting: deque[tuple[Batch, int]] = field(default_factory=deque)


class _World:
    """Workers, arrivals and the heap of what is going to happen: (time, kind, order, what, worker, turn)."""

    def __init__(
        self, crew: Sequence[Profiles], workload: Workload, conditions: Conditions, sure: Sure | None
    ) -> None:
        self.receipts: dict[str, Receipt] = {}
        self.batches: list[BatchResult] = []
        self.last_modes: dict[str, dict[int, str]] = {}
        self.decisions_ns = array("q")
        self._jobs = workload.jobs
        self._next_job = 0
        self._workers = _workers(crew, conditions, sure)
        self._noise = Noise(conditions.noise_cv, conditions.seed, conditions.pace)
        self._charge = conditions.charge_decisions
        self._overhead_ns = conditions.overhead_ns
        self._heap: list[tuple[int, int, int, int, int, int]] = []
        self._order = 0
        self._running = 0
        self._wake_ns = NEVER_NS
        self._now_ns = 0
        for worker in range(conditions.workers):
            if not any(outage.worker == worker and outage.from_ns == 0 for outage in conditions.outages):
                self._push(0, WORKER, UP, worker)
        for outage in conditions.outages:
            if outage.from_ns:
                self._push(outage.from_ns, WORKER, DOWN, outage.worker)
            self._push(outage.to_ns, WORKER, UP, outage.worker)

    def run(self, scheduler: Scheduling) -> None:
        """Let time pass until every job has its outcome."""
        while not self._over():
            upcoming_ns = self._upcoming_ns()
            if upcoming_ns == NEVER_NS:
                self._decide(scheduler, [Shutdown()])
                break
            self._now_ns = max(self._now_ns, upcoming_ns)
            if events := self._happen():
                self._decide(scheduler, events)
        missing = len(self._jobs) - len(self.receipts)
        assert not missing, f"the scheduler left {missing} jobs without an outcome"

    def _over(self) -> bool:
        return self._next_job == len(self._jobs) == len(self.receipts) and not self._running

    def _upcoming_ns(self) -> int:
        times = [self._wake_ns]
        if self._heap:
            times.append(self._heap[0][0])
        if self._next_job < len(self._jobs):
            times.append(self._jobs[self._next_job].arrival_ns)
        return min(times)

    def _happen(self) -> list[Event]:
        """Carry out everything that is due by now, in order, and return it as events."""
        events: list[Event] = []
        arrivals: list[Event] = []
        while self._heap and self._heap[0][0] <= self._now_ns:
            at_ns, _, _, what, worker, turn = heapq.heappop(self._heap)
            if what == ENDED:
                events += self._end(worker, turn, at_ns)
            else:
                events.append(self._lose(worker, at_ns) if what == DOWN else self._revive(worker))
        while self._next_job < len(self._jobs) and self._jobs[self._next_job].arrival_ns <= self._now_ns:
            arrivals.append(Arrived(self._jobs[self._next_job]))
            self._next_job += 1
        events += arrivals
        if self._wake_ns <= self._now_ns:
            self._wake_ns = NEVER_NS
            events.append(Tick())
        return events

    def _decide(self, scheduler: Scheduling, events: list[Event]) -> None:
        before_ns = monotonic_ns()
        actions = scheduler.handle(events, self._now_ns)
        took_ns = monotonic_ns() - before_ns
        self.decisions_ns.append(took_ns)
        if self._charge:
            self._now_ns += took_ns
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Dispatch(batch):
                worker = self._workers[batch.worker]
                assert worker.up, f"batch {batch.id} was sent to a lost worker"
                worker.waiting.append((batch, self._now_ns))
                self._start_next(batch.worker, self._now_ns)
            case Complete(receipt):
                assert receipt.job.id not in self.receipts, f"job {receipt.job.id} was completed twice"
                self.receipts[receipt.job.id] = receipt
            case WakeAt(at_ns):
                self._wake_ns = at_ns

    def _start_next(self, index: int, at_ns: int) -> None:
        worker = self._workers[index]
        if worker.running or not worker.waiting or not worker.up:
            return
        batch, sent_ns = worker.waiting.popleft()
        at_ns = max(at_ns, sent_ns)
        profiled_ns = latency_ns(worker.latency_ns, batch)
        worker.running, worker.start_ns = batch, at_ns
        worker.took_ns = self._noise.applied(profiled_ns, at_ns)
        self._running += 1
        self._push(at_ns + worker.took_ns + self._overhead_ns, FINISH, ENDED, index, worker.turn)

    def _end(self, index: int, turn: int, at_ns: int) -> list[Event]:
        worker = self._workers[index]
        if turn != worker.turn or worker.running is None:
            return []
        batch, took_ns = worker.running, worker.took_ns
        self._put_down(worker, at_ns, done=True)
        self._start_next(index, at_ns)
        sure = worker.sure(batch)
        return [Finished(batch.id, took_ns, confidence=sure, kept=kept_of(batch, sure))]

    def _lose(self, index: int, at_ns: int) -> Event:
        worker = self._workers[index]
        if worker.running:
            self._put_down(worker, max(at_ns, worker.start_ns), done=False)
        worker.waiting.clear()
        worker.up = False
        return WorkerLost(index, "outage")

    def _revive(self, index: int) -> Event:
        self._workers[index].up = True
        return WorkerReady(index)

    def _put_down(self, worker: _Worker, at_ns: int, *, done: bool) -> None:
        batch = worker.running
        assert batch is not None
        jobs = tuple((part.job, len(part.requests)) for part in batch.parts)
        for part in batch.parts if done else ():
            self.last_modes.setdefault(part.job, {}).update(dict.fromkeys(part.requests, batch.mode))
        bucket = batch.bucket if batch.model in worker.bucketed else None
        self.batches.append(
            BatchResult(
                batch.id,
                batch.worker,
                worker.start_ns,
                at_ns,
                batch.mode,
                batch.size,
                jobs,
                done,
                batch.model,
                bucket,
                batch.picked_up,
            )
        )
        worker.running = None
        worker.turn += 1
        self._running -= 1

    def _push(self, at_ns: int, kind: int, what: int, worker: int, turn: int = 0) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at_ns, kind, self._order, what, worker, turn))


def _workers(crew: Sequence[Profiles], conditions: Conditions, sure: Sure | None) -> list[_Worker]:
    """The workers; those with the same profiles share what is made of them, and how sure their models are."""
    made: dict[int, tuple[dict[tuple[str, str, int, int], int], frozenset[str], Sure]] = {}
    for profiles in crew:
        if id(profiles) not in made:
            bucketed = frozenset(model for model, profile in profiles.items() if profile.length_buckets)
            drawn = Confidences(profiles.values(), np.random.default_rng([conditions.seed, len(made)]))
            taken = latencies_ns(profiles, conditions.scale, conditions.mode_scale)
            made[id(profiles)] = taken, bucketed, sure or drawn.of
    return [_Worker(*made[id(profiles)]) for profiles in crew]
