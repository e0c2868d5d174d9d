"""When jobs are given up, and when accuracy is."""

import pytest

from mosel.core.states import Reason, State
from mosel.online.events import (
    Arrived,
    Finished,
    Tick,
    WakeAt,
    WorkerReady,
)
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, completed, dispatched, job, profile, receipt_of, scheduler, told

DROPPING = [name for name, policy in POLICIES.items() if policy.drops]


@pytest.mark.parametrize("policy", DROPPING)
def test_a_hopeless_job_is_told_when_it_becomes_so(policy: str) -> None:
    """Audio takes 20 ms, so at 80.000001 of 100 ms it is dropped: the scheduler asks for that very tick."""
    full = policy == "none+batching"
    found, latest = scheduler(policy, up=False), (40 if full else 80) * MS
    actions = told(found, Arrived(job(due=100)))
    assert actions == [WakeAt(latest + 1)]
    assert completed(found.handle([Tick()], latest)) == []
    receipt = receipt_of(found.handle([Tick()], latest + 1))
    assert (receipt.outcome, receipt.reason) == (State.DROPPED, Reason.NO_TIME_LEFT)
    assert receipt.decided_ns == latest + 1
    assert found.live == 0


def test_none_never_drops() -> None:
    """A job whose time is over runs all the same, and is late."""
    found = scheduler("none", up=False)
    told(found, Arrived(job(due=100)))
    (batch,) = dispatched(told(found, WorkerReady(0), at=500))
    receipt = receipt_of(told(found, Finished(batch.id, 60 * MS), at=560))
    assert receipt.outcome is State.LATE
    assert "460.0 ms after its deadline" in receipt.detail


@pytest.mark.parametrize("policy", ["random", "aggressive", "paper", "optimized"])
def test_what_does_not_fit_behind_the_jobs_before_it_is_dropped(policy: str) -> None:
    """Three jobs of 40 ms at their fastest and 100 ms: the last is given up, at once, the others are not."""
    found = scheduler(policy, up=False)
    for name in "abc":
        told(found, Arrived(job(name, 2, due=100)))
    actions = told(found, WorkerReady(0))
    assert receipt_of(actions).job.id == "c"
    assert receipt_of(actions).outcome is State.DROPPED
    assert found.live == 2


@pytest.mark.parametrize("policy", DROPPING)
def test_a_job_partly_run_may_become_hopeless(policy: str) -> None:
    """Its waiting requests are given up and the job dropped; the batch in hand reports to nobody."""
    table = profile({"audio": (0.67, 0, 20)}, sizes=(1,))
    found = Scheduler({"m": table}, policy=policy)
    told(found, WorkerReady(0))
    (batch,) = dispatched(told(found, Arrived(job(requests=2, due=45))))
    wake = 25 * MS + 1
    receipt = receipt_of(found.handle([Tick()], wake))
    assert (receipt.outcome, receipt.decided_ns) == (State.DROPPED, wake)
    assert told(found, Finished(batch.id, 30 * MS), at=30) == []
    assert found.live == found.queued == 0
