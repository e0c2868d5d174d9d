import pytest
from msgspec.structs import replace

from mosel.core.errors import RefusedError
from mosel.online.backlog import LONGEST_WAIT_S, Backlog
from tests.online.driver import job, profile

TABLE = profile({"audio": (0.67, 10, 10), "audio+video": (0.80, 20, 40)})
"""In batches of 4 a request costs 12.5 ms with audio alone, and 45 ms with both."""


def test_a_job_counts_for_its_cheapest_mode_that_is_good_enough() -> None:
    """Per request, in the best batch, shared among the workers."""
    found = Backlog([TABLE], 2, 10)
    found.add(job("a", requests=8, slo=0.6))
    assert found.seconds == pytest.approx(0.05)
    found.add(job("b", requests=8, slo=0.75))
    assert found.seconds == pytest.approx(0.05 + 0.18)
    found.remove(job("a", requests=8, slo=0.6))
    found.remove(job("b", requests=8, slo=0.75))
    assert found.seconds == 0


def test_over_the_limit_jobs_are_refused_with_when_to_come_back() -> None:
    """The message says how much there is; what was refused counts for nothing."""
    found = Backlog([TABLE], 1, 1.0)
    found.add(job("a", requests=72, slo=0.6))
    found.add(job("b", requests=88, slo=0.6))
    for name in "cd":
        with pytest.raises(RefusedError, match=r"2\.0 s of work before it, and its limit is 1 s") as caught:
            found.add(job(name))
        assert caught.value.retry_after_s == pytest.approx(1.5)
    found.remove(job("a"))
    found.remove(job("b"))
    found.add(job("e"))


def test_nobody_is_sent_away_for_long() -> None:
    """However much there is."""
    found = Backlog([TABLE], 1, 1.0)
    found.add(job("a", requests=80_000, slo=0.6))
    with pytest.raises(RefusedError) as caught:
        found.add(job("b"))
    assert caught.value.retry_after_s == LONGEST_WAIT_S


def test_a_job_that_no_mode_alone_is_good_enough_for_counts_for_the_dearest() -> None:
    """Whether it can be served at all is the scheduler's business."""
    found = Backlog([TABLE], 1, 1.0)
    found.add(replace(job("a"), accuracy_slo=0.99))
    assert found.seconds == pytest.approx(0.045)
