"""Other solvers on the same programmes, each in a process of its own: two of them cannot be loaded into one.

Each solver's module has `queue(options, budget_ns)`, the total of the best assignment (§5.2), and all but one
`cell(latency_ns, accuracy, requests, needed)`, the least latency in ms (§5.1). They make the model and
solve it, as every decision has to, and return None if nothing was found within `LIMIT_S`. Work up to a job is a
variable of its own in the models of a queue, so that they grow no faster than the queue.
"""

import importlib
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MODULES = {"HiGHS": "_highs", "CP-SAT": "_cp_sat", "GEKKO": "_gekko"}
GIVE_UP_S, LIMIT_S = 20.0, 30.0
"""When a solver is not asked again, and when it has to stop."""


class Rival:
    """A solver in its own process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = True
        self._process = ProcessPoolExecutor(1, get_context("spawn"))

    def solve(self, what: str, *problem: Any) -> tuple[float, float | None]:
        """Return (seconds, what it found); from `GIVE_UP_S` on it is not to be asked again."""
        took_s, found = self._process.submit(_timed, MODULES[self.name], what, problem).result()
        self.asked = took_s < GIVE_UP_S
        return took_s, found

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


def _timed(module: str, what: str, problem: tuple[Any, ...]) -> tuple[float, float | None]:
    call = getattr(importlib.import_module(module), what)
    begin_s = time.perf_counter()
    found = call(*problem)
    return time.perf_counter() - begin_s, found
