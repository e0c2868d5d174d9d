"""What a batch would cost those who are yet to come: jobs that arrive under it and cannot wait for its end.

A job that arrives while all workers are busy is lost if they are so for longer than its slack: what its latency
SLO leaves beside its own latency. Where one model is slow and another has tight SLOs, one long batch loses more
than everything in the queue could tell. Where every slack is longer than the longest batch, nothing is lost.

Jobs to come are taken to be as those of late (`online/demand.py`). The mathematics is in `solve/exposure.py`.
"""

import numpy as np
from numpy.typing import NDArray

from mosel.online.policies.base import View
from mosel.solve import exposure

ENOUGH, SCARCE_WIDTH = 1.15, 0.2
"""Demand at the cheapest, per worker, and over minutes: up to this time is not scarce, so much beyond it is."""


def exposed(view: View) -> NDArray[np.float64]:
    """Return, of shape (classes, largest batch + 1), the worth that is expected to be lost under each batch.

    It is empty where nothing is lost under any.
    """
    tight, rate = view.demand.tight(view.now_ns)
    others_ns = view.free_ns[1:] - view.start_ns  # this worker is the first to be free
    wanted = min(view.demand.least(view.now_ns), view.demand.lasting(view.now_ns)) / view.power
    scarce = min(1.0, max(0.0, (wanted - ENOUGH) / SCARCE_WIDTH))
    found: NDArray[np.float64] = exposure.exposed(
        tight, rate, scarce, others_ns, view.amortised.classes.latency_ns
    )
    return found
