import heapq

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mosel.solve.line_up import Batches, ends, ends_alone, kept

BATCHES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=6)
FREE = st.lists(st.integers(0, 12), min_size=1, max_size=4)


def run(free: list[int], jobs: list[list[int]]) -> list[int]:
    """When each job ends if its batches go to the worker that is free first, with a heap."""
    heap = list(free)
    heapq.heapify(heap)
    found = []
    for batches in jobs:
        last = min(heap)
        for took in batches:
            end = heapq.heappop(heap) + took
            heapq.heappush(heap, end)
            last = max(last, end)
        found.append(last)
    return found


@settings(max_examples=200, deadline=None)
@given(FREE, BATCHES)
def test_jobs_end_when_a_heap_of_workers_says(free: list[int], jobs: list[list[int]]) -> None:
    """Batches go, in order, to the worker that is free first; a job ends with the last of its batches."""
    assert ends(np.array(free), Batches.of(jobs)).tolist() == run(free, jobs)
    assert ends_alone(np.array(free), Batches.of(jobs)).tolist() == [run(free, [job])[0] for job in jobs]


@settings(max_examples=200, deadline=None)
@given(FREE, BATCHES, st.lists(st.integers(0, 40), min_size=6, max_size=6))
def test_a_job_is_kept_if_it_ends_in_time_behind_those_kept(
    free: list[int], jobs: list[list[int]], by: list[int]
) -> None:
    """What would end late is left out, and takes no worker's time from those after it."""
    stay: list[list[int]] = []
    expected = []
    for batches, limit in zip(jobs, by, strict=False):
        fits = run(free, [*stay, batches])[-1] <= limit
        stay += [batches] if fits else []
        expected.append(fits)
    limits = np.array(by[: len(jobs)], np.int64)
    assert kept(np.array(free), Batches.of(jobs), limits).tolist() == expected


def test_a_batch_runs_on_one_worker() -> None:
    """Two workers with 60 left cannot run a batch of 100, though their time together would do."""
    assert kept(np.zeros(2, np.int64), Batches.of([[100]]), np.array([60])).tolist() == [False]
    assert kept(np.zeros(2, np.int64), Batches.of([[50, 50]]), np.array([60])).tolist() == [True]
