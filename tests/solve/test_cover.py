import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.cover import Frontier, cheapest_batches, frontiers
from mosel.solve.reaching import cheapest_reaching

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Problem = tuple[Ints, Floats, int]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A small 𝒟: latencies in any order, with ties, zeros and holes; accuracies with ties; a job size."""
    modes, sizes, largest = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 5))
    cell = st.one_of(st.integers(0, 12), st.just(int(UNAVAILABLE)))
    table = draw(st.lists(st.lists(cell, min_size=sizes, max_size=sizes), min_size=modes, max_size=modes))
    accuracy = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.71, 1.0]), min_size=modes, max_size=modes))
    latency = np.array([[int(UNAVAILABLE), *row] for row in table], np.int64)
    return latency, np.array(accuracy), largest


def strategies(latency: Ints, accuracy: Floats, requests: int) -> Iterator[tuple[float, int]]:
    """Accuracy sum and latency of every multiset of (mode, batch) with so many requests."""
    cells = [(m, s) for m in range(len(accuracy)) for s in range(1, latency.shape[1])]
    usable = [cell for cell in cells if latency[cell] < UNAVAILABLE]
    for count in range(requests + 1):
        for batches in itertools.combinations_with_replacement(usable, count):
            if sum(size for _, size in batches) == requests:
                total = sum(float(accuracy[m]) * size for m, size in batches)
                yield total, sum(int(latency[batch]) for batch in batches)


def pareto(points: set[tuple[float, int]]) -> list[tuple[float, int]]:
    """The points that no other beats, ascending; sums that differ by rounding alone are one."""
    best: dict[float, int] = {}
    for accuracy, cost in points:
        key = round(accuracy, 9)
        best[key] = min(cost, best.get(key, cost))
    kept: list[tuple[float, int]] = []
    for accuracy, cost in sorted(best.items(), reverse=True):
        if not kept or cost < kept[-1][1]:
            kept.append((accuracy, cost))
    return kept[::-1]


@settings(max_examples=150, deadline=None)
@given(problems())
def test_frontiers_are_those_of_brute_force(problem: Problem) -> None:
    """For every job size the frontier is that of all multisets of batches, whatever the latencies."""
    latency, accuracy, largest = problem
    for size, found in enumerate(frontiers(latency, accuracy, largest)):
        expected = pareto(set(strategies(latency, accuracy, size)))
        got = [(round(a, 9), int(c)) for a, c in zip(found.accuracy, found.latency_ns, strict=True)]
        assert got == expected


@st.composite
def precisions(draw: st.DrawFn) -> Problem:
    """Every combination of 1 to 4 modalities, each at 1 or 2 precisions; latencies in any order, with ties."""
    modalities, levels = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    modes, sizes = 2**modalities - 1, draw(st.integers(1, 3))
    latency = rng.integers(0, 9, (modes, 1)) + rng.integers(0, 9, (modes, sizes + 1))
    gain = np.round(rng.uniform(0.5, 0.99, modes), draw(st.integers(1, 3)))
    halved = [np.rint(latency * 0.5**level).astype(np.int64) for level in range(levels)]
    lowered = [np.maximum(gain - 0.01 * level, 0) for level in range(levels)]
    return np.concatenate(halved), np.concatenate(lowered), 3


@settings(max_examples=60, deadline=None)
@given(precisions())
def test_frontiers_of_up_to_four_modalities_and_two_precisions_are_those_of_brute_force(
    problem: Problem,
) -> None:
    """Up to 30 modes: the frontier is that of all multisets of batches, and its batches attain it."""
    latency, accuracy, largest = problem
    for size, found in enumerate(frontiers(latency, accuracy, largest)):
        got = [(round(a, 9), int(c)) for a, c in zip(found.accuracy, found.latency_ns, strict=True)]
        assert got == pareto(reachable(latency, accuracy, size))
        assert_attained(found, latency, accuracy, size)


def reachable(latency: Ints, accuracy: Floats, requests: int) -> set[tuple[float, int]]:
    """Accuracy sum and latency of every way to run so many requests, one batch after the other."""
    if requests == 0:
        return {(0.0, 0)}
    found = set()
    for size in range(1, min(requests, latency.shape[1] - 1) + 1):
        for gained, spent in reachable(latency, accuracy, requests - size):
            for mode, gain in enumerate(accuracy):
                found.add((round(gained + size * float(gain), 9), spent + int(latency[mode, size])))
    return found


@settings(max_examples=150, deadline=None)
@given(problems())
def test_every_point_carries_batches_that_attain_it(problem: Problem) -> None:
    """A point's batches are profiled, hold the job's requests and add up to its accuracy and latency."""
    latency, accuracy, largest = problem
    for size, found in enumerate(frontiers(latency, accuracy, largest)):
        assert_attained(found, latency, accuracy, size)


def assert_attained(found: Frontier, latency: Ints, accuracy: Floats, size: int) -> None:
    """Assert what a frontier says of itself: ascending strictly, and attained by its batches."""
    assert np.all(np.diff(found.accuracy) > 0)
    assert np.all(np.diff(found.latency_ns) > 0)
    for point, batches in enumerate(found.batches):
        assert all(latency[batch] < UNAVAILABLE for batch in batches)
        assert sum(count for _, count in batches) == size
        assert sum(int(latency[batch]) for batch in batches) == found.latency_ns[point]
        gained = sum(accuracy[mode] * count for mode, count in batches)
        assert gained == pytest.approx(found.accuracy[point], abs=1e-9)


def test_batches_of_one_mode_stand_together_accurate_modes_first_large_batches_first() -> None:
    """The order of a point's batches is fixed, because it is the order in which they run."""
    latency = np.array([[0, 2, 3], [0, 5, 9]], np.int64)
    found = frontiers(latency, np.array([0.5, 0.9]), 5)[5]
    for batches in found.batches:
        assert list(batches) == sorted(batches, key=lambda batch: (-batch[0], -batch[1]))


def test_of_modes_that_are_alike_the_first_is_used() -> None:
    """Equal accuracy and equal latencies: the profile's order decides."""
    latency = np.array([[0, 4, 6], [0, 4, 6]], np.int64)
    found = frontiers(latency, np.array([0.8, 0.8]), 3)[3]
    assert found.batches == (((0, 2), (0, 1)),)


def test_a_size_that_no_batch_can_make_up_has_an_empty_frontier() -> None:
    """With batches of two alone, three requests cannot be run."""
    latency = np.array([[0, int(UNAVAILABLE), 6]], np.int64)
    assert [len(found) for found in frontiers(latency, np.array([0.8]), 4)] == [1, 0, 1, 0, 1]


def curved(modes: int, sizes: int, seed: int) -> tuple[Ints, Floats]:
    """A 𝒟 like those measured: a fixed part, a part per request, and bumps of 10%."""
    rng = np.random.default_rng(seed)
    fixed, slope = rng.uniform(1, 8, (modes, 1)), rng.uniform(0.5, 4, (modes, 1))
    shape = fixed + slope * np.arange(sizes + 1)
    latency = np.rint(1e6 * shape * rng.uniform(0.95, 1.05, (modes, sizes + 1))).astype(np.int64)
    latency[:, 0] = UNAVAILABLE
    return latency, np.round(rng.uniform(0.5, 0.99, modes), 3)


def least_latency(latency: Ints, accuracy: Floats, size: int, needed: float) -> int:
    """The paper's programme of §5.1 for one cell, solved by HiGHS: integer counts of every (mode, batch)."""
    cells = [(m, s) for m in range(len(accuracy)) for s in range(1, latency.shape[1])]
    cost = np.array([latency[cell] for cell in cells], float)
    held = np.array([s for _, s in cells], float)
    gain = np.array([accuracy[m] * s for m, s in cells])
    rows = LinearConstraint(np.vstack([held, gain]), [size, needed - 5e-10], [size, np.inf])
    options = {"mip_rel_gap": 0.0}
    found = milp(
        cost, integrality=np.ones(len(cells)), bounds=Bounds(0, size), constraints=rows, options=options
    )
    assert found.success, found.message
    return sum(int(latency[c]) * round(n) for c, n in zip(cells, found.x, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_frontiers_agree_with_highs_on_profiles_of_real_size(seed: int) -> None:
    """Seven modes × sixteen batch sizes: sampled cells (job size, SLO) cost what HiGHS says is the least."""
    latency, accuracy = curved(7, 16, seed)
    found, rng = frontiers(latency, accuracy, 24), np.random.default_rng(seed)
    for size in rng.integers(1, 25, 5):
        needed = size * rng.uniform(accuracy.min(), accuracy.max())
        index = cheapest_reaching(found[size], needed)
        best = least_latency(latency, accuracy, int(size), needed)
        assert found[size].latency_ns[index] == pytest.approx(best, rel=1e-6)
        assert_attained(found[size], latency, accuracy, int(size))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_cheapest_batches_of_one_mode_are_those_of_brute_force(row: list[int], largest: int) -> None:
    """The coin-change recurrence finds the least total latency, and its last batches lead back to it."""
    latency = np.array([0, *row], np.int64)
    cost, last = cheapest_batches(latency, largest)
    for size in range(largest + 1):
        known = strategies(np.array([latency]), np.ones(1), size)
        assert cost[size] == min(spent for _, spent in known)
        spent, left = 0, size
        while left:
            spent += int(latency[last[left]])
            left -= int(last[left])
        assert spent == cost[size]


def test_the_cheapest_point_reaching_a_sum_forgives_rounding_alone() -> None:
    """5e-10 short still counts, 9e-10 at the last point; more does not, and the SLO's own tolerance is 1e-9."""
    found = Frontier(np.array([1.0, 2.0]), np.array([5, 9]), (((0, 1),), ((1, 1),)))
    assert cheapest_reaching(found, -3.0) == 0
    assert cheapest_reaching(found, 1.0 + 4e-10) == 0
    assert cheapest_reaching(found, 1.0 + 6e-10) == 1
    assert cheapest_reaching(found, 2.0 + 8e-10) == 1
    assert cheapest_reaching(found, 2.0 + 1e-9) == 2
    assert cheapest_reaching(found, float("nan")) == 2
    assert cheapest_reaching(Frontier(np.empty(0), np.empty(0, np.int64), ()), 0.0) == 0
