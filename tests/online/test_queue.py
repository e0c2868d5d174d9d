import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.core.states import Reason
from mosel.online.jobs import LiveJob, Progress
from mosel.online.queue import FIRST_CAPACITY, JobQueue, Selection
from mosel.online.tables import ModelTable
from tests.online.driver import MS, job, profile

TABLE = ModelTable(profile())


def live(name: str, due: float, at: float = 0, requests: int = 1) -> LiveJob:
    """A job with all its requests waiting."""
    given_job = job(name, requests, at=at, due=due, weight=2.0)
    found = LiveJob(Progress(given_job, TABLE.every_mask, list(range(requests))), TABLE, 0)
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
            queue.remove([row])
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


def test_what_a_job_takes_on_idle_workers() -> None:
    """Two batches one after the other on one worker, side by side on two."""
    queue, each = JobQueue(1), live("a", 1000, requests=5)
    queue.insert(each, each.cheapest)
    assert queue.ints("alone_ns").tolist() == queue.ints("least_ns").tolist() == [100 * MS]
    queue.count_workers(2)
    assert (queue.ints("alone_ns").tolist(), queue.ints("least_ns").tolist()) == ([60 * MS], [100 * MS])


def test_a_queue_knows_of_jobs_under_which_a_batch_failed() -> None:
    """From when it is told until the last of them is out."""
    queue, one, other = JobQueue(), live("a", 100), live("b", 50)
    for each in (one, other):
        queue.insert(each, each.cheapest)
    assert not queue.faulty
    one.progress.blame(Reason.MODEL_FAILED, "boom")
    queue.refresh(1, one.cheapest)
    assert queue.faulty
    assert Selection(queue, np.array([1])).faulty
    assert not Selection(queue, np.array([0])).faulty
    queue.remove([1])
    assert not queue.faulty


def test_some_rows_are_read_like_a_queue() -> None:
    """Jobs and columns of the rows that were selected, in their order."""
    queue = JobQueue()
    for number in range(4):
        each = live(f"j{number}", 100 + number, requests=1 + number)
        queue.insert(each, each.cheapest)
    some = Selection(queue, np.array([1, 3]))
    assert len(some) == 2
    assert [each.job.id for each in some.jobs] == ["j1", "j3"]
    assert some.ints("waiting").tolist() == [2, 4]
    assert some.floats("worth").tolist() == [4.0, 8.0]


def test_it_grows() -> None:
    """Far beyond its first capacity, nothing is lost."""
    queue = JobQueue()
    for number in range(5 * FIRST_CAPACITY):
        each = live(f"j{number:04}", 1000 - number % 7)
        queue.insert(each, each.cheapest)
    assert len(queue) == 5 * FIRST_CAPACITY
    deadlines = queue.ints("deadline_ns").tolist()
    assert deadlines == sorted(deadlines)
