"""Which jobs are refused on arrival, under every policy: those that could not be served even alone (§4.3)."""

import numpy as np

from mosel.core.states import Reason
from mosel.core.types import Job
from mosel.online.jobs import LiveJob
from mosel.online.tables import ModelTable
from mosel.solve.line_up import Batches, ends_alone


def refusal_of(live: LiveJob, workers: int, now_ns: int) -> tuple[Reason, str] | None:
    """Why a job is refused on arrival: too long, an SLO out of reach, or late even alone (rule of §4.3)."""
    job, table = live.job, live.table
    try:
        live.bucket = table.bucket_of(job.length)
    except ValueError as error:
        return Reason.BAD_INPUT, str(error)
    live.look_up()
    if not live.reachable:
        return Reason.ACCURACY_UNREACHABLE, _unreachable(job, table, live.mask)
    left_ns = job.deadline_ns - max(now_ns, job.arrival_ns)
    least_ns = alone_ns(live, workers)
    if left_ns < least_ns:
        return Reason.LATENCY_UNREACHABLE, (
            f"even alone, {job.requests} requests at accuracy {job.accuracy_slo:g} take at least "
            f"{least_ns / 1e6:.1f} ms, and {max(left_ns, 0) / 1e6:.1f} ms are left; "
            "allow a longer latency SLO"
        )
    return None


def alone_ns(live: LiveJob, workers: int) -> int:
    """How long the job takes at its fastest if every worker is up and idle."""
    idle = np.zeros(workers, np.int64)
    return int(ends_alone(idle, Batches.of([live.batches_ns(live.cheapest)]))[0])


def _unreachable(job: Job, table: ModelTable, mask: int) -> str:
    usable = table.usable(mask)
    given = "+".join(job.modalities or table.modalities)
    if not usable:
        return f"no mode of {table.model} runs with {given} alone; it has {', '.join(table.modes)}"
    best = max(usable, key=lambda mode: table.accuracy[mode])
    return (
        f"accuracy SLO {job.accuracy_slo:g} cannot be reached with {given}: the best is "
        f"{table.accuracy[best]:g} ({table.modes[best]}); lower accuracy_slo or send more modalities"
    )
