"""`none+batching` through the scheduler; times in ms."""

import msgspec

from mosel.core.states import State
from mosel.online.events import (
    Arrived,
    Finished,
    Tick,
    WakeAt,
    WorkerReady,
)
from mosel.online.policies import Options
from mosel.online.scheduler import Scheduler
from tests.online.driver import MS, dispatched, job, profile, receipt_of, scheduler, told


def test_none_batching_batches_across_jobs() -> None:
    """Requests of several jobs share a batch, in deadline order, up to the limit."""
    found = scheduler("none+batching", up=False, batch_limit=4)
    told(found, *(Arrived(job(name, 2, due=due)) for name, due in (("a", 900), ("b", 800), ("c", 850))))
    (batch,) = dispatched(told(found, WorkerReady(0)))
    assert [(part.job, part.requests) for part in batch.parts] == [("b", (0, 1)), ("c", (0, 1))]
    assert batch.mode == "audio+video"


def test_a_batch_never_spans_models_buckets_or_modes() -> None:
    """Companions of the first job share its model, its length bucket and its mode."""
    tables = {name: profile(model=name, buckets=(1.0, 2.0)) for name in ("m", "n")}
    jobs = [
        job("head", due=10_000, length=1.0),
        job("other model", due=10_001, model="n", length=1.0),
        job("other bucket", due=10_002, length=2.0),
        job("other mode", due=10_003, modalities=("audio",), length=1.0),
        job("same", due=10_004, length=0.5),
    ]
    found = Scheduler(tables, policy="none+batching", options=Options(batch_limit=4))
    told(found, *(Arrived(each) for each in jobs))
    (batch,) = dispatched(told(found, WorkerReady(0)))
    assert [part.job for part in batch.parts] == ["head", "same"]
    assert (batch.model, batch.bucket, batch.mode) == ("m", 0, "audio+video")


def test_the_tuned_batch_size_is_the_one_with_most_requests_per_second() -> None:
    """Three at 40 ms beat four at 80 and two at 30, unless a limit is given."""
    whole = profile({"a": (0.7, 0, 10)})
    latency_s = [0.02, 0.03, 0.04, 0.08]
    mode = msgspec.structs.replace(whole.modes[0], latency_s=latency_s, latency_p99_s=latency_s)
    table = msgspec.structs.replace(whole, modes=(mode,))
    for limit, expected in ((None, 3), (2, 2), (1, 1), (99, 4), (0, 1)):
        found = Scheduler({"m": table}, policy="none+batching", options=Options(batch_limit=limit))
        told(found, *(Arrived(job(f"j{i}", 3, 0.7, due=9000)) for i in range(4)))
        (batch,) = dispatched(told(found, WorkerReady(0)))
        assert batch.size == expected


def test_a_batch_does_not_grow_until_its_first_job_is_late() -> None:
    """Alone the head ends at 60 of 130 ms; two fit, three do not."""
    found = scheduler("none+batching", up=False, batch_limit=4)
    told(found, *(Arrived(job(f"j{i}", due=130 + i)) for i in range(4)))
    (batch,) = dispatched(told(found, WorkerReady(0)))
    assert batch.size == 2


def test_a_job_for_which_the_batch_would_shrink_is_passed_over_where_many_wait() -> None:
    """Of six requests four fill a batch, which the head has no time for; of five it gets its smaller one."""
    for others, size, head in ((5, 4, "other 0"), (4, 2, "head")):
        found = scheduler("none+batching", up=False, batch_limit=4)
        told(found, Arrived(job("head", due=130)))
        told(found, *(Arrived(job(f"other {i}", due=2000 + i)) for i in range(others)))
        (batch,) = dispatched(told(found, WorkerReady(0)))
        assert (batch.size, batch.parts[0].job) == (size, head)


def test_jobs_passed_over_are_served_where_no_other_batch_is_full() -> None:
    """None of six has time for a batch of four: the first gets the largest that it has time for."""
    found = scheduler("none+batching", up=False, batch_limit=4)
    told(found, *(Arrived(job(f"j{i}", due=130 + i)) for i in range(6)))
    (batch,) = dispatched(told(found, WorkerReady(0)))
    assert (batch.size, batch.parts[0].job) == (2, "j0")


def test_a_batch_waits_to_fill_up_but_not_into_lateness() -> None:
    """The delay ends when the batch is full, when it is over, or when the first job has to start."""
    wait = 50 * MS
    found = scheduler("none+batching", batch_limit=2, batch_delay_ns=wait)
    assert told(found, Arrived(job("a"))) == [WakeAt(wait)]
    assert dispatched(told(found, Tick(), at=49)) == []
    (alone,) = dispatched(told(found, Tick(), at=50))
    assert alone.size == 1
    told(found, Finished(alone.id, 60 * MS), at=110)
    told(found, Arrived(job("b", at=200, due=2000)), at=200)
    (full,) = dispatched(told(found, Arrived(job("c", at=201, due=2000)), at=201))
    assert full.size == 2
    told(found, Finished(full.id, 120 * MS), at=321)
    assert told(found, Arrived(job("d", at=400, due=470)), at=400) == [WakeAt(410 * MS)]
    (pressed,) = dispatched(told(found, Tick(), at=410))
    receipt = receipt_of(told(found, Finished(pressed.id, 60 * MS), at=470))
    assert receipt.outcome is State.SERVED
