"""A run as numbers over time: what the report's figures show, computed apart from how they are drawn.

Times are seconds from the workload's start. Every function takes the rows of a run directory.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import to_s
from mosel.core.states import State
from mosel.evaluation.results import BatchResult, JobResult

Floats = NDArray[np.float64]

WINDOW_S = 4.0
"""The paper's Fig. 5 takes throughput and violations every 4 seconds."""


def horizon_s(jobs: Sequence[JobResult]) -> float:
    """Return when the last job had its outcome."""
    return max((to_s(row.decided_ns) for row in jobs), default=0.0)


def edges_s(until_s: float, width_s: float) -> Floats:
    """Return the edges of bins of this width that cover 0 to `until_s`, at least one bin."""
    bins = max(1, int(np.ceil(until_s / width_s)))
    return np.arange(bins + 1, dtype=np.float64) * width_s


def arrivals_rps(jobs: Sequence[JobResult], edges: Floats) -> Floats:
    """Return requests that arrived per second, for each bin."""
    return _rate([(row.job.arrival_ns, row.job.requests) for row in jobs], edges)


def on_time_rps(jobs: Sequence[JobResult], edges: Floats) -> Floats:
    """Return requests per second of jobs that finished on time, for each bin of their finish."""
    served = (row for row in jobs if row.outcome is State.SERVED and row.finish_ns is not None)
    return _rate([(row.finish_ns or 0, row.job.requests) for row in served], edges)


def violation_ratios(jobs: Sequence[JobResult], edges: Floats) -> Floats:
    """Return the share of the requests that arrived in each bin and were not served on time; NaN for none."""
    arrived = _binned([(row.job.arrival_ns, row.job.requests) for row in jobs], edges)
    lost = (row for row in jobs if row.outcome is not State.SERVED)
    violated = _binned([(row.job.arrival_ns, row.job.requests) for row in lost], edges)
    return np.divide(violated, arrived, out=np.full_like(arrived, np.nan), where=arrived > 0)


def jobs_in_system(jobs: Sequence[JobResult], at_s: Floats) -> Floats:
    """Return how many jobs had arrived and had no outcome yet at each of these times."""
    arrived = np.sort([to_s(row.job.arrival_ns) for row in jobs])
    decided = np.sort([to_s(row.decided_ns) for row in jobs])
    waiting = np.searchsorted(arrived, at_s, "right") - np.searchsorted(decided, at_s, "right")
    return np.asarray(waiting, np.float64)


def mode_names(batches: Iterable[BatchResult]) -> list[str]:
    """Return the modes that ran, those with the fewest modalities first."""
    return sorted({batch.mode for batch in batches}, key=lambda mode: (mode.count("+"), mode))


def mode_shares(batches: Sequence[BatchResult], modes: Sequence[str], edges: Floats) -> Floats:
    """Return each mode's share of the requests in batches that started in each bin, of shape (modes, bins)."""
    counts = np.array(
        [_binned([(b.start_ns, b.size) for b in batches if b.done and b.mode == mode], edges) for mode in modes]
    ).reshape(len(modes), len(edges) - 1)
    total = counts.sum(axis=0)
    shares: Floats = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return shares


def completion_s(jobs: Iterable[JobResult]) -> Floats:
    """Return the completion times of served and late jobs, ascending."""
    return np.sort([to_s(row.finish_ns - row.job.arrival_ns) for row in jobs if row.finish_ns is not None])


def slack_s(jobs: Iterable[JobResult]) -> Floats:
    """Return how long before its deadline each served or late job finished, ascending; negative is late."""
    return np.sort([to_s(row.job.deadline_ns - row.finish_ns) for row in jobs if row.finish_ns is not None])


def accuracies(jobs: Iterable[JobResult]) -> Floats:
    """Return the accuracies of jobs served on time, ascending."""
    served = [row.accuracy or 0.0 for row in jobs if row.outcome is State.SERVED]
    return np.sort(np.round(served, 9))


def latency_slos_s(jobs: Iterable[JobResult]) -> list[float]:
    """Return the different latency SLOs, ascending."""
    return sorted({round(to_s(row.job.deadline_ns - row.job.arrival_ns), 9) for row in jobs})


def _rate(weighted: Sequence[tuple[int, int]], edges: Floats) -> Floats:
    return _binned(weighted, edges) / np.diff(edges)


def _binned(weighted: Sequence[tuple[int, int]], edges: Floats) -> Floats:
    times_s = np.array([to_s(at_ns) for at_ns, _ in weighted])
    counts, _ = np.histogram(times_s, edges, weights=[weight for _, weight in weighted])
    return counts.astype(np.float64)
