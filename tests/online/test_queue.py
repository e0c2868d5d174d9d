from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.online.jobs import LiveJob
from mosel.online.queue import FIRST_CAPACITY, JobQueue
from mosel.online.tables import ModelTable
from tests.online.driver import MS, job, profile

TABLE = ModelTable(profile())


def live(name: str, due: float, at: float = 0, requests: int = 1) -> LiveJob:
    """A job with all its requests waiting."""
    given_job = job(name, requests, at=at, due=due, weight=2.0)
    found = LiveJob(given_job, TABLE, 0, TABLE.every_mask, list(range(requests)))
    found.look_up()
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=90))
def test_rows_stay_in_order_of_deadline_arrival_and_id(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is put in and taken out, rows and columns are those of a sorted list."""
    queue = JobQueue()
    held: list[LiveJob] = []
    for number, (due, at, take_out) in enumerate(steps):
        if take_out and held:
            row = queue.row(held[due % len(held)])
            assert row is not None
            queue.remove(row)
            del held[row]
        else:
            each = live(f"j{99 - number:02}", 100 + due, at)
            row = queue.insert(each, each.cheapest)
            held = sorted([*held, each], key=lambda one: one.order)
            assert held[row] is each
        assert len(queue) == len(held)
        assert all(a is b for a, b in zip(queue.jobs, held, strict=True))
        assert queue.ints("deadline_ns").tolist() == [one.job.deadline_ns for one in held]
        assert queue.ints("arrival_ns").tolist() == [one.job.arrival_ns for one in held]
        assert [queue.row(one) for one in held] == list(range(len(held)))


def test_a_job_that_is_not_in_the_queue_has_no_row() -> None:
    """Not even if another stands where it would, with the same id and times."""
    queue, one, twin = JobQueue(), live("a", 100), live("a", 100)
    assert queue.row(one) is None
    queue.insert(one, one.cheapest)
    assert queue.row(one) == 0
    assert queue.row(twin) is None


def test_columns_say_what_waits_and_how_it_is_planned() -> None:
    """Waiting requests, least and planned latency, planned accuracy, weight; all read-only."""
    queue, each = JobQueue(), live("a", 100, requests=2)
    each.strategy = each.most_accurate
    queue.insert(each, each.cheapest)
    assert queue.ints("waiting").tolist() == [2]
    assert queue.ints("least_ns").tolist() == [40 * MS]
    assert queue.ints("planned_ns").tolist() == [120 * MS]
    assert queue.floats("planned_accuracy").tolist() == [1.6]
    assert queue.floats("weight").tolist() == [2.0]
    assert sum(each.least_batches_ns) == 40 * MS
    queue.plan(0, each.cheapest)
    assert queue.ints("planned_ns").tolist() == [40 * MS]
    assert not queue.ints("waiting").flags.writeable
    assert not queue.floats("weight").flags.writeable


def test_it_grows() -> None:
    """Far beyond its first capacity, nothing is lost."""
    queue = JobQueue()
    for number in range(5 * FIRST_CAPACITY):
        each = live(f"j{number:04}", 1000 - number % 7)
        queue.insert(each, each.cheapest)
    assert len(queue) == 5 * FIRST_CAPACITY
    deadlines = queue.ints("deadline_ns").tolist()
    assert deadlines == sorted(deadlines)
