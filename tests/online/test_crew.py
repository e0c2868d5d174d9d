from mosel.core.types import Batch
from mosel.online.crew import Crew
from mosel.online.sent import Sent
from mosel.online.tables import ModelTable
from tests.online.driver import MS, profile

TABLE = ModelTable(profile())
LEAD = 10 * MS


def crew(*members: int) -> Crew:
    """A crew that is up."""
    found = Crew(members)
    for worker in members:
        found.ready(worker)
    return found


def sent(number: int, worker: int, expected_ms: int) -> Sent:
    """A batch on its way."""
    return Sent(Batch(number, worker, "m", "audio", 0, (), expected_ms * MS), TABLE, 0, (), None)


def ripe(found: Crew, now_ns: int, lead_ns: int, *passed: int) -> int | None:
    """The worker that takes a batch, lanes in the order of their numbers."""
    seat = found.ripe(now_ns, lead_ns, range(int(found.lanes.max()) + 1), passed)
    return None if seat is None else found.members[seat]


def test_workers_that_are_not_up_take_nothing() -> None:
    """Nor do they count as idle."""
    found = Crew((4, 7))
    assert ripe(found, 0, LEAD) is None
    assert (found.up.tolist(), found.idlers) == ([False, False], 0)
    found.ready(7)
    assert ripe(found, 0, LEAD) == 7
    assert (found.up.tolist(), found.idlers) == ([False, True], 1)


def test_a_worker_is_ripe_when_idle_or_within_the_lead() -> None:
    """And not with a batch waiting; without a lead only its report frees it."""
    found = crew(0)
    found.send(sent(0, 0, 50), 0)
    assert ripe(found, 39 * MS, LEAD) is None
    assert found.next_ripe_ns(39 * MS, LEAD) == 40 * MS
    assert ripe(found, 40 * MS, LEAD) == 0
    assert found.next_ripe_ns(40 * MS, LEAD) is None
    assert ripe(found, 60 * MS, 0) is None
    assert found.next_ripe_ns(39 * MS, 0) is None
    found.send(sent(1, 0, 20), 40 * MS)
    assert ripe(found, 45 * MS, LEAD) is None
    assert found.free_ns(45 * MS).tolist() == [70 * MS]


def test_work_goes_to_the_worker_that_is_free_first() -> None:
    """One within its lead waits while another, whose hands are full, will be free before it."""
    found = crew(0, 1)
    found.send(sent(0, 0, 5), 0)
    found.send(sent(1, 0, 1), 0)
    found.send(sent(2, 1, 9), 0)
    assert ripe(found, 0, LEAD) is None
    found.report(0, 5 * MS)
    assert ripe(found, 5 * MS, LEAD) == 0


def test_each_lane_has_a_worker_that_is_free_first() -> None:
    """A worker waits for none of another lane; lanes are asked in order, those passed over not at all."""
    found = crew(0, 1, 2)
    found.lanes[:] = 1, 0, 1
    found.send(sent(0, 1, 5), 0)
    found.send(sent(1, 1, 1), 0)
    found.send(sent(2, 0, 9), 0)
    assert ripe(found, 0, LEAD) == 2
    assert ripe(found, 0, LEAD, 1) is None
    found.lanes[2] = 0
    assert ripe(found, 0, 0) == 2
    assert ripe(found, 0, LEAD, 0) == 0


def test_a_batch_that_overruns_is_taken_to_end_now() -> None:
    """What waits behind it comes on top."""
    found = crew(0)
    found.send(sent(0, 0, 50), 0)
    found.send(sent(1, 0, 20), 45 * MS)
    assert found.free_ns(80 * MS).tolist() == [100 * MS]


def test_the_waiting_batch_starts_when_the_running_one_is_reported() -> None:
    """A report of one that only waits is not believed."""
    found = crew(0)
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
    found = crew(0, 1)
    found.send(sent(0, 0, 50), 0)
    found.send(sent(1, 0, 20), 45 * MS)
    assert [lost.batch.id for lost in found.lose(0)] == [0, 1]
    assert found.lose(0) == []
    assert (found.up.tolist(), found.idle, ripe(found, 0, 0)) == ([False, True], True, 1)
    assert found.report(0, 50 * MS) is None
