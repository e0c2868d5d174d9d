"""One group whose process is its own."""

from mosel.core.types import BatchRun
from mosel.online.events import Arrived, Finished, WorkerReady
from mosel.online.fleet import Fleet
from mosel.online.group import Load, Place
from mosel.online.member import Member
from tests.online.driver import MS, dispatched, job, profile, receipt_of


def test_receipts_count_as_the_whole_does_and_the_engine_as_if_alone() -> None:
    """Batch b of group 2 of 3 is 3 b + 2, and its first worker the sixth of all."""
    member = Member(Fleet({"m": profile()}, workers=1), Place(2, 3, range(5, 6)))
    member.handle([WorkerReady(0)], 0)
    assert member.load(0) == Load(0.0, 1)
    (batch,) = dispatched(member.handle([Arrived(job("j1"))], 0))
    assert (batch.id, batch.worker) == (0, 0)
    load = member.load(0)
    assert load == Load(float(batch.expected_ns), 1)
    receipt = receipt_of(member.handle([Finished(batch.id, batch.expected_ns)], round(60 * MS)))
    ran = receipt.batches[0]
    assert isinstance(ran, BatchRun)
    assert (ran.id, ran.worker) == (2, 5)
    assert member.load(round(60 * MS)) == Load(0.0, 1)
