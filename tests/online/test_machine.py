"""Arbitrary orders of events, also such as no sane driver would send, under every policy.

Two schedulers get the same events, and have to give the same actions. The model beside them knows only which
jobs are live and which batches are where, and checks every action against that.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from mosel.core.clock import NS_PER_MS as MS
from mosel.core.states import State
from mosel.core.types import Batch, Job, Receipt
from mosel.online.events import (
    Arrived,
    BatchFailed,
    Cancelled,
    Complete,
    Corrupt,
    Dispatch,
    Event,
    Finished,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)
from mosel.online.policies import POLICIES, Options
from mosel.online.scheduler import Scheduler
from tests.online.driver import job, profile

TABLES = {
    "m": profile(
        {"text": (0.6, 3, 1), "audio": (0.8, 4, 3), "text+audio": (0.85, 5, 4), "text+video": (0.95, 9, 8)},
        sizes=(1, 2, 4),
        buckets=(1.0, 2.0),
    ),
    "n": profile({"audio": (0.7, 0, 0), "audio+video": (0.7, 0, 10)}, sizes=(1, 2), model="n"),
}
SLOW = profile({"audio": (0.75, 9, 6), "text+audio": (0.9, 12, 9)}, sizes=(1, 2, 3), buckets=(2.0,))
SINGLE = profile({"audio": (0.6, 3, 9)}, sizes=(1, 2, 3, 4), model="n")
UNLIKE = [
    TABLES,
    {"m": replace(SLOW, modalities=TABLES["m"].modalities)},
    {"m": TABLES["m"], "n": replace(SINGLE, modalities=TABLES["n"].modalities)},
]
"""Workers of different speed, with other modes, accuracies, batch sizes and lengths; one lacks a model."""


@dataclass
class Hand:
    """What a worker has in hand, as the actions said: at most one batch runs (since when) and one waits."""

    up: bool = False
    batches: list[Batch] = field(default_factory=list)
    since_ns: int = 0


class SchedulerMachine(RuleBasedStateMachine):
    """Drives two schedulers alike and keeps a model of jobs and workers."""

    @initialize(
        policy=st.sampled_from(list(POLICIES)),
        workers=st.integers(1, 3),
        lead_ms=st.sampled_from([0, 2]),
        delay_ms=st.sampled_from([0, 5]),
        cell=st.sampled_from([1, 2, 32, 32]),
        unlike=st.booleans(),
        up=st.booleans(),
    )
    def start(
        self, policy: str, workers: int, lead_ms: int, delay_ms: int, cell: int, unlike: bool, up: bool
    ) -> None:
        """Begin with workers that are all ready, or with none; all alike or not, in one cell or several."""
        options = Options(lead_ns=lead_ms * MS, batch_delay_ns=delay_ms * MS, cell=cell)
        self.policy = POLICIES[policy]
        self.tables = [UNLIKE[worker] if unlike else TABLES for worker in range(workers)]
        self.twins = [
            Scheduler(TABLES, workers=self.tables, policy=policy, seed=7, options=options) for _ in range(2)
        ]
        self.now_ns = 0
        self.wake_ns: int | None = None
        self.hands = [Hand() for _ in range(workers)]
        self.live: dict[str, Job] = {}
        self.done: dict[str, dict[int, float]] = {}
        self.numbered = 0
        self.sent: set[int] = set()
        for worker in range(workers if up else 0):
            self.ready(worker)

    # What happens

    @rule(
        gap_ms=st.sampled_from([0, 0, 1, 5]),
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
        slo=st.sampled_from([0.0, 0.6, 0.6, 0.7, 0.7, 0.725, 0.85, 0.95, 0.99]),
        limit_ms=st.sampled_from([0, 30, 60, 100, 200, 1000]),
        model=st.sampled_from(["m", "m", "n"]),
        partial=st.sampled_from([False, False, True]),
        length=st.sampled_from([None, 0.5, 0.5, 0.5, 2.0, 2.0, 3.0]),
    )
    def arrive(
        self,
        gap_ms: int,
        sizes: list[int],
        slo: float,
        limit_ms: int,
        model: str,
        partial: bool,
        length: float | None,
    ) -> None:
        """Some jobs at once, with the same deadline."""
        self.now_ns += gap_ms * MS
        at = self.now_ns / MS
        has = ("audio",) if partial else ()
        jobs = []
        for size in sizes:
            self.numbered += 1
            jobs.append(
                job(
                    f"j{self.numbered}",
                    size,
                    slo,
                    at=at,
                    due=at + limit_ms,
                    model=model,
                    modalities=has,
                    length=length,
                )
            )
        self.live |= {each.id: each for each in jobs}
        self.tell(*(Arrived(each) for each in jobs))

    @rule(worker=st.integers(0, 2))
    def ready(self, worker: int) -> None:
        """A worker is ready, perhaps not for the first time."""
        worker %= len(self.hands)
        self.hands[worker].up = True
        self.tell(WorkerReady(worker))

    @rule(worker=st.integers(0, 2))
    def lose(self, worker: int) -> None:
        """A worker is lost, perhaps one that was not there."""
        worker %= len(self.hands)
        self.hands[worker] = Hand()
        self.tell(WorkerLost(worker, "killed"))

    @rule(steps=st.integers(1, 6))
    def go_on(self, steps: int) -> None:
        """What is due next happens, on time: batches end as expected, ticks come when asked for."""
        for _ in range(steps):
            due = [
                (hand.since_ns + hand.batches[0].expected_ns, worker)
                for worker, hand in enumerate(self.hands)
                if hand.batches
            ]
            end_ns, worker = min(due, default=(1 << 62, -1))
            if self.wake_ns is not None and self.wake_ns < end_ns:
                self.wake(0)
            elif worker >= 0:
                took_ns, batch = self.hands[worker].batches[0].expected_ns, self.hands[worker].batches[0]
                self.now_ns = max(self.now_ns, end_ns)
                self.settle(batch)
                self.tell(Finished(batch.id, took_ns))

    @rule(worker=st.integers(0, 2), took=st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 3.0]))
    def finish(self, worker: int, took: float) -> None:
        """A worker's batch in hand is done."""
        if (batch := self.running(worker)) is not None:
            took_ns = round(batch.expected_ns * took)
            self.now_ns += took_ns
            self.settle(batch)
            self.tell(Finished(batch.id, took_ns))

    @rule(worker=st.integers(0, 2), data=st.data())
    def find_corrupt(self, worker: int, data: st.DataObject) -> None:
        """Some requests of a batch did not run, because of one of the modalities it used."""
        if (batch := self.running(worker)) is not None:
            pairs = [(part.job, request) for part in batch.parts for request in part.requests]
            chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
            modality = data.draw(st.sampled_from(batch.mode.split("+")))
            self.settle(batch, set(chosen))
            undone = tuple(Corrupt(name, request, modality, "bad") for name, request in chosen)
            self.tell(Finished(batch.id, batch.expected_ns, undone))

    @rule(worker=st.integers(0, 2))
    def fail(self, worker: int) -> None:
        """The model raised on the batch in hand."""
        if (batch := self.running(worker)) is not None:
            self.put_down(batch)
            self.tell(BatchFailed(batch.id, "boom"))

    @rule(number=st.integers(-1, 60))
    def report_nonsense(self, number: int) -> None:
        """Reports of batches that are gone, waiting or unknown."""
        if not any(hand.batches and hand.batches[0].id == number for hand in self.hands):
            self.tell(Finished(number, 5), BatchFailed(number, "?"), Cancelled("nobody"))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A client goes away, perhaps while its job runs."""
        if self.live:
            self.tell(Cancelled(data.draw(st.sampled_from(sorted(self.live)))))

    @rule(late_ms=st.sampled_from([0, 0, 0, 4, 50]))
    def wake(self, late_ms: int) -> None:
        """The tick that was asked for, on time or late."""
        if self.wake_ns is not None:
            self.now_ns = max(self.now_ns, self.wake_ns + late_ms * MS)
            self.wake_ns = None
            self.tell(Tick())

    @rule(wait_ms=st.sampled_from([0, 1, 10]))
    def tick_early(self, wait_ms: int) -> None:
        """A tick that nobody asked for."""
        now_ns = self.now_ns + wait_ms * MS
        self.now_ns = now_ns if self.wake_ns is None else max(self.now_ns, min(now_ns, self.wake_ns))
        self.tell(Tick())

    @rule(really=st.sampled_from([False] * 7 + [True]))
    def shut_down(self, really: bool) -> None:
        """Every job ends, now and then."""
        if really:
            self.end()

    def end(self) -> None:
        """Shutdown leaves nothing live."""
        self.tell(Shutdown())
        assert not self.live

    # What must hold

    @invariant()
    def the_counts_agree(self) -> None:
        """The scheduler has just the jobs that were not completed; those that wait are among them."""
        if hasattr(self, "twins"):
            assert self.twins[0].live == len(self.live)
            assert self.twins[0].queued <= len(self.live)

    def teardown(self) -> None:
        """Whatever happened: once workers are up and reports and ticks on time, every job gets its outcome."""
        if not hasattr(self, "twins"):
            return
        for worker, hand in enumerate(self.hands):
            if not hand.up:
                self.ready(worker)
        while self.wake_ns is not None or any(hand.batches for hand in self.hands):
            self.go_on(1)
        assert not self.live

    def tell(self, *events: Event) -> None:
        """Hand events to both schedulers and check every action."""
        actions, others = (twin.handle(events, self.now_ns) for twin in self.twins)
        assert actions == others
        if any(isinstance(event, Tick) for event in events):
            self.wake_ns = None
        for action in actions:
            match action:
                case Complete(receipt):
                    self.check_receipt(receipt)
                case Dispatch(batch):
                    self.check_batch(batch)
                case WakeAt(at_ns):
                    assert at_ns > self.now_ns
                    self.wake_ns = at_ns

    def check_batch(self, batch: Batch) -> None:
        """It goes to a worker that is up with room; its requests are nobody else's, and not done."""
        hand = self.hands[batch.worker]
        assert hand.up
        assert len(hand.batches) < 2
        assert batch.id not in self.sent
        table = self.tables[batch.worker][batch.model]
        assert batch.size in table.sizes_of(table.mode_named(batch.mode))
        held = {(p.job, r) for h in self.hands for b in h.batches for p in b.parts for r in p.requests}
        assert len({part.job for part in batch.parts}) == len(batch.parts)
        for part in batch.parts:
            given = self.live[part.job]
            assert given.model == batch.model
            assert not given.modalities or set(batch.mode.split("+")) <= set(given.modalities)
            assert part.requests
            for request in part.requests:
                assert 0 <= request < given.requests
                assert (part.job, request) not in held
                assert request not in self.done.get(part.job, {})
        self.sent.add(batch.id)
        hand.since_ns = self.now_ns if not hand.batches else hand.since_ns
        hand.batches.append(batch)

    def check_receipt(self, receipt: Receipt) -> None:
        """A live job's, and only one; what is served or late ran whole and meets its SLO."""
        given = self.live.pop(receipt.job.id)
        ran = self.done.pop(given.id, {})
        assert receipt.decided_ns == self.now_ns
        if receipt.outcome in (State.SERVED, State.LATE):
            assert ran.keys() == set(range(given.requests))
            assert sum(ran.values()) >= given.accuracy_slo * given.requests - 1e-9
            assert (receipt.outcome is State.SERVED) == (self.now_ns <= given.deadline_ns)
            assert sum(count for _, count in receipt.modes) == given.requests
        if receipt.outcome is State.DROPPED and receipt.reason == "no_time_left":
            assert self.policy.drops
        if receipt.outcome is State.FAILED:
            assert receipt.detail

    def running(self, worker: int) -> Batch | None:
        """The batch that a worker runs."""
        hand = self.hands[worker % len(self.hands)]
        return hand.batches[0] if hand.batches else None

    def put_down(self, batch: Batch) -> None:
        """The batch in hand is over; the next, if one waits, starts."""
        hand = self.hands[batch.worker]
        hand.batches.pop(0)
        hand.since_ns = self.now_ns

    def settle(self, batch: Batch, undone: Collection[tuple[str, int]] = ()) -> None:
        """Note which requests of live jobs are done."""
        self.put_down(batch)
        for part in batch.parts:
            if part.job in self.live:
                ran = self.done.setdefault(part.job, {})
                accuracy = self.tables[batch.worker][batch.model].mode_named(batch.mode).accuracy
                ran |= {r: accuracy for r in part.requests if (part.job, r) not in undone}


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
