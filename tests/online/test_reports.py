"""What the scheduler makes of failures, lost workers, corrupt inputs, cancellations and shutdown."""

import pytest

from mosel.core.states import Reason, State
from mosel.online.events import (
    Arrived,
    BatchFailed,
    Cancelled,
    Corrupt,
    Finished,
    Shutdown,
    Tick,
    WorkerLost,
    WorkerReady,
)
from mosel.online.policies import POLICIES, Options
from mosel.online.scheduler import Scheduler
from mosel.online.tables import ModelTable
from tests.online.driver import MS, completed, dispatched, job, profile, receipt_of, scheduler, told


@pytest.mark.parametrize("policy", POLICIES)
def test_reports_of_unknown_batches_and_jobs_are_ignored(policy: str) -> None:
    """Late, duplicate and made-up reports change nothing."""
    found = scheduler(policy)
    (batch,) = dispatched(told(found, Arrived(job())))
    done = Finished(batch.id, 60 * MS)
    assert len(completed(told(found, done, done, at=60))) == 1
    assert told(found, done, Finished(99, 1), BatchFailed(99, "?"), Cancelled("nobody"), at=61) == []
    assert told(found, WorkerLost(0, "twice"), WorkerLost(0, "twice"), at=62) == []


def test_a_corrupt_modality_sends_the_request_to_another_mode() -> None:
    """Without video the job still meets its SLO with audio; its receipt says what happened."""
    found = Scheduler({"m": profile({"audio": (0.67, 10, 10), "audio+video": (0.80, 20, 40)})})
    told(found, WorkerReady(0))
    (batch,) = dispatched(told(found, Arrived(job(requests=2))))
    undone = (Corrupt("j", 1, "video", "bad magic"),)
    (again,) = dispatched(told(found, Finished(batch.id, 100 * MS, undone), at=100))
    assert (again.mode, again.parts[0].requests) == ("audio", (1,))
    receipt = receipt_of(told(found, Finished(again.id, 20 * MS), at=120))
    assert receipt.outcome is State.SERVED
    assert receipt.modes == (("audio+video", 1), ("audio", 1))
    assert receipt.accuracy == pytest.approx((0.8 + 0.67) / 2)


def test_a_corrupt_modality_that_the_slo_needs_fails_the_job() -> None:
    """It is bad input, with the modality and the reason."""
    found = scheduler()
    (batch,) = dispatched(told(found, Arrived(job(slo=0.7))))
    receipt = receipt_of(told(found, Finished(batch.id, 1, (Corrupt("j", 0, "video", "bad magic"),)), at=1))
    assert (receipt.outcome, receipt.reason) == (State.FAILED, Reason.BAD_INPUT)
    assert receipt.detail == "modality video could not be decoded: bad magic"
    assert receipt.batches == (), "nothing of it ran"


def test_every_modality_may_turn_out_corrupt() -> None:
    """Then no mode is left and the job has failed; the scheduler goes on."""
    found = scheduler()
    (first,) = dispatched(told(found, Arrived(job())))
    (again,) = dispatched(told(found, Finished(first.id, 1, (Corrupt("j", 0, "video", "x"),)), at=1))
    receipt = receipt_of(told(found, Finished(again.id, 1, (Corrupt("j", 0, "audio", "y"),)), at=2))
    assert receipt.reason is Reason.BAD_INPUT
    assert dispatched(told(found, Arrived(job("next")), at=3))


def test_a_corrupt_request_while_another_batch_of_its_job_is_in_flight() -> None:
    """The other batch, in the mode with the bad modality, still counts when it succeeds."""
    table = profile(sizes=(1,))
    found = Scheduler({"m": table}, workers=2)
    told(found, WorkerReady(0), WorkerReady(1))
    first, second = dispatched(told(found, Arrived(job(requests=2))))
    assert first.mode == second.mode == "audio+video"
    undone = (Corrupt("j", first.parts[0].requests[0], "video", "x"),)
    (again,) = dispatched(told(found, Finished(first.id, 30 * MS, undone), at=30))
    assert (again.mode, again.parts[0].requests) == ("audio", first.parts[0].requests)
    assert completed(told(found, Finished(again.id, 20 * MS), at=50)) == []
    receipt = receipt_of(told(found, Finished(second.id, 60 * MS), at=60))
    assert receipt.modes == (("audio+video", 1), ("audio", 1))


def test_a_corrupt_request_that_ends_the_job_leaves_its_other_batch_to_nobody() -> None:
    """The job has failed; the other batch's report, good or bad, is ignored."""
    for last in (Finished(1, 60 * MS), BatchFailed(1, "x"), WorkerLost(1, "x")):
        table = profile(sizes=(1,))
        found = Scheduler({"m": table}, workers=2)
        told(found, WorkerReady(0), WorkerReady(1))
        first, _ = dispatched(told(found, Arrived(job(requests=2, slo=0.8))))
        undone = (Corrupt("j", first.parts[0].requests[0], "video", "x"),)
        assert receipt_of(told(found, Finished(first.id, 1, undone), at=1)).outcome is State.FAILED
        assert told(found, last, at=60) == []


def test_a_model_that_raises_twice_fails_the_job() -> None:
    """Once is retried."""
    found = scheduler()
    (batch,) = dispatched(told(found, Arrived(job())))
    (again,) = dispatched(told(found, BatchFailed(batch.id, "boom"), at=10))
    receipt = receipt_of(told(found, BatchFailed(again.id, "boom again"), at=20))
    assert (receipt.outcome, receipt.reason) == (State.FAILED, Reason.MODEL_FAILED)
    assert receipt.detail == "boom again"
    assert receipt.batches == ()


def test_a_batch_that_fails_too_late_to_be_run_again_fails_the_job() -> None:
    """There is no time for a second attempt; the reason is the model's failure."""
    found = scheduler()
    (batch,) = dispatched(told(found, Arrived(job(due=100))))
    receipt = receipt_of(told(found, BatchFailed(batch.id, "boom"), at=81))
    assert (receipt.outcome, receipt.reason) == (State.FAILED, Reason.MODEL_FAILED)


def test_after_a_failure_a_job_is_batched_alone() -> None:
    """`none+batching` does not let a job that failed drag others along."""
    found = scheduler("none+batching", batch_limit=4)
    (batch,) = dispatched(told(found, Arrived(job("bad"))))
    told(found, Arrived(job("good")), at=1)
    (again,) = dispatched(told(found, BatchFailed(batch.id, "boom"), at=2))
    assert [part.job for part in again.parts] == ["bad"]


def test_a_job_that_failed_joins_no_batch_of_others() -> None:
    """Waiting behind a sound job it is left for a batch of its own."""
    found = scheduler("none+batching", batch_limit=4)
    (batch,) = dispatched(told(found, Arrived(job("bad", due=900))))
    told(found, Arrived(job("good", due=800)), at=1)
    (next_one,) = dispatched(told(found, BatchFailed(batch.id, "boom"), at=2))
    assert [part.job for part in next_one.parts] == ["good"]


def test_a_lost_worker_gives_its_requests_back() -> None:
    """They wait for the next worker that is ready; the job is still running, and ends once."""
    found = scheduler()
    told(found, Arrived(job("a")))
    assert dispatched(told(found, WorkerLost(0, "killed"), at=10)) == []
    assert found.queued == 1
    (again,) = dispatched(told(found, WorkerReady(0), at=20))
    assert told(found, Finished(0, 60 * MS), at=60) == []
    receipt = receipt_of(told(found, Finished(again.id, 60 * MS), at=80))
    assert receipt.outcome is State.SERVED
    assert [run.id for run in receipt.batches] == [again.id]


def test_a_worker_lost_too_late_fails_the_job() -> None:
    """Neither at once, where no time is left, nor later, when the worker does not come back in time."""
    found = scheduler()
    told(found, Arrived(job(due=100)))
    receipt = receipt_of(told(found, WorkerLost(0, "killed"), at=81))
    assert (receipt.outcome, receipt.reason, receipt.detail) == (State.FAILED, Reason.WORKER_LOST, "killed")
    found = scheduler()
    told(found, Arrived(job(due=100)))
    assert completed(told(found, WorkerLost(0, "killed"), at=10)) == []
    receipt = receipt_of(found.handle([Tick()], 80 * MS + 1))
    assert (receipt.outcome, receipt.reason) == (State.FAILED, Reason.WORKER_LOST)


def test_a_batch_that_only_waited_at_a_lost_worker_is_no_fault_of_its_job() -> None:
    """It may be lost twice more; should it then fail for want of time, the worker is named."""
    found = scheduler(lead_ns=10 * MS)
    told(found, Arrived(job("a", due=1000)), Arrived(job("b", due=1001)))
    told(found, Tick(), at=50)
    told(found, WorkerLost(0, "killed"), at=55)
    receipts = completed(found.handle([Tick()], 981 * MS + 2))
    assert {receipt.job.id: (receipt.reason, receipt.detail) for receipt in receipts} == {
        "a": (Reason.WORKER_LOST, "killed"),
        "b": (Reason.WORKER_LOST, "killed"),
    }


def test_other_workers_take_over_from_a_lost_one() -> None:
    """Their time counts: the job is not given up while one of them can serve it."""
    found = scheduler("none", workers=2)
    first, second = dispatched(told(found, Arrived(job("a", due=200)), Arrived(job("b", due=300))))
    told(found, WorkerLost(first.worker, "killed"), at=10)
    (again,) = dispatched(told(found, Finished(second.id, 60 * MS), at=60))
    assert (again.worker, again.parts[0].job) == (second.worker, first.parts[0].job)


def test_a_large_job_given_back_counts_on_all_workers() -> None:
    """80 ms of work with 50 ms left is served by two workers, so a lost batch does not fail it."""
    table = profile({"audio": (0.67, 0, 20)}, sizes=(1, 2))
    found = Scheduler({"m": table}, workers=2)
    told(found, WorkerReady(0), WorkerReady(1))
    told(found, Arrived(job(requests=4, due=95)))
    actions = told(found, WorkerLost(0, "killed"), at=10)
    assert completed(actions) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cancelled_job_ends_wherever_it_stands(policy: str) -> None:
    """Waiting or running: dropped as cancelled, once; the batch in hand reports to nobody."""
    found = scheduler(policy)
    (batch,) = dispatched(told(found, Arrived(job("a", due=2000))))
    told(found, Arrived(job("b", due=2001)), at=1)
    receipts = completed(told(found, Cancelled("a"), Cancelled("b"), Cancelled("b"), at=2))
    assert [(r.job.id, r.outcome, r.reason) for r in receipts] == [
        ("a", State.DROPPED, Reason.CANCELLED),
        ("b", State.DROPPED, Reason.CANCELLED),
    ]
    assert told(found, Finished(batch.id, 60 * MS), at=60) == []
    assert found.live == found.queued == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_shutdown_ends_every_job(policy: str) -> None:
    """Nothing is live afterwards, and nothing more is sent."""
    found = scheduler(policy, workers=2)
    told(found, *(Arrived(job(f"j{i}", 3, due=3000)) for i in range(5)))
    actions = told(found, Shutdown(), at=1)
    receipts = completed(actions)
    assert {receipt.reason for receipt in receipts} == {Reason.SHUTDOWN}
    assert len(receipts) == 5
    assert dispatched(actions) == []
    assert found.live == found.queued == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_after_a_batch_that_memory_did_not_hold_none_so_large_is_sent(policy: str) -> None:
    """The job is served, the estimates learn nothing from it, and later batches keep to what fits."""
    table = profile({"audio": (0.67, 10, 10), "audio+video": (0.80, 40, 20)})
    found = Scheduler({"m": table}, policy=policy, options=Options(batch_limit=4))
    told(found, WorkerReady(0))
    (batch,) = dispatched(told(found, Arrived(job(requests=4, slo=0.8))))
    assert batch.size == 4
    before = found.estimator.changes
    told(found, Finished(batch.id, 900 * MS, fits=2), at=900)
    assert found.estimator.changes == before
    later = job("next", requests=4, slo=0.8, at=2000, due=4000)
    actions, at, sizes = told(found, Arrived(later), at=2000), 2000, []
    while batches := dispatched(actions):
        sizes += [one.size for one in batches]
        at += 80
        actions = told(found, *(Finished(one.id, 80 * MS) for one in batches), at=at)
    assert sizes == [2, 2]
    assert receipt_of(actions).outcome is State.SERVED


def test_what_fits_holds_for_longer_requests_too() -> None:
    """Those of the same length bucket and of longer ones; shorter ones may still share large batches."""
    table = ModelTable(profile(buckets=(1, 2, 3)))
    assert table.limit("audio", 1, 2)
    assert not table.limit("audio", 1, 3)
    assert [table.batch_sizes(0, bucket).tolist() for bucket in range(3)] == [[1, 2, 3, 4], [1, 2], [1, 2]]
    assert table.batch_sizes(1, 1).tolist() == [1, 2, 3, 4]
    assert not table.limit("audio", 1, 0) or table.batch_sizes(0, 1).tolist() == [1]
