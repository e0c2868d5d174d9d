from mosel.core.types import Batch
from mosel.online.crew import Crew, Sent
from mosel.online.tables import ModelTable
from tests.online.driver import MS, profile

TABLE = ModelTable(profile())
LEAD = 10 * MS


def crew(workers: int) -> Crew:
    """A crew that is up."""
    found = Crew(workers)
    for worker in found.workers:
        worker.up = True
    return found


def sent(number: int, worker: int, expected_ms: int) -> Sent:
    """A batch on its way."""
    return Sent(Batch(number, worker, "m", "audio", 0, (), expected_ms * MS), TABLE, 0, (), None)


def test_workers_that_are_not_up_take_nothing() -> None:
    """Nor do they count as free at any time."""
    found = Crew(2)
    assert found.ripe(0, LEAD) is None
    assert len(found.free_ns(0)) == 0
    found.workers[1].up = True
    assert found.ripe(0, LEAD) == 1


def test_a_worker_is_ripe_when_idle_or_within_the_lead() -> None:
    """And not with a batch waiting; without a lead only its report frees it."""
    found = crew(1)
    found.send(sent(0, 0, 50), 0)
    assert found.ripe(39 * MS, LEAD) is None
    assert found.next_ripe_ns(39 * MS, LEAD) == 40 * MS
    assert found.ripe(40 * MS, LEAD) == 0
    assert found.ripe(60 * MS, 0) is None
    assert found.next_ripe_ns(39 * MS, 0) is None
    found.send(sent(1, 0, 20), 40 * MS)
    assert found.ripe(45 * MS, LEAD) is None
    assert found.free_ns(45 * MS).tolist() == [70 * MS]


def test_work_goes_to_the_worker_that_is_free_first() -> None:
    """One within its lead waits while another, whose hands are full, will be free before it."""
    found = crew(2)
    found.send(sent(0, 0, 5), 0)
    found.send(sent(1, 0, 1), 0)
    found.send(sent(2, 1, 9), 0)
    assert found.ripe(0, LEAD) is None
    found.report(0, 5 * MS)
    assert found.ripe(5 * MS, LEAD) == 0


def test_a_batch_that_overruns_is_taken_to_end_now() -> None:
    """What waits behind it comes on top."""
    found = crew(1)
    found.send(sent(0, 0, 50), 0)
    found.send(sent(1, 0, 20), 45 * MS)
    assert found.free_ns(80 * MS).tolist() == [100 * MS]


def test_the_waiting_batch_starts_when_the_running_one_is_reported() -> None:
    """A report of one that only waits is not believed."""
    found = crew(1)
    found.send(sent(0, 0, 50), 0)
    found.send(sent(1, 0, 20), 45 * MS)
    assert found.report(1, 50 * MS) is None
    first = found.report(0, 55 * MS)
    assert first is not None
    assert first.start_ns == 0
    second = found.report(1, 75 * MS)
    assert second is not None
    assert second.start_ns == 55 * MS
    assert found.idle


def test_a_lost_worker_returns_what_it_had_the_running_one_first() -> None:
    """And takes nothing until it is up again; nobody knows its batches any more."""
    found = crew(2)
    found.send(sent(0, 0, 50), 0)
    found.send(sent(1, 0, 20), 45 * MS)
    assert [lost.batch.id for lost in found.lose(0)] == [0, 1]
    assert found.lose(0) == []
    assert (found.up, found.idle, found.ripe(0, 0)) == (1, True, 1)
    assert found.report(0, 50 * MS) is None
