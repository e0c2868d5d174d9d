"""How long one job's batches take where every worker is idle."""

from collections.abc import Sequence

import numpy as np

from mosel.solve.line_up import Batches, ends_alone


def idle_ns(latency_ns: Sequence[int], workers: int) -> int:
    """Return how long one job's batches take if so many workers, all alike, are idle."""
    if workers == 1 or len(latency_ns) <= 1:
        return sum(latency_ns)
    if len(latency_ns) <= workers:
        return max(latency_ns)
    return int(ends_alone(np.zeros(workers, np.int64), Batches.of([latency_ns]))[0])
