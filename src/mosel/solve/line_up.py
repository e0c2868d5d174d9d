"""List scheduling: batches in order, each on the worker that is free first. Exact for what workers then do.

A budget of work says too much where there are several workers, because a batch runs on one of them: two
workers with 60 ms left cannot run a batch of 100 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.solve.jit import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batches:
    """The latencies of all jobs' batches, flat: those of job i stand at offsets[i]..offsets[i + 1]."""

    offsets: Ints
    latency_ns: Ints

    @classmethod
    def of(cls, jobs: Sequence[Sequence[int]]) -> "Batches":
        """Build from one list of batch latencies per job, in running order."""
        offsets = np.zeros(len(jobs) + 1, np.int64)
        np.cumsum([len(batches) for batches in jobs], out=offsets[1:])
        return cls(offsets, np.fromiter(chain.from_iterable(jobs), np.int64, int(offsets[-1])))


ALIKE: Floats = np.empty(0)
"""Workers that are all as fast as the batches say."""


def kept(free_ns: Ints, batches: Batches, by_ns: Ints, slow: Floats = ALIKE) -> NDArray[np.bool_]:
    """Return which jobs end in time when, in order, those that would not are left out (§4.3).

    Args:
        free_ns: of shape (workers,), when each is free; at least one.
        batches: each job's batches, jobs in running order.
        by_ns: of shape (jobs,), when each job has to end.
        slow: of shape (workers,), how many times as long as said each takes over a batch; then a batch goes to
            the worker that would end it first. `ALIKE` if none differs.
    """
    found: NDArray[np.bool_] = (
        _ends(free_ns, slow, batches.offsets, batches.latency_ns, by_ns, True, False) >= 0
    )
    return found


def ends(free_ns: Ints, batches: Batches, slow: Floats = ALIKE) -> Ints:
    """Return when each job ends if all of them run, in order; see `kept` for the arguments."""
    never = np.full(len(batches.offsets) - 1, np.iinfo(np.int64).max)
    found: Ints = _ends(free_ns, slow, batches.offsets, batches.latency_ns, never, False, False)
    return found


def ends_alone(free_ns: Ints, batches: Batches, slow: Floats = ALIKE) -> Ints:
    """Return when each job would end if it were the only one; see `kept` for the arguments."""
    never = np.full(len(batches.offsets) - 1, np.iinfo(np.int64).max)
    found: Ints = _ends(free_ns, slow, batches.offsets, batches.latency_ns, never, False, True)
    return found


@compiled
def _ends(free: Any, slow: Any, offsets: Any, latency: Any, by: Any, leave_out: bool, alone: bool) -> Any:
    """When each job ends, −1 for those left out; the workers' times are put back after a job that was."""
    jobs = len(offsets) - 1
    found = np.empty(jobs, np.int64)
    at = free.copy()
    before = free.copy()
    for job in range(jobs):
        before[:] = at
        end = at.min()
        for batch in range(offsets[job], offsets[job + 1]):
            if len(slow) == 0:
                worker = at.argmin()
                at[worker] += latency[batch]
            else:
                worker = (at + latency[batch] * slow).argmin()
                at[worker] += np.int64(latency[batch] * slow[worker])
            end = max(end, at[worker])
        late = leave_out and end > by[job]
        found[job] = -1 if late else end
        if late or alone:
            at[:] = before
    return found
