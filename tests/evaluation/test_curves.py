import numpy as np

from mosel.core.clock import NS_PER_S, to_ns
from mosel.core.states import State
from mosel.evaluation import curves
from mosel.evaluation.results import BatchResult, JobResult

from .stand_ins import CHEAP, FULL, job


def row(name: str, at_s: float, requests: int, outcome: State, decided_s: float) -> JobResult:
    """A job that arrives and is decided at these times."""
    arrived = job(name, at_ms=1000 * at_s, requests=requests)
    decided_ns = to_ns(decided_s)
    finished = outcome in (State.SERVED, State.LATE)
    return JobResult(arrived, outcome, decided_ns, decided_ns if finished else None, 0.9 if finished else None)


ROWS = [
    row("a", 0.0, 2, State.SERVED, 0.5),
    row("b", 0.5, 3, State.LATE, 2.5),
    row("c", 4.0, 5, State.SERVED, 4.5),
    row("d", 5.0, 5, State.DROPPED, 5.5),
]


def test_arrivals_and_throughput_are_requests_per_second() -> None:
    """Arrivals count every request when it arrives, throughput only those on time, when they finish."""
    edges = curves.edges_s(6, 2)
    assert edges.tolist() == [0, 2, 4, 6]
    assert curves.arrivals_rps(ROWS, edges).tolist() == [2.5, 0, 5]
    assert curves.on_time_rps(ROWS, edges).tolist() == [1, 0, 2.5]


def test_violation_ratios_count_every_request_not_served_on_time() -> None:
    """Late and dropped requests are violations in the window in which they arrived; empty windows are NaN."""
    ratios = curves.violation_ratios(ROWS, curves.edges_s(12, 4))
    assert ratios[:2].tolist() == [0.6, 0.5]
    assert np.isnan(ratios[2])


def test_jobs_in_system_have_arrived_and_are_not_decided() -> None:
    """A job counts from its arrival until its outcome."""
    at_s = np.array([0.0, 0.4, 0.5, 1.0, 3.0, 4.2, 6.0])
    assert curves.jobs_in_system(ROWS, at_s).tolist() == [1, 1, 1, 1, 0, 1, 0]


def test_mode_shares_add_up_to_one_where_anything_ran() -> None:
    """Shares are of requests in batches that are done; a second in which none started is all zero."""
    batches = [
        BatchResult(0, 0, 0, 1, FULL, 3, (("a", 3),)),
        BatchResult(1, 0, 1, 2, CHEAP, 1, (("b", 1),)),
        BatchResult(2, 0, 2 * NS_PER_S, 3 * NS_PER_S, CHEAP, 1, (("b", 1),), done=False),
    ]
    names = curves.mode_names(batches)
    assert names == [CHEAP, FULL], "fewest modalities first"
    assert curves.mode_shares(batches, names, curves.edges_s(3, 1)).tolist() == [[0.25, 0, 0], [0.75, 0, 0]]


def test_distributions_are_over_the_jobs_that_they_name() -> None:
    """Completion and slack take served and late jobs, accuracy only those on time."""
    assert curves.completion_s(ROWS).tolist() == [0.5, 0.5, 2.0]
    assert curves.slack_s(ROWS).tolist() == [-1.0, 0.5, 0.5]
    assert curves.accuracies(ROWS).tolist() == [0.9, 0.9]
    assert curves.latency_slos_s(ROWS) == [1.0]
    assert curves.horizon_s(ROWS) == 5.5
