from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.core.clock import NS_PER_MS, NS_PER_S
from mosel.core.errors import UsageError
from mosel.core.states import State
from mosel.core.types import Job
from mosel.evaluation.simulate import Conditions, Outage, Simulated, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import (
    Action,
    Arrived,
    Dispatch,
    Event,
    Finished,
    Shutdown,
    Tick,
    WakeAt,
    WorkerLost,
    WorkerReady,
)

from .stand_ins import CHEAP, FULL, Scripted, batch, dropped, job, profile, served, workload

MS = NS_PER_MS


class OneByOne:
    """A scheduler that runs jobs in order of arrival, each in one batch, on whichever worker is free."""

    def __init__(self, workers: int = 1, mode: str = CHEAP, ahead: int = 1) -> None:
        self.told: list[tuple[int, list[Event]]] = []
        self._mode, self._ahead = mode, ahead
        self._free = dict.fromkeys(range(workers), 0)
        self._sent: dict[int, tuple[int, Job]] = {}
        self._queue: deque[Job] = deque()
        self._number = 0

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Complete what is finished, queue what arrived, and send what fits."""
        self.told.append((now_ns, list(events)))
        actions: list[Action] = []
        for event in events:
            match event:
                case WorkerReady(worker):
                    self._free[worker] = self._ahead
                case WorkerLost(worker):
                    self._free[worker] = 0
                    lost = [number for number, (held, _) in self._sent.items() if held == worker]
                    self._queue.extendleft(self._sent.pop(number)[1] for number in reversed(lost))
                case Arrived(arrived):
                    self._queue.append(arrived)
                case Finished(number):
                    worker, done = self._sent.pop(number)
                    self._free[worker] += 1
                    actions.append(served(done, now_ns, 0.6 if self._mode == CHEAP else 0.9))
                case Shutdown():
                    actions += [dropped(left, now_ns) for left in self._queue]
        return actions + list(self._send())

    def _send(self) -> Iterable[Action]:
        for worker in self._free:
            while self._queue and self._free[worker]:
                self._free[worker] -= 1
                following = self._queue.popleft()
                self._sent[self._number] = (worker, following)
                yield Dispatch(
                    batch(self._number, (following.id, following.requests), worker=worker, mode=self._mode)
                )
                self._number += 1


def run(scheduler: Any, work: Workload, **conditions: Any) -> Simulated:
    """Simulate on the profile of the stand-ins."""
    return simulate(scheduler, {"m": profile()}, work, Conditions(**conditions))


def spans(done: Simulated) -> list[tuple[int, int]]:
    """Start and finish of every batch in milliseconds."""
    return [(each.start_ns // MS, each.finish_ns // MS) for each in done.batches]


def test_batches_take_exactly_their_profiled_latency() -> None:
    """A batch of two at 10 ms a request occupies its worker for 20 ms; the next one waits for it."""
    done = run(OneByOne(mode=FULL), workload(job("a", requests=2), job("b", at_ms=5)))
    assert spans(done) == [(0, 20), (20, 30)]
    assert [row.finish_ns for row in done.jobs] == [20 * MS, 30 * MS]
    assert [row.modes for row in done.jobs] == [((FULL, 2),), ((FULL, 1),)]


def test_events_of_one_instant_come_in_one_call_in_a_fixed_order() -> None:
    """Finished batches, then worker events, then arrivals, then the tick."""
    a, b = job("a"), job("b", at_ms=1)

    def react(_: Sequence[Event], now_ns: int) -> Iterable[Action]:
        if now_ns == 0:
            yield from (Dispatch(batch(0, ("a", 1))), WakeAt(1 * MS))
        elif now_ns == 1 * MS:
            yield from (served(a, now_ns), dropped(b, now_ns))

    scheduler = Scripted(react)
    run(scheduler, workload(a, b), workers=2, outages=(Outage(1, 1 * MS, 2 * MS),))
    assert scheduler.told[0] == (0, [WorkerReady(0), WorkerReady(1), Arrived(a)])
    assert scheduler.told[1] == (
        1 * MS,
        [Finished(0, 1 * MS), WorkerLost(1, "outage"), Arrived(b), Tick()],
    )


def test_a_later_wake_replaces_an_earlier_one() -> None:
    """Only the last `WakeAt` is heard, once."""
    a = job("a")

    def react(_: Sequence[Event], now_ns: int) -> Iterable[Action]:
        if now_ns == 0:
            yield from (WakeAt(3 * MS), WakeAt(7 * MS))
        else:
            yield dropped(a, now_ns)

    scheduler = Scripted(react)
    run(scheduler, workload(a))
    assert scheduler.told[1:] == [(7 * MS, [Tick()])]


def test_a_batch_sent_to_a_busy_worker_starts_when_that_one_is_done() -> None:
    """With two batches on a worker the second starts at the first one's finish, before anything is decided."""
    done = run(OneByOne(ahead=2), workload(job("a", requests=3), job("b", requests=2), job("c")))
    assert spans(done) == [(0, 3), (3, 5), (5, 6)]


def test_the_scheduler_is_not_shown_the_future() -> None:
    """A job is told at its arrival, never before."""
    scheduler = OneByOne()
    work = workload(*(job(f"j{i}", at_ms=3 * i) for i in range(20)))
    run(scheduler, work)
    for now_ns, events in scheduler.told:
        assert all(event.job.arrival_ns == now_ns for event in events if isinstance(event, Arrived))


def test_an_outage_loses_the_batch_in_hand_and_those_that_wait() -> None:
    """The batch in hand is written as failed, the waiting one never started, and both run again afterwards."""
    work = workload(job("a", requests=4), job("b"))
    done = run(OneByOne(mode=FULL, ahead=2), work, outages=(Outage(0, 25 * MS, 60 * MS),))
    assert spans(done) == [(0, 25), (60, 100), (100, 110)]
    assert [each.done for each in done.batches] == [False, True, True]
    assert [row.modes for row in done.jobs] == [((FULL, 4),), ((FULL, 1),)]


def test_a_worker_in_an_outage_from_the_start_comes_later() -> None:
    """An outage from 0 delays the worker's first readiness."""
    done = run(OneByOne(), workload(job("a")), outages=(Outage(0, 0, 50 * MS),))
    assert spans(done) == [(50, 51)]


def test_scales_multiply_latencies() -> None:
    """A mode's own scale comes on top of the general one, and the scheduler is told what the batch took."""
    scheduler = OneByOne()
    run(scheduler, workload(job("a")), scale=2.0, mode_scale={CHEAP: 1.5, FULL: 9.0})
    assert scheduler.told[1] == (3 * MS, [Finished(0, 3 * MS)])


def test_an_unknown_mode_to_scale_is_refused() -> None:
    """A scale for a mode that no profile has is a usage error."""
    with pytest.raises(UsageError, match="mode 'smell' is not in the profile; expected one of audio"):
        run(OneByOne(), workload(job("a")), mode_scale={"smell": 2.0})


def test_noise_has_mean_one_and_the_spread_asked_for() -> None:
    """Log-normal noise keeps the mean latency and has the given coefficient of variation."""
    work = workload(*(job(f"j{i}", at_ms=10 * i) for i in range(4000)))
    took = np.array([each.finish_ns - each.start_ns for each in run(OneByOne(), work, noise_cv=0.3).batches])
    assert took.mean() / MS == pytest.approx(1, abs=0.02)
    assert took.std() / took.mean() == pytest.approx(0.3, abs=0.03)


def test_the_seed_decides_the_noise() -> None:
    """Equal seeds give equal runs, other seeds others."""
    work = workload(*(job(f"j{i}", at_ms=i) for i in range(50)))
    first, again, other = (run(OneByOne(), work, noise_cv=0.2, seed=seed) for seed in (1, 1, 2))
    assert (first.jobs, first.batches) == (again.jobs, again.batches)
    assert first.batches != other.batches


def test_charged_decisions_pass_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a decision takes 2 ms and is charged for, its batch starts 2 ms later; arrivals meanwhile wait."""
    readings = iter(range(0, 10**12, 2 * MS))
    monkeypatch.setattr("mosel.evaluation.simulate.monotonic_ns", lambda: next(readings))
    scheduler = OneByOne()
    done = run(scheduler, workload(job("a"), job("b", at_ms=1)), charge_decisions=True)
    assert spans(done)[0] == (2, 3)
    assert scheduler.told[1][0] == 2 * MS, "the arrival at 1 ms waits for the first decision"
    assert scheduler.told[1][1] == [Arrived(job("b", at_ms=1))]
    assert [row.job.arrival_ns for row in done.jobs] == [0, 1 * MS]


def test_when_nothing_can_happen_any_more_the_scheduler_is_shut_down() -> None:
    """Jobs that wait for a worker that never comes back still get their outcome."""

    def react(events: Sequence[Event], now_ns: int) -> Iterable[Action]:
        return [dropped(job("a"), now_ns)] if Shutdown() in events else []

    done = run(Scripted(react), workload(job("a")))
    assert [row.outcome for row in done.jobs] == [State.DROPPED]


def test_bugs_of_a_scheduler_do_not_pass() -> None:
    """A job completed twice, a job forgotten and a batch for a lost worker are assertion failures."""
    a = job("a")
    twice = Scripted(lambda _, now_ns: [dropped(a, now_ns)] * 2)
    forgotten = Scripted(lambda *_: [])
    lost = Scripted(lambda *_: [Dispatch(batch(0, ("a", 1)))])
    with pytest.raises(AssertionError, match="completed twice"):
        run(twice, workload(a))
    with pytest.raises(AssertionError, match="without an outcome"):
        run(forgotten, workload(a))
    with pytest.raises(AssertionError, match="lost worker"):
        run(lost, workload(a), outages=(Outage(0, 0, NS_PER_S),))


def test_length_buckets_have_latencies_of_their_own() -> None:
    """A batch takes the latency of its bucket, which `batches.csv` then names."""
    table = profile(sizes=1)
    modes = tuple(
        msgspec.structs.replace(mode, latency_s=((0.001,), (0.004,)), latency_p99_s=((1,), (1,)))
        for mode in table.modes
    )
    long = msgspec.structs.replace(table, modes=modes, length_buckets=(10.0, 20.0))

    def react(_: Sequence[Event], now_ns: int) -> Iterable[Action]:
        if now_ns == 0:
            sent = batch(0, ("a", 1))
            yield Dispatch(type(sent)(0, 0, "m", CHEAP, 1, sent.parts, 0))
        elif now_ns == 4 * MS:
            yield served(job("a"), now_ns)

    done = simulate(Scripted(react), {"m": long}, workload(job("a")), Conditions())
    assert [each.bucket for each in done.batches] == [1]
    assert spans(done) == [(0, 4)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "expected at least 1"),
        ({"scale": 0.0}, "latency scale 0"),
        ({"mode_scale": {CHEAP: float("inf")}}, "latency scale inf"),
        ({"noise_cv": -0.1}, "coefficient of variation"),
        ({"seed": -1}, "seed"),
        ({"outages": (Outage(1, 0, 5),)}, "outage 1:0:5e-09; expected a worker from 0 to 0"),
        ({"outages": (Outage(0, 5, 5),)}, "ascending times"),
        ({"outages": (Outage(0, 1, 5), Outage(0, 4, 9))}, "overlap"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    """A world that cannot be simulated is a usage error that says what was expected."""
    with pytest.raises(UsageError, match=said):
        Conditions(**given)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_run_obeys_the_laws_of_the_world(data: st.DataObject) -> None:
    """Whatever arrives and fails: no overlap on a worker, nothing before its arrival, every request once."""
    gaps = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=1, max_size=30))
    workers = data.draw(st.integers(1, 3))
    starts = data.draw(st.lists(st.integers(0, 60), max_size=3, unique=True).map(sorted))
    outages = tuple(
        Outage(data.draw(st.integers(0, workers - 1)), start * MS, start * MS + 5 * MS - 1)
        for start, after in pairwise([*starts, 10**6])
        if after - start >= 5
    )
    at_ms, jobs = 0, []
    for number, (gap, requests) in enumerate(gaps):
        at_ms += gap
        jobs.append(job(f"j{number}", at_ms=at_ms, requests=requests))
    done = run(OneByOne(workers, ahead=2), Workload(tuple(jobs)), workers=workers, outages=outages)
    held = dict.fromkeys((each.id for each in jobs), 0)
    arrivals = {each.id: each.arrival_ns for each in jobs}
    for each in done.batches:
        for name, count in each.jobs:
            assert each.start_ns >= arrivals[name]
            held[name] += count if each.done else 0
    for worker in range(workers):
        own = sorted((b.start_ns, b.finish_ns) for b in done.batches if b.worker == worker)
        assert all(before[1] <= after[0] for before, after in pairwise(own))
        down = [(o.from_ns, o.to_ns) for o in outages if o.worker == worker]
        assert not any(start < until and since < finish for start, finish in own for since, until in down)
    assert held == {each.id: each.requests for each in jobs}


def test_overhead_keeps_the_worker_and_is_no_latency() -> None:
    """The next batch starts that much later; what is reported as the device's time stays the profile's."""
    world = Scripted(_two_batches)
    done = simulate(
        world, {"m": profile(cheap_ms=1)}, workload(job("a", requests=2)), Conditions(overhead_ns=MS)
    )
    assert [(each.start_ns, each.finish_ns) for each in done.batches] == [(0, 2 * MS), (2 * MS, 4 * MS)]
    reports = [event for _, events in world.told for event in events if isinstance(event, Finished)]
    assert [report.took_ns for report in reports] == [MS, MS]
    with pytest.raises(UsageError, match="overhead"):
        Conditions(overhead_ns=-1)


def _two_batches(events: Sequence[Event], now_ns: int) -> Iterable[Action]:
    for event in events:
        if isinstance(event, Arrived):
            yield Dispatch(batch(0, ("a", 1)))
            yield Dispatch(batch(1, ("a", 1)))
        if isinstance(event, Finished) and event.batch == 1:
            yield served(job("a", requests=2), now_ns)
