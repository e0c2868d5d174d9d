import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mosel.solve.mix import WHOLE_UP_TO, least_costs

Floats = NDArray[np.float64]


def brute_force(unit: Floats, accuracy: Floats, requests: int, needed: float) -> float:
    """The least cost over every choice of a mode for each request."""
    choices = itertools.combinations_with_replacement(range(len(unit)), requests)
    reaching = [list(c) for c in choices if accuracy[list(c)].sum() >= needed * requests - 1e-12]
    return min((float(unit[c].sum()) for c in reaching), default=np.inf)


COSTS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 7.25, np.inf])
ACCURACIES = st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.7, 0.71, 0.9, 1.0])


@given(
    st.lists(st.tuples(COSTS, ACCURACIES), min_size=1, max_size=4),
    st.integers(1, 7),
    st.sampled_from([0.0, 0.3, 0.55, 0.6, 0.65, 0.7, 0.8, 0.95, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_equals_brute_force(modes: list[tuple[float, float]], requests: int, needed: float) -> None:
    """The least cost is that of the best of all choices of a mode for every request."""
    unit, accuracy = (np.array(column) for column in zip(*modes, strict=True))
    found = least_costs(unit, accuracy, np.array([requests]), np.array([needed]))
    assert found[0] == pytest.approx(brute_force(unit, accuracy, requests, needed))


def test_an_accuracy_out_of_reach_costs_infinitely_much() -> None:
    """So it is for small and for large jobs, and where no mode can be used at all."""
    requests, needed = np.array([1, 5, WHOLE_UP_TO + 1]), np.full(3, 0.95)
    for unit in (np.array([1.0, 2.0]), np.array([np.inf, np.inf])):
        assert np.isinf(least_costs(unit, np.array([0.5, 0.9]), requests, needed)).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_large_job_costs_at_most_one_request_less(seed: int) -> None:
    """In fractions of requests the cost is below the whole-number one, by no more than the dearest request."""
    rng = np.random.default_rng(seed)
    unit, accuracy = rng.uniform(0.1, 9, 4), rng.uniform(0.2, 0.9, 4)
    needed = np.array([rng.uniform(accuracy.min(), accuracy.max())])
    half = WHOLE_UP_TO // 2 + 1
    whole = least_costs(unit, accuracy, np.array([half]), needed)[0]
    twice = least_costs(unit, accuracy, np.array([2 * half]), needed)[0]
    assert 2 * whole - 2 * unit.max() <= twice <= 2 * whole + 1e-9
