"""Replica groups behind front doors, in virtual time."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.states import OUTCOMES, Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.evaluation.simulate import Conditions, Outage, Simulated, simulate
from mosel.evaluation.workload import Workload
from mosel.online.events import Action, Arrived, Cancelled, Complete, Event, Shutdown, WorkerLost, WorkerReady
from mosel.online.fleet import Fleet
from mosel.online.layout import Layout
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, dispatched, job, profile, receipt_of
from tests.online.test_properties import CURVED, workload

SLOW = profile(scale=8.0)


def fleet(workers: int | Sequence[dict[str, Profile]] = 4, groups: int = 2, **words: Any) -> Fleet:
    """Return a fleet of Fig. 2's profile whose workers are up at 0."""
    doors, report_ns = words.pop("front_doors", 1), round(words.pop("report_ms", 10) * MS)
    layout = Layout(groups, doors, report_ns, hop_ns=round(words.pop("hop_ms", 0) * MS))
    found = Fleet({"m": profile()}, workers=workers, layout=layout, **words)
    count = workers if isinstance(workers, int) else len(workers)
    assert found.handle([WorkerReady(worker) for worker in range(count)], 0) == []
    return found


def told(found: Fleet, *events: Event, at: float = 0) -> list[Action]:
    """Hand events over at a time in ms."""
    return found.handle(events, round(at * MS))


class Watched:
    """A fleet that notes to which groups each job goes."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.visits: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self._arrive = fleet._arrive
        fleet._arrive = self._reaching  # type: ignore[method-assign]
        for group in fleet._groups:
            group.take = self._noting(group.take)  # type: ignore[method-assign]

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Pass it on."""
        return self.fleet.handle(events, now_ns)

    def _reaching(self, way: Any, now_ns: int) -> None:
        self.reached[way.asked.job.id] += 1
        self._arrive(way, now_ns)

    def _noting(self, take: Callable[..., None]) -> Callable[..., None]:
        def noted(job: Job, *args: Any, **words: Any) -> None:
            self.visits[job.id] += 1
            take(job, *args, **words)

        return noted


def simulated(found: Any, jobs: Sequence[Job], crew: Any, conditions: Conditions) -> Simulated:
    """Run jobs through a fleet."""
    return simulate(found, crew, Workload(tuple(sorted(jobs, key=lambda each: each.arrival_ns))), conditions)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_group_decides_as_its_scheduler_does(policy: str) -> None:
    """A fleet of one group gives the same batches and outcomes as the bare scheduler."""
    jobs, conditions = workload(3, 60, 5, True), Conditions(3)
    bare = Scheduler({"m": CURVED}, workers=3, policy=policy, seed=5)
    whole = Fleet({"m": CURVED}, workers=3, policy=policy, seed=5)
    once, again = (simulated(found, jobs, {"m": CURVED}, conditions) for found in (bare, whole))
    assert once.jobs == again.jobs
    assert once.batches == again.batches


FLEETS = given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(list(POLICIES)),
    shape=st.sampled_from([(2, 2), (5, 2), (6, 3), (4, 4)]),
    doors=st.integers(1, 3),
    report_ms=st.sampled_from([0.1, 10, 10_000]),
    hop_ms=st.sampled_from([0, 0.3]),
    unlike=st.booleans(),
    outages=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@FLEETS
def test_every_job_has_one_outcome_and_is_passed_on_once_at_most(
    seed: int,
    policy: str,
    shape: tuple[int, int],
    doors: int,
    report_ms: float,
    hop_ms: float,
    unlike: bool,
    outages: bool,
) -> None:
    """However stale the views, and with groups that go down: one receipt each, every request once, SLOs met."""
    workers, groups = shape
    crew = [{"m": SLOW if unlike and worker % 2 else profile()} for worker in range(workers)]
    lost = tuple(Outage(worker, to_ns(0.2 + worker / 100), to_ns(0.5)) for worker in range(workers - 1))
    conditions = Conditions(workers, outages=lost if outages else ())
    jobs = workload(seed, 40, 60 / workers, False)
    layout = Layout(groups, doors, round(report_ms * MS), hop_ns=round(hop_ms * MS))
    found = Watched(Fleet(crew[0], workers=crew, layout=layout, policy=policy, seed=seed))
    done = simulated(found, jobs, crew, conditions)  # which asserts one receipt a job
    assert found.fleet.live == 0
    assert all(row.outcome in OUTCOMES for row in done.jobs)
    ran = Counter({each.id: 0 for each in jobs})
    for batch in done.batches:
        assert 0 <= batch.worker < workers
        if batch.done:
            ran.update(dict(batch.jobs))
    for row in done.jobs:
        if row.outcome in (State.SERVED, State.LATE):
            assert ran[row.job.id] == row.job.requests
            assert row.accuracy is not None
            assert row.accuracy >= row.job.accuracy_slo - 1e-9
    assert len({batch.id for batch in done.batches}) == len(done.batches)
    assert found.visits.keys() == {each.id for each in jobs}
    if not outages:
        assert set(found.visits.values()) == {1}
        assert found.fleet.moved == 0
    assert max(found.reached.values()) <= 2
    assert found.fleet.passed == sum(found.reached.values()) - len(jobs)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), doors=st.integers(1, 3))
def test_a_fleet_leaves_nothing_to_chance(seed: int, doors: int) -> None:
    """Two fleets of the same seed do the same."""
    jobs = workload(seed, 40, 4, True)
    runs = [
        simulated(
            Fleet({"m": CURVED}, workers=4, layout=Layout(2, doors), seed=seed),
            jobs,
            {"m": CURVED},
            Conditions(4),
        )
        for _ in range(2)
    ]
    assert (runs[0].jobs, runs[0].batches) == (runs[1].jobs, runs[1].batches)


def test_a_job_goes_where_it_is_expected_to_be_less_late() -> None:
    """With work in one group, the next job goes to the other, whichever is drawn first."""
    found = fleet(2, 2)
    first = dispatched(told(found, Arrived(job("a", 4, 0.8))))
    second = dispatched(told(found, Arrived(job("b", 4, 0.8)), at=1))
    assert {batch.worker for batch in first} != {batch.worker for batch in second}


def test_front_doors_know_only_what_they_sent_until_groups_report() -> None:
    """Two doors send to groups as if the other had sent nothing; after a report each knows of both."""
    found = fleet(2, 2, front_doors=2, report_ms=50, policy="none")
    doors = found._doors
    told(found, Arrived(job("a", 4, 0.8, due=5000)), at=1)
    assert max(doors[0]._work_ns) > 0
    assert max(doors[1]._work_ns) == 0
    told(found, at=100)
    assert max(doors[1]._work_ns) > 0


def test_a_group_that_would_be_late_passes_a_job_on() -> None:
    """A door whose view is stale sends a job to a busy group; that one passes it on to an idle one."""
    found = fleet(2, 2, front_doors=64, report_ms=100_000)
    actions = [
        action
        for number in range(4)
        for action in told(found, Arrived(job(f"j{number}", 4, 0.8, at=1, due=400)), at=1)
    ]
    assert found.passed > 0
    assert {batch.worker for batch in dispatched(actions)} == {0, 1}


def test_unlike_groups_get_what_they_can_do_in_time() -> None:
    """A job too tight for the slow group never goes there, though it is idle."""
    crew = [{"m": profile()}, {"m": SLOW}]
    found = fleet(crew, 2)
    for number in range(3):
        batches = dispatched(told(found, Arrived(job(f"j{number}", 1, 0.8, due=300)), at=number))
        assert all(batch.worker == 0 for batch in batches)


def test_a_job_that_no_group_can_serve_is_refused_with_the_best_there_is() -> None:
    """The message names the highest accuracy of all groups."""
    low = profile({"audio": (0.5, 0, 20), "video": (0.6, 0, 30)})
    crew = [{"m": low}, {"m": profile({"audio": (0.7, 0, 20), "video": (0.65, 0, 30)})}]
    found = fleet(crew, 2)
    receipt = receipt_of(told(found, Arrived(job("j", 1, 0.9))))
    assert (receipt.outcome, receipt.reason) == (State.REJECTED, Reason.ACCURACY_UNREACHABLE)
    assert "the best is 0.7 (audio)" in receipt.detail


def test_jobs_of_a_group_that_goes_down_are_served_by_another() -> None:
    """Its last worker is lost: what waited, and what ran, starts anew elsewhere and is served."""
    found = fleet(2, 2, policy="none")
    actions = told(found, *(Arrived(job(f"j{n}", 4, 0.8, due=9000)) for n in range(6)), at=1)
    [lost] = [batch.worker for batch in dispatched(actions) if batch.worker == 0][:1]
    told(found, WorkerLost(lost, "gone"), at=2)
    assert found.moved >= 2
    assert found.live == 6
    assert not found._groups[0].movable()


def test_a_job_that_leaves_a_lost_group_too_late_is_not_rejected() -> None:
    """It was accepted: with nothing run it is dropped, and failed if the worker was lost under it."""
    found = fleet(2, 2, policy="optimized")
    actions = told(found, *(Arrived(job(f"j{n}", 4, 0.8, due=560)) for n in range(4)), at=1)
    assert len(dispatched(actions)) == 2
    ends = {r.job.id: r for r in _receipts(told(found, WorkerLost(0, "gone"), at=500))}
    assert ends
    assert {receipt.outcome for receipt in ends.values()} <= {State.DROPPED, State.FAILED}
    assert State.FAILED in {receipt.outcome for receipt in ends.values()}


def test_a_job_that_is_cancelled_on_its_way_is_dropped() -> None:
    """The group that it reaches ends it, and nobody else hears of it."""
    found = fleet(2, 2, hop_ms=1)
    assert not _receipts(told(found, Arrived(job("j", 1, 0.8)), at=1))
    assert not _receipts(told(found, Cancelled("j"), at=1.5))
    receipt = receipt_of(told(found, at=2))
    assert (receipt.outcome, receipt.reason) == (State.DROPPED, Reason.CANCELLED)
    assert found.live == 0


def test_a_shutdown_ends_what_is_on_its_way_too() -> None:
    """Every job has its outcome at the end."""
    found = fleet(2, 2, hop_ms=5)
    told(found, Arrived(job("a")), Arrived(job("b")), at=1)
    assert {r.reason for r in _receipts(told(found, Shutdown(), at=2))} == {Reason.SHUTDOWN}
    assert found.live == 0


def test_groups_need_workers() -> None:
    """Fewer workers than groups are refused, with both numbers."""
    with pytest.raises(UsageError, match="3 groups of 2 workers"):
        fleet(2, 3)


def _receipts(actions: Sequence[Action]) -> list[Any]:
    return [action.receipt for action in actions if isinstance(action, Complete)]
