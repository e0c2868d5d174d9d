"""`solve/exposure.py` beside arrivals that are counted one by one."""

import numpy as np
import pytest

from mosel.solve.exposure import exposed

TIGHT = np.array([[2.0, 1.0], [20.0, 40.0], [0.4, 1.6]])
"""Two classes: worth 2 with a slack of 10 and work 0.4, worth 1 with a slack of 40 and work 1.6."""

LATENCY = np.array([[0, 5, 30, 100], [0, 12, 50, 1 << 60]])


def counted(took: int, free: list[int], wanted: float) -> float:
    """The worth lost of arrivals 0.01 apart: each needs a worker at the end of its slack, some are missing."""
    lost = 0.0
    for worth, slack in ((2.0, 10), (1.0, 40)):
        begun = slack + np.arange(0, 200, 0.01)
        others = np.searchsorted(np.array(free, float), begun, side="right")
        missing = np.clip(wanted - others, 0, 1) / wanted
        lost += worth * 0.01 * float(missing[begun < took].sum())
    return lost


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("free", [[], [0], [20], [25, 60], [0, 0, 45]])
def test_what_a_batch_loses_is_what_arrives_under_it_and_cannot_wait(rate: float, free: list[int]) -> None:
    """For any batch, with and without other workers, below and above what they can do."""
    found = exposed(TIGHT, rate, 0.0, np.array(free, np.int64), LATENCY)
    for kind, size in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 2)):
        expected = rate * counted(int(LATENCY[kind, size]), free, 2 * rate)
        assert found[0, kind, size] == pytest.approx(expected, abs=0.05 * rate)
    assert not found[1].any()


def test_where_time_is_scarce_the_work_that_is_lost_is_known_too() -> None:
    """Alone under a batch of 30, 20 of the time lose the first class: its work, as far as time is scarce."""
    found = exposed(TIGHT, 0.1, 0.5, np.empty(0, np.int64), LATENCY)
    assert found[:, 0, 2] == pytest.approx([2 * 0.1 * 20, 0.5 * 0.4 * 0.1 * 20])


def test_nothing_is_lost_where_every_slack_is_longer_than_any_batch() -> None:
    """The array is empty."""
    assert exposed(TIGHT, 1.0, 1.0, np.empty(0, np.int64), LATENCY[:, :2] // 2).size == 0
