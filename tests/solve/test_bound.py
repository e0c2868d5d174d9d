import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from mosel.solve.bound import served_shares

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Jobs = tuple[Ints, Ints, Ints, Floats]


def columns(*rows: tuple[int, int, int, float]) -> Jobs:
    """Jobs from (arrival, deadline, work, worth)."""
    whole = [np.array(column, np.int64) for column in list(zip(*rows, strict=True))[:3]]
    return whole[0], whole[1], whole[2], np.array([row[3] for row in rows], float)


@st.composite
def workloads(draw: st.DrawFn) -> Jobs:
    """Up to a dozen jobs on a few instants, so that windows nest, touch, coincide and are empty."""
    last, longest, most = draw(st.integers(0, 30)), draw(st.integers(0, 20)), draw(st.integers(0, 15))
    job = st.tuples(
        st.integers(0, last), st.integers(0, longest), st.integers(0, most), st.sampled_from([0, 1, 2, 3, 5])
    )
    rows = draw(st.lists(job, min_size=1, max_size=12))
    return columns(*((start, start + slo, work, float(worth)) for start, slo, work, worth in rows))


def windows(arrival: Ints, deadline: Ints) -> list[tuple[int, NDArray[np.bool_]]]:
    """Every window from an arrival to a later deadline: its length, and which jobs lie inside it."""
    pairs = itertools.product(set(arrival.tolist()), set(deadline.tolist()))
    return [(end - start, (arrival >= start) & (deadline <= end)) for start, end in pairs if end > start]


def by_highs(arrival: Ints, deadline: Ints, work: Ints, worth: Floats) -> float:
    """The programme with all its windows, by HiGHS."""
    rows = windows(arrival, deadline)
    most = np.where((deadline > arrival) | (work == 0), 1.0, 0.0)
    found = linprog(
        -worth,
        A_ub=np.array([work * inside for _, inside in rows]) if rows else None,
        b_ub=[length for length, _ in rows] if rows else None,
        bounds=[(0, top) for top in most],
    )
    assert found.success
    return -float(found.fun)


@given(workloads())
@settings(max_examples=300, deadline=None)
def test_equals_the_programme_with_every_window(jobs: Jobs) -> None:
    """The shares fit into every window, and their worth is what HiGHS finds with all windows."""
    arrival, deadline, work, worth = jobs
    share = served_shares(*jobs)
    assert np.all((share >= 0) & (share <= 1))
    for length, inside in windows(arrival, deadline):
        assert (share * work)[inside].sum() <= length * (1 + 1e-12)
    assert float(share @ worth) == pytest.approx(by_highs(*jobs), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_programme_on_larger_workloads(seed: int) -> None:
    """It does too with 80 jobs in two bursts, of one latency SLO or of many."""
    rng = np.random.default_rng(seed)
    arrival = np.concatenate([rng.integers(0, 300, 40), rng.integers(400, 900, 40)])
    slo = rng.integers(20, 200, 80) if seed % 2 else np.full(80, 100)
    jobs = (arrival, arrival + slo, rng.integers(1, 40, 80), rng.integers(1, 9, 80).astype(float))
    assert float(served_shares(*jobs) @ jobs[3]) == pytest.approx(by_highs(*jobs), rel=1e-9)


@given(workloads(), st.integers(2, 9))
@settings(max_examples=50, deadline=None)
def test_a_faster_machine_serves_no_less(jobs: Jobs, speed: int) -> None:
    """More machine time between the same instants never lowers the worth."""
    arrival, deadline, work, worth = jobs
    slow = served_shares(*jobs) @ worth
    assert served_shares(arrival * speed, deadline * speed, work, worth) @ worth >= slow - 1e-9


def test_what_fits_is_served_wholly() -> None:
    """Where earliest deadline first loses nothing every share is exactly 1."""
    rng = np.random.default_rng(1)
    arrival = np.arange(500) * 10
    jobs = (arrival, arrival + rng.integers(10, 90, 500), rng.integers(1, 11, 500), np.ones(500))
    assert served_shares(*jobs).tolist() == [1.0] * 500


def test_of_jobs_for_the_same_time_the_densest_are_served() -> None:
    """Ten units of time go to four, then four of worth per work 2 and 1, and what is left to the last."""
    jobs = columns((0, 10, 4, 1.0), (0, 10, 4, 4.0), (0, 10, 4, 8.0))
    assert served_shares(*jobs).tolist() == [0.5, 1.0, 1.0]


@example(0)
@given(st.integers(0, 5))
def test_jobs_without_work_or_time_are_defined(slo: int) -> None:
    """A job without work is served, in no time at all if need be; one with work needs time for it."""
    jobs = columns((3, 3 + slo, 0, 1.0), (3, 3 + slo, 10, 1.0))
    assert served_shares(*jobs).tolist() == [1.0, slo / 10]


def test_no_jobs_have_no_shares() -> None:
    """Empty columns are an empty answer."""
    none = np.zeros(0, np.int64)
    assert len(served_shares(none, none, none, np.zeros(0))) == 0


def test_progress_ends_at_the_whole() -> None:
    """The share of rounds that are done ascends and never exceeds 1."""
    told: list[float] = []
    arrival = np.arange(64)
    served_shares(arrival, arrival + 7, np.full(64, 3), np.linspace(1, 2, 64), told.append)
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


def test_large_numbers_stay_exact() -> None:
    """Times near the limit of 2⁶¹ are counted as exactly as small ones."""
    base = 1 << 60
    jobs = columns((base, base + 5, 3, 1.0), (base, base + 5, 4, 1.0), (base + 5, base + 9, 4, 1.0))
    assert served_shares(*jobs).tolist() == [1.0, 0.5, 1.0]
