"""Compiling ahead: numba compiles a function when it is first called, which no deadline should wait for."""

import numpy as np

from mosel.solve.assign import Options, Search, keep_feasible
from mosel.solve.cover import cheapest_batches, frontiers
from mosel.solve.escalation import cover_ns
from mosel.solve.exposure import exposed
from mosel.solve.joint import Care, Classes, Menu, Queue, choose
from mosel.solve.large import LargeJobs
from mosel.solve.line_up import Batches, ends_alone


def warm_up() -> None:
    """Compile (or load from the cache beside the package) every function that decisions call."""
    latency = np.array([[0, 2, 3], [0, 4, 7]], np.int64)
    accuracy = np.array([0.5, 0.9])
    small = frontiers(latency, accuracy, 2)
    LargeJobs(latency, accuracy, small, (0, 1)).frontier(3)
    front = small[2]
    options = Options.of([(front.latency_ns, front.accuracy)] * 3)
    budget = np.array([5, 12, 14], np.int64)
    search = Search()
    for _ in range(2):  # the second takes over states
        search.best(options, budget)
    frozen = front.latency_ns.copy()  # a read-only array is another type, and compiled apart
    frozen.setflags(write=False)
    keep_feasible(frozen, budget[: len(front)])
    cheapest_batches(frozen, 2)
    cover_ns(latency[0], latency[1], 0.1, 2)
    ends_alone(np.zeros(1, np.int64), Batches.of([[1, 2]]))
    _warm_up_joint()


def _warm_up_joint() -> None:
    two = np.array([1, 2], np.int64)
    queue = Queue(two * 50, two * 50, np.ones(2), two - 1, two.copy(), np.ones(2), two * 50)
    menu = Menu(two, np.ones(2), np.arange(3), np.zeros(2, np.int64), np.ones(2, np.int64))
    classes = Classes(np.array([[0, 2, 3]]), np.array([[0, 2, 3]]), np.array([1.5]))
    tight = np.ones((3, 1))
    choose(
        queue,
        menu,
        classes,
        0,
        Care(1.0, 1.0, 0.1, 1.0, 1.0),
        exposed(tight, 0.1, 0.5, two, classes.latency_ns),
    )
