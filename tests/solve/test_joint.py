"""`solve/joint.py` on a few jobs whose best choice is plain."""

import numpy as np

from mosel.solve.joint import Care, Choice, Classes, Menu, Queue, choose

CHEAP, DEAR = 0, 1
CLASSES = Classes(
    np.array([[0, 10, 12, 14, 16], [0, 20, 24, 28, 32]]),
    np.array([[0, 10, 12, 14, 16], [0, 20, 24, 28, 32]]),
    np.array([4.0, 8.0]),
)
"""Two modes, batches up to 4: the first request of a batch costs most of it."""

MENU = Menu(
    np.array([4, 8, 8, 16]), np.array([0.5, 0.9, 0.9, 1.8]), np.arange(5),
    np.array([CHEAP, DEAR, DEAR, DEAR]), np.array([1, 1, 1, 2]),
)  # fmt: skip
"""Options: one request in the cheap or the dear mode (0 to 2), one in the dear mode, two in the dear mode."""


def chosen(
    by: list[int],
    low: list[int],
    high: list[int],
    *,
    worth: tuple[float, ...] = (),
    share: float = 1.0,
    ease: float,
) -> Choice:
    """The choice among jobs, of worth 1 unless given, with nothing to spare for accuracy."""
    jobs = len(by)
    queue = Queue(
        np.array(by), np.array(by), np.array(worth or (1.0,) * jobs, float), np.array(low), np.array(high),
        np.full(jobs, share), np.zeros(jobs, np.int64),
    )  # fmt: skip
    return choose(queue, MENU, CLASSES, 0, Care(1.0, 1.0, 0.1, 1.0, ease))


def test_a_job_joins_a_dearer_batch_that_runs_anyway() -> None:
    """Beside two requests in the dear mode another costs 4 there, alone in the cheap mode 10."""
    together = chosen([100, 100], [3, 0], [4, 2], worth=(9, 1), ease=0.5)
    assert (together.kind, together.counts.tolist()) == (DEAR, [2, 1])
    apart = chosen([100, 100], [3, 0], [4, 2], worth=(9, 1), ease=0.0)
    assert apart.counts.sum() < 3


def test_nothing_is_kept_back_where_everybody_fits_and_workers_keep_up() -> None:
    """A share of half would let in one of two jobs that both fit; at ease both are taken in."""
    assert chosen([20, 44], [2, 2], [3, 3], share=0.5, ease=0.5).accepted.sum() == 1
    assert chosen([20, 44], [2, 2], [3, 3], share=0.5, ease=1.0).accepted.all()


def test_at_ease_no_batch_makes_a_job_late_that_need_not_be() -> None:
    """A job with no more time than for itself goes first, though a fuller batch of others is there."""
    first = chosen([12, 100, 100], [0, 3, 3], [1, 4, 4], ease=1.0)
    assert (first.kind, first.rows.tolist()) == (CHEAP, [0])


def test_at_ease_the_batch_comes_first_that_makes_fewest_late() -> None:
    """Of two jobs due at once one is late whatever runs; a full batch of others would make both late."""
    by, low, high = [10, 15, 200, 200], [0, 0, 3, 3], [1, 1, 4, 4]
    at_ease = chosen(by, low, high, ease=1.0)
    assert (at_ease.kind, at_ease.accepted.sum()) == (CHEAP, 4)
    assert chosen(by, low, high, ease=0.9).kind == DEAR
