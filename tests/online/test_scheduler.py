"""What the scheduler refuses, how jobs run, and what it asks for."""

import pytest

from mosel.core.errors import UsageError
from mosel.core.states import Reason, State
from mosel.online.events import (
    Arrived,
    BatchFailed,
    Cancelled,
    Finished,
    Tick,
    WakeAt,
    WorkerReady,
)
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, dispatched, job, profile, receipt_of, scheduler, told, world


def test_a_batch_that_could_not_be_handed_over_waits_again() -> None:
    """It failed while another ran before it: that one goes on, and the worker gets others after it."""
    found = scheduler(lead_ns=10**9)
    jobs = (job("a", 1, 0.8, due=9000), job("b", 1, 0.8, due=9000))
    first, second = dispatched(told(found, *map(Arrived, jobs)))
    (again,) = dispatched(told(found, BatchFailed(second.id, "no room"), at=1))
    assert again.parts == second.parts
    assert receipt_of(told(found, Finished(first.id, first.expected_ns), at=60)).outcome is State.SERVED
    assert receipt_of(told(found, Finished(again.id, again.expected_ns), at=120)).outcome is State.SERVED


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    """The message names what can be chosen."""
    with pytest.raises(UsageError, match=r"'fastest' is not known; expected one of none, none\+batching"):
        Scheduler({"m": profile()}, policy="fastest")


@pytest.mark.parametrize("policy", POLICIES)
def test_an_accuracy_out_of_reach_is_rejected_naming_the_best(policy: str) -> None:
    """Under every policy, at once, with the best mode of the job's own modalities."""
    found = scheduler(policy)
    receipt = receipt_of(told(found, Arrived(job(slo=0.9))))
    assert (receipt.outcome, receipt.reason) == (State.REJECTED, Reason.ACCURACY_UNREACHABLE)
    assert (
        "accuracy SLO 0.9 cannot be reached with audio+video: the best is 0.8 (audio+video)" in receipt.detail
    )
    receipt = receipt_of(told(found, Arrived(job(slo=0.75, modalities=("video",)))))
    assert "accuracy SLO 0.75 cannot be reached with video: the best is 0.7 (video)" in receipt.detail
    assert found.live == found.queued == 0


def test_an_accuracy_that_is_no_number_is_rejected() -> None:
    """NaN compares with nothing; it must not be queued as if it were reached."""
    receipt = receipt_of(told(scheduler(), Arrived(job(slo=float("nan")))))
    assert receipt.reason is Reason.ACCURACY_UNREACHABLE


def test_modalities_that_no_mode_runs_with_are_rejected() -> None:
    """Where a model never runs without text, a job without it is told so."""
    table = profile({"text": (0.5, 0, 10), "text+audio": (0.7, 0, 20)})
    found = Scheduler({"m": table})
    receipt = receipt_of(told(found, Arrived(job(slo=0.1, modalities=("audio",)))))
    assert receipt.outcome is State.REJECTED
    assert receipt.detail == "no mode of m runs with audio alone; it has text, text+audio"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_job_late_even_alone_is_rejected(policy: str) -> None:
    """Two requests of audio take 40 ms: 39 are too few, 40 are enough (§4.3)."""
    found = scheduler(policy, up=False)
    receipt = receipt_of(told(found, Arrived(job("a", 2, due=39))))
    assert (receipt.outcome, receipt.reason) == (State.REJECTED, Reason.LATENCY_UNREACHABLE)
    assert "take at least 40.0 ms, and 39.0 ms are left" in receipt.detail
    told(found, Arrived(job("b", 2, due=40)))
    assert found.live == (1 if not POLICIES[policy].drops or policy != "none+batching" else 0)


def test_a_deadline_that_is_past_is_rejected() -> None:
    """A job that reached the scheduler after its deadline has no time left, not a negative one."""
    receipt = receipt_of(told(scheduler(), Arrived(job(due=10)), at=11))
    assert receipt.reason is Reason.LATENCY_UNREACHABLE
    assert "and 0.0 ms are left" in receipt.detail


def test_a_batch_that_no_single_worker_can_run_in_time_is_rejected() -> None:
    """Two workers have 30 ms each, but a batch of 40 ms runs on one."""
    table = profile({"audio": (0.67, 20, 10)})
    found = Scheduler({"m": table}, workers=2)
    receipt = receipt_of(told(found, Arrived(job("a", 2, due=30))))
    assert receipt.reason is Reason.LATENCY_UNREACHABLE


def test_an_unknown_model_and_a_taken_id_are_the_drivers_mistake() -> None:
    """They raise instead of ending a job that nobody knows."""
    found = scheduler()
    told(found, Arrived(job("a")))
    for wrong in (job("a"), job("b", model="other")):
        with pytest.raises(UsageError, match="the id is taken, or not one of m"):
            told(found, Arrived(wrong))


def test_an_id_may_be_used_again_after_its_outcome() -> None:
    """Also while the old job's batch is still running: its report does not touch the new job."""
    found = scheduler()
    (old,) = dispatched(told(found, Arrived(job("a"))))
    told(found, Cancelled("a"), at=1)
    told(found, Arrived(job("a", 1)), at=2)
    (new,) = dispatched(told(found, Finished(old.id, 60 * MS), at=60))
    assert found.live == 1
    receipt = receipt_of(told(found, Finished(new.id, 60 * MS), at=120))
    assert [run.id for run in receipt.batches] == [new.id]


def test_no_work_before_a_worker_is_ready() -> None:
    """Jobs wait; the worker's report starts them."""
    found = scheduler(up=False)
    assert dispatched(told(found, Arrived(job()))) == []
    (batch,) = dispatched(told(found, WorkerReady(0), at=5))
    assert (batch.worker, batch.mode, batch.size, batch.expected_ns) == (0, "audio+video", 1, 60 * MS)


def test_a_served_job_says_what_ran() -> None:
    """Outcome, finish, accuracy, modes and batches; the job itself, weight and tenant included."""
    found, given = scheduler("aggressive"), job(requests=2, slo=0.685, weight=2.5)
    (batch,) = dispatched(told(found, Arrived(given)))
    actions = told(found, Finished(batch.id, 30 * MS), at=30)
    (second,) = dispatched(actions)
    receipt = receipt_of(told(found, Finished(second.id, 20 * MS), at=50))
    assert (receipt.outcome, receipt.reason) == (State.SERVED, Reason.ON_TIME)
    assert (receipt.finish_ns, receipt.decided_ns) == (50 * MS, 50 * MS)
    assert receipt.accuracy == pytest.approx(0.685)
    assert receipt.modes == (("video", 1), ("audio", 1))
    runs = [(run.id, run.mode, run.start_ns, run.finish_ns, run.requests) for run in receipt.batches]
    assert runs == [(0, "video", 0, 30 * MS, 1), (1, "audio", 30 * MS, 50 * MS, 1)]
    assert receipt.job is given


def test_a_job_that_overruns_its_deadline_is_late() -> None:
    """At the deadline it is served; a nanosecond after, late, with its accuracy all the same."""
    for extra, outcome in ((0, State.SERVED), (1, State.LATE)):
        found = scheduler()
        (batch,) = dispatched(told(found, Arrived(job(due=60))))
        receipt = receipt_of(found.handle([Finished(batch.id, 60 * MS + extra)], 60 * MS + extra))
        assert receipt.outcome is outcome
        assert receipt.accuracy == pytest.approx(0.8)


def test_jobs_run_in_deadline_order_whatever_their_arrival() -> None:
    """Ties break by arrival, then id."""
    found = scheduler("none", up=False)
    for given in (job("late", due=900), job("b", due=800), job("a", due=800), job("first", due=700)):
        told(found, Arrived(given))
    told(found, Arrived(job("z", at=-1, due=800)))
    ran, now = [], 0
    batches = dispatched(told(found, WorkerReady(0)))
    while batches:
        ran.append(batches[0].parts[0].job)
        now += 60
        batches = dispatched(told(found, Finished(batches[0].id, 60 * MS), at=now))
    assert ran == ["first", "z", "a", "b", "late"]


def test_a_second_batch_goes_to_a_busy_worker_only_within_the_lead() -> None:
    """With a lead of 5 ms the choice is made at 55 of 60 ms; the scheduler asks to be woken then."""
    found = scheduler(lead_ns=5 * MS)
    actions = told(found, Arrived(job("a")), Arrived(job("b")))
    assert [batch.parts[0].job for batch in dispatched(actions)] == ["a"]
    assert WakeAt(55 * MS) in actions
    assert dispatched(told(found, Tick(), at=54.9)) == []
    (second,) = dispatched(told(found, Tick(), at=55))
    assert second.parts[0].job == "b"
    assert dispatched(told(found, Arrived(job("c")), at=56)) == []
    assert dispatched(told(found, Finished(0, 60 * MS), at=60)) == []
    (third,) = dispatched(told(found, Tick(), at=115))
    assert third.parts[0].job == "c"


def test_without_a_lead_a_worker_holds_one_batch() -> None:
    """Not even an overrunning batch lets a second one be sent."""
    found = scheduler()
    told(found, Arrived(job("a")), Arrived(job("b")))
    assert dispatched(told(found, Tick(), at=200)) == []
    assert len(dispatched(told(found, Finished(0, 200 * MS), at=200))) == 1


def test_a_tick_that_comes_early_is_asked_for_again() -> None:
    """Timers may fire a little early; the wake-up must not be lost."""
    found = scheduler(lead_ns=5 * MS)
    told(found, Arrived(job("a")), Arrived(job("b")))
    assert WakeAt(55 * MS) in told(found, Tick(), at=54)


def test_time_may_stand_still() -> None:
    """Any number of calls at one instant send each request once and ask for no past wake-up."""
    found = scheduler("optimized", workers=2)
    sent = []
    for name in "abcdef":
        actions = told(found, Arrived(job(name, 2, due=400)))
        sent += dispatched(actions)
        assert all(action.at_ns > 0 for action in actions if isinstance(action, WakeAt))
    for _ in range(5):
        assert told(found) == []
    for batch in sent:
        sent += dispatched(told(found, Finished(batch.id, 0), at=0))
    assert found.live == 0


def test_several_workers_share_the_queue() -> None:
    """Each idle worker gets a batch; nothing is run twice."""
    found = scheduler("none", workers=3)
    batches = dispatched(told(found, Arrived(job("a")), Arrived(job("b"))))
    assert sorted(batch.worker for batch in batches) == [0, 1]
    assert {batch.parts[0].job for batch in batches} == {"a", "b"}


def test_a_job_larger_than_the_largest_batch_is_split() -> None:
    """Nine requests in batches of at most four; its receipt has every one."""
    for policy in POLICIES:
        table = profile()
        ran = world(Scheduler({"m": table}, policy=policy), [table], [job(requests=9, slo=0.7)]).run()
        receipt = ran.receipts["j"]
        assert receipt.outcome is State.SERVED
        assert max(batch.size for batch, _, _ in ran.batches) <= 4
        seen = sorted(r for batch, _, _ in ran.batches for part in batch.parts for r in part.requests)
        assert seen == list(range(9))
        assert sum(count for _, count in receipt.modes) == 9


def test_modes_that_take_no_time_and_profiles_of_one_mode() -> None:
    """Zero latencies and a single mode are no special cases."""
    for modes in ({"audio": (0.5, 0.0, 0.0)}, {"audio": (0.5, 0.0, 5.0)}, {"a": (0.5, 0, 0), "b": (0.6, 0, 0)}):
        for policy in POLICIES:
            table = profile(modes)
            jobs = [job(f"j{i}", 1 + i % 6, 0.5, at=i // 3, due=i // 3 + 60) for i in range(30)]
            ran = world(Scheduler({"m": table}, policy=policy), [table], jobs).run()
            assert len(ran.receipts) == 30
            if modes.get("audio", (0, 0, 0))[2] == 0:
                assert ran.share(State.SERVED) == 1


def test_missing_modalities_limit_the_modes() -> None:
    """A job without video runs in audio under every policy, the modality-agnostic ones too."""
    for policy in POLICIES:
        found = scheduler(policy)
        (batch,) = dispatched(told(found, Arrived(job(modalities=("audio",)))))
        assert batch.mode == "audio"


def test_full_modalities_give_way_where_they_miss_the_slo() -> None:
    """Where all modalities together are less accurate than one, the SLO decides."""
    table = profile({"a": (0.9, 0, 10), "b": (0.5, 0, 10), "a+b": (0.7, 0, 20)})
    for slo, mode in ((0.6, "a+b"), (0.8, "a")):
        for policy in ("none", "none+batching"):
            found = Scheduler({"m": table}, policy=policy)
            told(found, WorkerReady(0))
            (batch,) = dispatched(told(found, Arrived(job(slo=slo))))
            assert batch.mode == mode


def test_length_buckets_have_their_own_latencies() -> None:
    """A job's length picks the bucket; none given is taken as the longest; above the last it is refused."""
    table = profile(buckets=(10.0, 20.0))
    found = Scheduler({"m": table}, policy="none")
    told(found, WorkerReady(0))
    (short,) = dispatched(told(found, Arrived(job("a", length=10.0))))
    (long,) = dispatched(told(found, Finished(0, 60 * MS), Arrived(job("b", length=10.5)), at=60))
    (unknown,) = dispatched(told(found, Finished(1, 120 * MS), Arrived(job("c")), at=180))
    assert [(b.bucket, b.expected_ns) for b in (short, long, unknown)] == [
        (0, 60 * MS),
        (1, 120 * MS),
        (1, 120 * MS),
    ]
    receipt = receipt_of(told(found, Arrived(job("d", length=20.5)), at=181))
    assert (receipt.outcome, receipt.reason) == (State.REJECTED, Reason.BAD_INPUT)
    assert "20.5 is above the profile's limit 20.0" in receipt.detail
