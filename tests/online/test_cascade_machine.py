"""Cascades under arbitrary orders of events: every job gets one outcome, and what is promised is kept.

What resumes a first stage goes to the worker that keeps features of it, and only there.

The model beside the scheduler knows which requests are where, which hold an answer, and how sure that is.
"""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mosel.core.clock import NS_PER_MS as MS
from mosel.core.states import State
from mosel.core.tables import Profile
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
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler
from tests.online.cascaded import cascaded
from tests.online.driver import job

PROFILE = cascaded(buckets=(1.0, 2.0), slope_ms=30, resumed=0.4)
WITHOUT = cascaded(buckets=(1.0, 2.0), slope_ms=30)
FIRST = {cascade.stages[0] for cascade in PROFILE.cascades}
NEXT = {cascade.stages for cascade in PROFILE.cascades}
HIGHEST = max(cascade.threshold for cascade in PROFILE.cascades)


@dataclass
class Hand:
    """What a worker has in hand: at most one batch runs and one waits."""

    up: bool = True
    batches: list[Batch] = field(default_factory=list)


class CascadeMachine(RuleBasedStateMachine):
    """Drives two schedulers alike, with answers of any confidence."""

    @initialize(
        policy=st.sampled_from(["joint", "optimized"]),
        workers=st.integers(1, 3),
        lead_ms=st.sampled_from([0, 2]),
        cell=st.sampled_from([1, 32]),
        found=st.sampled_from([PROFILE, PROFILE, WITHOUT]),
    )
    def start(self, policy: str, workers: int, lead_ms: int, cell: int, found: Profile) -> None:
        """All workers are ready."""
        options = Options(lead_ns=lead_ms * MS, cell=cell)
        self.twins = [
            Scheduler({"m": found}, workers=workers, policy=policy, options=options) for _ in range(2)
        ]
        self.now_ns = 0
        self.wake_ns: int | None = None
        self.hands = [Hand() for _ in range(workers)]
        self.live: dict[str, Job] = {}
        self.ran: dict[tuple[str, int], tuple[str, float]] = {}
        self.kept: dict[tuple[str, int], int] = {}
        self.numbered = 0
        for worker in range(workers):
            self.tell(WorkerReady(worker))

    @rule(
        gap_ms=st.sampled_from([0, 0, 1, 5]),
        sizes=st.lists(st.sampled_from([1, 1, 2, 4, 7]), min_size=1, max_size=3),
        slo=st.sampled_from([0.6, 0.85, 0.95, 0.95, 0.975, 0.98]),
        within_ms=st.sampled_from([50, 90, 180, 400]),
        lacking=st.sampled_from([(), (), (), (), (), (), ("text", "audio")]),
        length=st.sampled_from([None, 0.5, 0.5, 0.5]),
    )
    def arrive(
        self,
        gap_ms: int,
        sizes: list[int],
        slo: float,
        within_ms: int,
        lacking: tuple[str, ...],
        length: float | None,
    ) -> None:
        """Some jobs, at once."""
        self.now_ns += gap_ms * MS
        events = []
        for requests in sizes:
            at = self.now_ns / MS
            name = f"j{self.numbered}"
            self.numbered += 1
            given = job(name, requests, slo, at=at, due=at + within_ms, modalities=lacking, length=length)
            self.live[name] = given
            events.append(Arrived(given))
        self.tell(*events)

    @rule(worker=st.integers(0, 2), late_ms=st.sampled_from([0, 0, 0, 3]), data=st.data())
    def finish(self, worker: int, late_ms: int, data: st.DataObject) -> None:
        """The batch in hand is done; each answer is as sure as it happens to be, or nothing is known."""
        hand = self.hands[worker % len(self.hands)]
        if not hand.batches:
            return
        batch = hand.batches[0]
        sure = st.lists(st.sampled_from([0.2, 0.55, 0.7, 0.9]), min_size=batch.size, max_size=batch.size)
        told = batch.judged and data.draw(st.sampled_from([True] * 4 + [False]))
        room = data.draw(st.sampled_from([True] * 4 + [False]))
        self.complete(batch, late_ms, tuple(data.draw(sure)) if told else (), room=room)

    @rule(worker=st.integers(0, 2), data=st.data())
    def corrupt(self, worker: int, data: st.DataObject) -> None:
        """The batch is done but for some requests of one job, one modality of which cannot be decoded."""
        hand = self.hands[worker % len(self.hands)]
        if not hand.batches or data.draw(st.sampled_from([True] * 3 + [False])):
            return
        batch = hand.batches[0]
        part = data.draw(st.sampled_from(batch.parts))
        modality = data.draw(st.sampled_from(batch.mode.split("+")))
        undone = tuple(Corrupt(part.job, request, modality, "bad") for request in part.requests)
        self.complete(batch, 0, (0.2,) * (batch.size - len(undone)), undone)

    @rule(worker=st.integers(0, 2))
    def fail(self, worker: int) -> None:
        """The model raised on the batch in hand."""
        hand = self.hands[worker % len(self.hands)]
        if hand.batches:
            self.tell(BatchFailed(hand.batches.pop(0).id, "boom"))

    @rule(worker=st.integers(0, 2), really=st.sampled_from([False] * 3 + [True]))
    def lose_or_revive(self, worker: int, really: bool) -> None:
        """A worker dies with all that it has in hand, or comes back."""
        hand = self.hands[worker % len(self.hands)]
        if hand.up and not really:
            return
        hand.batches.clear()
        hand.up = not hand.up
        number = worker % len(self.hands)
        self.kept = {key: holder for key, holder in self.kept.items() if holder != number}
        self.tell(WorkerReady(number) if hand.up else WorkerLost(number, "gone"))

    @rule(data=st.data(), really=st.sampled_from([False] * 3 + [True]))
    def cancel(self, data: st.DataObject, really: bool) -> None:
        """A client goes away, perhaps between two stages."""
        if self.live and really:
            self.tell(Cancelled(data.draw(st.sampled_from(sorted(self.live)))))

    @rule(late_ms=st.sampled_from([0, 0, 5]))
    def wake(self, late_ms: int) -> None:
        """The tick that was asked for."""
        if self.wake_ns is not None:
            self.now_ns = max(self.now_ns, self.wake_ns + late_ms * MS)
            self.wake_ns = None
            self.tell(Tick())

    @rule(really=st.sampled_from([False] * 19 + [True]))
    def shut_down(self, really: bool) -> None:
        """Every job ends, now and then."""
        if really:
            self.tell(Shutdown())
            assert not self.live

    def teardown(self) -> None:
        """Once workers are up and report on time, every job gets its outcome."""
        if not hasattr(self, "twins"):
            return
        for number, hand in enumerate(self.hands):
            if not hand.up:
                hand.up = True
                self.tell(WorkerReady(number))
        while self.wake_ns is not None or any(hand.batches for hand in self.hands):
            if any(hand.batches for hand in self.hands):
                hand = next(hand for hand in self.hands if hand.batches)
                self.complete(hand.batches[0], 0, (0.55,) * hand.batches[0].size)
            else:
                self.wake(0)
        assert not self.live

    def complete(
        self,
        batch: Batch,
        late_ms: int,
        confidence: tuple[float, ...],
        undone: tuple[Corrupt, ...] = (),
        *,
        room: bool = True,
    ) -> None:
        """A batch ends, its time later; features are kept of what is unsure if there is room."""
        self.hands[batch.worker].batches.pop(0)
        self.now_ns += batch.expected_ns + late_ms * MS
        left_out = {(one.job, one.request) for one in undone}
        held = [(part.job, request) for part in batch.parts for request in part.requests]
        sure = iter(confidence)
        for key in held:
            if key not in left_out and key[0] in self.live:
                self.ran[key] = batch.mode, next(sure, float("nan")) if batch.judged else HIGHEST
        sure_ones = confidence if batch.judged else ()
        kept: tuple[bool, ...] = ()
        if batch.keep_below is not None and room:
            kept = tuple(not each >= batch.keep_below for each in sure_ones)
            named = [key for key in held if key not in left_out]
            self.kept |= {key: batch.worker for key, is_kept in zip(named, kept, strict=False) if is_kept}
        self.tell(Finished(batch.id, batch.expected_ns, undone, sure_ones, kept=kept))

    def tell(self, *events: Event) -> None:
        """Hand events to both schedulers and check every action."""
        actions, others = (twin.handle(events, self.now_ns) for twin in self.twins)
        assert actions == others
        for action in actions:
            match action:
                case Complete(receipt):
                    self.check_receipt(receipt)
                case Dispatch(batch):
                    self.check_batch(batch)
                case WakeAt(at_ns):
                    assert at_ns > self.now_ns
                    self.wake_ns = at_ns
        assert self.twins[0].live == len(self.live)

    def check_batch(self, batch: Batch) -> None:
        """Its requests are with nobody else; one that ran before runs in its cascade's last stage only."""
        hand = self.hands[batch.worker]
        assert hand.up
        assert len(hand.batches) < 2
        assert not batch.judged or batch.mode in FIRST
        held = {(p.job, r) for h in self.hands for b in h.batches for p in b.parts for r in p.requests}
        for part in batch.parts:
            given = self.live[part.job]
            assert not given.modalities or set(batch.mode.split("+")) <= set(given.modalities)
            assert list(part.requests) == sorted(set(part.requests))
            for request in part.requests:
                assert 0 <= request < given.requests
                assert (part.job, request) not in held
                if (part.job, request) in self.ran:
                    mode, sure = self.ran[part.job, request]
                    assert (mode, batch.mode) in NEXT
                    assert not sure >= HIGHEST
                    assert batch.resumed in ("", mode)
                    kept_at = self.kept.pop((part.job, request), None)
                    assert not batch.resumed or kept_at == batch.worker
        hand.batches.append(batch)

    def check_receipt(self, receipt: Receipt) -> None:
        """A live job's, and only one; what is answered ran whole, meets its SLO and tells the last modes."""
        given = self.live.pop(receipt.job.id)
        ran = {r: self.ran[given.id, r][0] for r in range(given.requests) if (given.id, r) in self.ran}
        if receipt.outcome in (State.SERVED, State.LATE):
            assert len(ran) == given.requests
            assert receipt.accuracy is not None
            assert given.accuracy_slo - 1e-9 <= receipt.accuracy <= 1
            modes = list(ran.values())
            assert dict(receipt.modes) == {mode: modes.count(mode) for mode in modes}
            assert (receipt.outcome is State.SERVED) == (self.now_ns <= given.deadline_ns)


TestCascades = CascadeMachine.TestCase
TestCascades.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
