"""How long the requests of a workload's jobs are, where a model's latency depends on it."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.evaluation.arrivals import full_latency_s
from mosel.evaluation.workload import OPTIONAL, Workload


def parse_lengths(text: str) -> tuple[float, ...]:
    """Return the shares that a word of the command line gives, the shortest length bucket's first.

    Raises:
        UsageError: they are no shares.
    """
    try:
        shares = tuple(float(word) for word in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(math.isfinite(share) and share >= 0 for share in shares) or not sum(shares):
        raise UsageError(f"--lengths {text}; expected the shares of length buckets, as in 2,1,1")
    return shares


def with_lengths(
    workload: Workload, shares: Sequence[float], profile: Profile, latency_factor: float | None, seed: int
) -> Workload:
    """Return the workload with each of its jobs drawn to a length bucket, by shares and seed.

    A job is as long as its bucket allows. Where its latency SLO is a multiple of its own latency, it is that of
    this length.

    Raises:
        UsageError: the profile, which has some, has another number of length buckets.
    """
    limits = profile.length_buckets or ()
    if len(shares) != len(limits):
        raise UsageError(
            f"--lengths gives {len(shares)} shares; the profile of {profile.model!r} has {len(limits)} length "
            f"buckets, up to {', '.join(f'{limit:g}' for limit in limits)}"
        )
    parts = np.asarray(shares) / sum(shares)
    drawn = np.random.default_rng([seed, 2]).choice(np.asarray(limits), len(workload.jobs), p=parts)
    jobs = []
    for job, length in zip(workload.jobs, drawn.tolist(), strict=True):
        deadline_ns = job.deadline_ns
        if latency_factor is not None:
            own_s = full_latency_s(profile, job.requests, length)
            deadline_ns = job.arrival_ns + to_ns(latency_factor * own_s)
        jobs.append(replace(job, length=length, deadline_ns=deadline_ns))
    known = {*workload.columns, "length"}
    return Workload(tuple(jobs), tuple(name for name in OPTIONAL if name in known))
