import json
from typing import Any

import numpy as np
from msgspec.structs import replace

from mosel.core.clock import NS_PER_MS
from mosel.core.states import State
from mosel.evaluation.client import Reply
from mosel.evaluation.payloads import Payload
from mosel.evaluation.receipts import Sent, count_reasons, read_receipts

from .stand_ins import CHEAP, FULL, job

MS = NS_PER_MS
SERVER_S = 5000.0
"""What the server's clock says when the replay starts."""


def sent(at_ms: float, status: int = 200, **receipt: Any) -> Sent:
    """A job sent at this time and its receipt, whose batches are (id, size, own, start in ms, finish in ms)."""
    if "batches" in receipt:
        receipt["batches"] = json.dumps(
            [
                {
                    "id": number,
                    "worker": 0,
                    "mode": receipt.get("mode", FULL),
                    "size": size,
                    "requests": own,
                    "start": SERVER_S + start_ms / 1000,
                    "finish": SERVER_S + finish_ms / 1000,
                }
                for number, size, own, start_ms, finish_ms in receipt["batches"]
            ]
        )
    payload = Payload(b"", 0, np.zeros(1, np.int64))
    return Sent(payload, round(at_ms * MS), round((at_ms + 99) * MS), Reply(status, receipt=receipt))


def served(at_ms: float, **receipt: Any) -> Sent:
    """A served job that reached the server 2 ms after it was sent, and finished 60 ms after it arrived."""
    return sent(
        at_ms,
        outcome="served",
        reason="on_time",
        arrival_s=SERVER_S + (at_ms + 2) / 1000,
        decided_ms=60.0,
        slack_ms=940.0,
        expected_accuracy=0.9,
        **receipt,
    )


def dropped(at_ms: float, decided_ms: float, modes: str) -> Sent:
    """A job dropped so long after its arrival, some of its requests still with a worker."""
    return sent(
        at_ms,
        503,
        outcome="dropped",
        reason="no_time_left",
        arrival_s=SERVER_S + (at_ms + 2) / 1000,
        decided_ms=decided_ms,
        modes=modes,
        batches=[],
    )


def test_the_servers_clock_is_moved_to_the_quickest_job() -> None:
    """The job that took least to arrive counts as arriving when it was sent; finish = deadline − slack."""
    slow = served(10, batches=[(0, 1, 1, 20, 72)])
    quick = sent(50, 503, outcome="dropped", reason="no_time_left", arrival_s=SERVER_S + 0.051, decided_ms=5.0)
    rows, (batch,) = read_receipts([job("a", at_ms=10), job("b", at_ms=50)], [slow, quick])
    assert rows[1].job.arrival_ns == 50 * MS
    assert rows[1].decided_ns == 55 * MS
    assert rows[0].job.arrival_ns == 11 * MS
    assert rows[0].job.deadline_ns == 1011 * MS
    assert rows[0].finish_ns == batch.finish_ns == 71 * MS
    assert rows[0].modes == ((FULL, 1),)


def test_requests_of_one_batch_are_gathered_from_several_receipts() -> None:
    """Each receipt names its own share of a batch; together they are its size."""
    first = served(0, batches=[(7, 3, 2, 20, 62)])
    second = served(0, batches=[(7, 3, 1, 20, 62)])
    _, (batch,) = read_receipts([job("a", requests=2), job("b")], [first, second])
    assert (batch.id, batch.size, batch.jobs) == (7, 3, (("a", 2), ("b", 1)))


def test_a_receipt_says_what_a_batch_resumes() -> None:
    """From which first stage features were kept, and of how many requests; of others nothing."""
    batch = {
        "id": 7,
        "worker": 0,
        "mode": FULL,
        "size": 2,
        "requests": 1,
        "start": SERVER_S,
        "finish": SERVER_S,
    }
    told = [batch, {**batch, "id": 8, "resumed": f"{CHEAP}:2"}]
    one = served(0, batches=[])
    assert one.reply is not None
    one.reply = Reply(200, receipt={**one.reply.receipt, "batches": json.dumps(told)})
    _, found = read_receipts([job("a")], [one])
    assert [each.resumed for each in found] == [(), ((CHEAP, 2),)]


def test_a_batch_is_of_the_length_bucket_of_its_jobs() -> None:
    """As far as the workload says how long they are; a model without length buckets has none."""
    replies = [served(0, batches=[(0, 1, 1, 5, 20)]), served(0, batches=[(1, 1, 1, 20, 62)])]
    jobs = [replace(job("a"), length=51.0), job("b")]
    _, batches = read_receipts(jobs, replies, {"m": (50.0, 100.0)})
    assert [batch.bucket for batch in batches] == [1, None]
    _, batches = read_receipts(jobs, replies, {"m": ()})
    assert [batch.bucket for batch in batches] == [None, None]


def test_a_job_dropped_while_it_ran_is_found_in_its_batch() -> None:
    """Requests of a shared batch that no receipt owns are those that the dropped job says were running."""
    earlier = served(0, batches=[(0, 3, 1, 5, 20), (1, 3, 1, 20, 62)])
    gone = dropped(0, 30.0, f"{FULL}:2;{CHEAP}:0")
    rows, batches = read_receipts([job("a", requests=2), job("b", requests=4)], [earlier, gone])
    assert [batch.jobs for batch in batches] == [(("a", 1),), (("a", 1), ("b", 2))]
    assert rows[1].modes == ((FULL, 2),)


def test_modes_of_two_models_are_kept_apart() -> None:
    """A batch of one model holds no request of another's job, though its mode has the same name."""
    earlier = served(0, batches=[(0, 3, 1, 20, 62)])
    gone = dropped(0, 30.0, f"{FULL}:2")
    jobs = [job("a"), replace(job("b", requests=2), model="other")]
    _, (batch,) = read_receipts(jobs, [earlier, gone])
    assert (batch.model, batch.jobs) == ("m", (("a", 1),))


def test_without_a_receipt_the_status_decides() -> None:
    """Refused statuses are rejections, others failures; given up is dropped; no answer at all is failed."""
    payload = Payload(b"", 0, np.zeros(1, np.int64))
    replies = [
        Sent(payload, 1 * MS, 2 * MS, Reply(503, "draining")),
        Sent(payload, 1 * MS, 2 * MS, Reply(500, "broken")),
        Sent(payload, 1 * MS, 2 * MS, gave_up=True),
        Sent(payload, 1 * MS, 2 * MS, trouble="gone"),
    ]
    jobs = [job(name, at_ms=1, requests=index + 1) for index, name in enumerate("abcd")]
    rows, batches = read_receipts(jobs, replies)
    assert [row.outcome for row in rows] == [State.REJECTED, State.FAILED, State.DROPPED, State.FAILED]
    assert [row.decided_ns for row in rows] == [2 * MS] * 4
    assert batches == []
    assert count_reasons(jobs, replies) == {"given up": 3, "no answer": 4, "status 500": 2, "status 503": 1}
