from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosel.offline.sampling import Search, coarse_grid, held_out, interpolate


@given(st.integers(1, 300))
def test_the_grid_doubles_from_one_and_ends_at_the_largest(largest: int) -> None:
    """Both ends are on it, and no size is more than twice the one before."""
    grid = coarse_grid(largest)
    assert (grid[0], grid[-1]) == (1, largest)
    assert all(low < high <= 2 * low for low, high in pairwise(grid))


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_held_out_size_lies_between_and_is_odd_where_it_can_be(low: int, gap: int) -> None:
    """There is one exactly where there is a size between; only a lone even size is taken even."""
    size = held_out(low, low + gap)
    if gap == 1:
        assert size is None
    else:
        assert size is not None
        assert low < size < low + gap
        assert size % 2 or gap == 2


def test_interpolation_follows_the_lines_through_the_known_values() -> None:
    """Known sizes come back as they are, others in proportion."""
    known = {1: 10.0, 3: 20.0, 7: 60.0}
    assert [interpolate(known, size) for size in (1, 2, 3, 4, 7)] == [10, 15, 20, 30, 60]


def search_through(latency: Callable[[int], float], largest: int, noise: float = 0.0) -> Search:
    """A search of a column with these latencies, to its end."""
    search = Search(coarse_grid(largest))
    while checks := search.checks():
        sizes = search.measured | set(checks)
        search.settle({size: latency(size) for size in sizes}, dict.fromkeys(sizes, noise))
    return search


def test_a_straight_line_needs_no_more_than_one_check_an_interval() -> None:
    """Every held-out size is confirmed and the sizes between are left out."""
    search = search_through(lambda size: 5 + 2 * size, 64)
    assert search.measured == {1, 2, 4, 8, 16, 32, 64} | search.confirmed
    assert len(search.confirmed) == 5


@pytest.mark.parametrize("step", range(17, 33))
def test_a_step_is_closed_in_on(step: int) -> None:
    """Both sides of a jump are measured, whichever size it falls on."""
    search = search_through(lambda size: 1.0 if size < step else 2.0, 32)
    assert {step - 1, step} <= search.measured


def test_noise_is_not_closed_in_on() -> None:
    """What lies off the line by no more than twice its standard error splits nothing."""

    def bumpy(size: int) -> float:
        return 10.0 + size + (1.0 if size % 2 else -1.0)

    assert len(search_through(bumpy, 32, noise=0.0).measured) > len(
        search_through(bumpy, 32, noise=0.2).measured
    )
    assert len(search_through(bumpy, 32, noise=0.2).confirmed) == 4


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_small_columns_are_measured_whole(largest: int) -> None:
    """Where nothing can be left out, nothing is in doubt for long."""
    assert search_through(lambda size: size**2, largest).measured == set(range(1, largest + 1))


@given(st.lists(st.floats(1, 100), min_size=40, max_size=40))
def test_a_search_ends_and_every_interval_left_was_confirmed(latencies: list[float]) -> None:
    """Whatever the latencies, a gap between measured sizes has an end or middle that was found on the line."""
    search = search_through(lambda size: latencies[size - 1], 40)
    for low, high in pairwise(sorted(search.measured)):
        assert high - low == 1 or {low, high} & search.confirmed
