from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.core.arrays import UNAVAILABLE
from mosel.solve.cover import Floats, Frontier, Ints, frontiers
from mosel.solve.large import FILLED_UP_TO, MOST_POINTS, STEPS, LargeJobs, Mixes
from mosel.solve.reaching import cheapest_reaching
from tests.solve.test_cover import assert_attained, curved


def large(latency: Ints, accuracy: Floats, requests: int) -> Frontier:
    """The frontier of a large job, from those of jobs of up to one largest batch."""
    small = frontiers(latency, accuracy, latency.shape[1] - 1)
    return LargeJobs(latency, accuracy, small, range(len(accuracy))).frontier(requests)


@st.composite
def tables(draw: st.DrawFn, modes: int) -> tuple[Ints, Floats]:
    """A small 𝒟 with up to so many modes: latencies in any order, with ties, zeros and holes."""
    count, sizes = draw(st.integers(1, modes)), draw(st.integers(1, 4))
    cell = st.one_of(st.integers(0, 12), st.integers(0, 12), st.just(int(UNAVAILABLE)))
    rows = draw(st.lists(st.lists(cell, min_size=sizes, max_size=sizes), min_size=count, max_size=count))
    accuracy = draw(st.lists(st.sampled_from([0.0, 0.5, 0.7, 0.71, 1.0]), min_size=count, max_size=count))
    return np.array([[int(UNAVAILABLE), *row] for row in rows], np.int64), np.array(accuracy)


@settings(max_examples=200, deadline=None)
@given(tables(2), st.integers(0, 60))
def test_with_two_modes_the_frontier_is_exact(table: tuple[Ints, Floats], requests: int) -> None:
    """Any latencies and any job size, far beyond where the costs of one mode repeat: §5.1's own frontier."""
    latency, accuracy = table
    found, exact = large(latency, accuracy, requests), frontiers(latency, accuracy, requests)[requests]
    assert found.latency_ns.tolist() == exact.latency_ns.tolist()
    assert found.accuracy == pytest.approx(exact.accuracy, abs=1e-9)
    assert_attained(found, latency, accuracy, requests)


@settings(max_examples=100, deadline=None)
@given(tables(4), st.integers(0, 30))
def test_with_more_modes_it_is_attained_and_exact_at_both_ends(
    table: tuple[Ints, Floats], requests: int
) -> None:
    """The fastest and the most accurate strategy are exact, and nothing is better than exact between them."""
    latency, accuracy = table
    found, exact = large(latency, accuracy, requests), frontiers(latency, accuracy, requests)[requests]
    assert_attained(found, latency, accuracy, requests)
    assert bool(len(found)) == bool(len(exact))
    for end in (0, -1) if len(exact) else ():
        assert found.latency_ns[end] == exact.latency_ns[end]
        assert found.accuracy[end] == pytest.approx(exact.accuracy[end], abs=1e-9)
    for gained, spent in zip(found.accuracy, found.latency_ns, strict=True):
        assert exact.latency_ns[cheapest_reaching(exact, gained)] <= spent


def test_profiles_as_measured_lose_next_to_nothing() -> None:
    """Four to seven modes, jobs of 1 to 8 largest batches: 0.1% above exact on average, 5% at the worst."""
    above = []
    for seed in range(12):
        latency, accuracy = curved(4 + seed % 4, 8, seed)
        exact = frontiers(latency, accuracy, 64)
        for requests in (9, 16, 31, 64):
            found = large(latency, accuracy, requests)
            for gained, spent in zip(exact[requests].accuracy, exact[requests].latency_ns, strict=True):
                above.append(found.latency_ns[cheapest_reaching(found, gained)] / spent - 1)
    assert min(above) >= 0
    assert np.mean(above) < 0.001
    assert max(above) < 0.05


@pytest.mark.parametrize("requests", [FILLED_UP_TO + 1, 1024, STEPS + 7, 1_000_000])
def test_very_large_jobs_keep_both_ends_and_a_bounded_number_of_points(requests: int) -> None:
    """However large, at most so many points, the fastest and the most accurate among them, all attained."""
    latency, accuracy = curved(5, 16, 3)
    found = large(latency, accuracy, requests)
    mixes = found.batches
    assert isinstance(mixes, Mixes)
    assert 1 < len(found) <= MOST_POINTS
    assert found.accuracy[-1] == pytest.approx(requests * accuracy.max())
    assert np.all(np.diff(found.accuracy) > 0)
    assert np.all(np.diff(found.latency_ns) > 0)
    for point in (0, len(found) // 2, len(found) - 1):
        batches = found.batches[point]
        assert sum(size for _, size in batches) == requests
        assert sum(int(latency[batch]) for batch in batches) == found.latency_ns[point]
        gained = sum(accuracy[mode] * size for mode, size in batches)
        assert gained == pytest.approx(found.accuracy[point])
        held: Counter[int] = Counter()
        for mode, size in batches:
            held[mode] += size
        assert mixes.counts()[point] == held


def test_batches_name_modes_as_they_were_named() -> None:
    """A job without some modality runs in few modes, which keep their names; accurate ones stand first."""
    latency, accuracy = curved(2, 4, 1)
    accuracy = np.array([0.7, 0.9])
    small = [
        Frontier(f.accuracy, f.latency_ns, [tuple((mode + 5, size) for mode, size in b) for b in f.batches])
        for f in frontiers(latency, accuracy, 4)
    ]
    found = LargeJobs(latency, accuracy, small, [5, 6]).frontier(11)
    assert {mode for batches in found.batches for mode, _ in batches} == {5, 6}
    for batches in found.batches:
        assert list(batches) == sorted(batches, key=lambda batch: (-batch[0], -batch[1]))
