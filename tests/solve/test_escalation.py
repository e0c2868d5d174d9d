import numpy as np
import pytest

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.escalation import cover_ns, expected_ns, safe_ns, shared_ns

FIRST = np.array([0, 10, 15, UNAVAILABLE, 25], np.int64)
LAST = np.array([0, 100, 150, UNAVAILABLE, UNAVAILABLE], np.int64)


def test_the_mean_is_over_the_number_of_unsure_requests() -> None:
    """Of two requests at a third each: none in 4/9, one in 4/9, both in 1/9 of cases."""
    found = expected_ns(FIRST, LAST, 1 / 3)
    assert found[1] == round(10 + 100 / 3)
    assert found[2] == round(15 + 4 / 9 * 100 + 1 / 9 * 150)
    assert found[3] == UNAVAILABLE
    assert found[4] < 25 + 300


def test_shared_batches_cost_each_request_its_part_of_the_best() -> None:
    """75 a request, in batches of two."""
    assert shared_ns(FIRST, LAST, 0.2).tolist() == [0, 25, 45, UNAVAILABLE, 85]


def test_unsure_requests_of_all_that_wait_share_batches() -> None:
    """Of three at a third each: in 8 of 27 cases none, 12 one, 6 two, 1 three; batches hold two at most."""
    found = cover_ns(FIRST, LAST, 1 / 3, 3)
    assert found.tolist() == [
        0,
        round(10 + 100 / 3),
        round(15 + 4 / 9 * 100 + 1 / 9 * 150),
        round(25 + (12 * 100 + 6 * 150 + 250) / 27),
    ]


def test_the_more_requests_wait_the_less_unsure_ones_cost_beyond_the_best_batches() -> None:
    """A single one costs a third of a batch of one; 600 come to within 2% of full batches."""
    first, last = np.array([0, 10], np.int64), np.array([0, 100, 110, 120, 130], np.int64)
    found = cover_ns(first, last, 1 / 3, 600)
    assert found[1] == round(10 + 100 / 3)
    assert found[600] == pytest.approx(600 * 10 + 200 * 130 / 4, rel=0.02)


@pytest.mark.parametrize(("escalated", "more"), [(0.001, 100), (0.3, 300), (1.0, 300)])
def test_in_all_but_a_few_cases_it_takes_no_longer(escalated: float, more: int) -> None:
    """At least one request may be unsure; of four at 0.3 all are in 0.8% of cases, three in 8%."""
    assert safe_ns(FIRST, LAST, escalated)[4] == 25 + (250 if escalated == 0.3 else more)


def test_batches_of_thousands_have_a_mean_and_a_quantile() -> None:
    """Binomial numbers of large batches are found without overflow."""
    first, last = (np.arange(1501, dtype=np.int64) * cost for cost in (10, 100))
    assert expected_ns(first, last, 0.5)[1500] == pytest.approx(1500 * 10 + 750 * 100, rel=1e-6)
    assert safe_ns(first, last, 0.5)[1500] > expected_ns(first, last, 0.5)[1500]
