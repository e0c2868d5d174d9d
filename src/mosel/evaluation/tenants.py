"""A mixture of tenants in a workload: which job is whose, with the latency SLO and the weight of its tenant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from mosel.core.clock import to_ns
from mosel.core.errors import UsageError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.evaluation.arrivals import full_latency_s
from mosel.evaluation.workload import OPTIONAL, Workload

EXPECTED = "expected NAME:SHARE:SLO, perhaps with :WEIGHT, as in phone:0.7:0.2 or batch:0.3:5x:0.5"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant of a mixture.

    Attributes:
        name: in the workload's column `tenant`.
        share: of the jobs, beside the other tenants' shares.
        latency_slo_s: of each of its jobs; None where it is relative.
        latency_factor: latency SLO as a multiple of the job's own latency, alone and with all modalities.
        weight: of each of its jobs.
    """

    name: str
    share: float
    latency_slo_s: float | None
    latency_factor: float | None = None
    weight: float = 1.0


def parse_tenant(text: str) -> Tenant:
    """Return the tenant that a word of the command line describes.

    Raises:
        UsageError: it does not describe one.
    """
    name, *numbers = text.split(":")
    try:
        share, slo, weight = (*numbers, "1")[:3] if len(numbers) == 2 else numbers
        values = float(share), float(slo.removesuffix("x")), float(weight)
    except ValueError:
        raise UsageError(f"tenant {text!r}; {EXPECTED}") from None
    if not name.isprintable() or not name or not all(math.isfinite(v) and v > 0 for v in values):
        raise UsageError(f"tenant {text!r}; {EXPECTED}, with numbers above 0")
    seconds, factor = (None, values[1]) if slo.endswith("x") else (values[1], None)
    return Tenant(name, values[0], seconds, factor, values[2])


def with_tenants(workload: Workload, tenants: Sequence[Tenant], profile: Profile, seed: int) -> Workload:
    """Return the workload with each of its jobs drawn to a tenant, by shares and seed; arrivals stay.

    Raises:
        UsageError: two tenants have one name.
    """
    names = [tenant.name for tenant in tenants]
    if len(set(names)) < len(names):
        raise UsageError(f"tenants {', '.join(names)}; expected each name once")
    shares = np.array([tenant.share for tenant in tenants])
    drawn = np.random.default_rng([seed, 1]).choice(len(tenants), len(workload.jobs), p=shares / shares.sum())
    jobs = tuple(
        _owned(job, tenants[index], profile) for job, index in zip(workload.jobs, drawn.tolist(), strict=True)
    )
    weighted = any(tenant.weight != 1 for tenant in tenants)
    known = {*workload.columns, "tenant", *(["weight"] if weighted else [])}
    return Workload(jobs, tuple(name for name in OPTIONAL if name in known))


def _owned(job: Job, tenant: Tenant, profile: Profile) -> Job:
    if tenant.latency_slo_s is not None:
        slo_s = tenant.latency_slo_s
    else:
        assert tenant.latency_factor is not None
        slo_s = tenant.latency_factor * full_latency_s(profile, job.requests, job.length)
    deadline_ns = job.arrival_ns + to_ns(slo_s)
    return replace(job, tenant=tenant.name, weight=tenant.weight, deadline_ns=deadline_ns)
