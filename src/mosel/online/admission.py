"""Which jobs are refused on arrival, under every policy: those that could not be served even alone (§4.3)."""

from collections.abc import Iterable, Sequence

from mosel.core.states import Reason
from mosel.core.types import Job
from mosel.online.jobs import LiveJob, Progress
from mosel.online.kinds import Kind
from mosel.online.tables import ModelTable


def refusal_of(
    progress: Progress, kinds: Iterable[Kind], workers: int, now_ns: int
) -> tuple[Reason, str] | None:
    """Why a job is refused on arrival: too long, an SLO out of reach, or late even alone (rule of §4.3).

    The kind of worker counts that can do most for it; `workers` may share its batches. Fills the job's sides.
    """
    job = progress.job
    able = [kind for kind in kinds if job.model in kind.tables]
    if not able:
        return Reason.LATENCY_UNREACHABLE, f"no worker has model {job.model} now; try again later"
    sides: dict[Kind, LiveJob] = {}
    reaching_ns = []
    for kind in able:
        side = kind.side(progress)
        if side is not None:
            sides[kind] = side
            side.look_up()
            if side.reachable:
                reaching_ns.append(side.alone_ns(workers))
    progress.sides = sides
    if not sides:
        longest = max(buckets[-1] for kind in able if (buckets := kind.tables[job.model].length_buckets))
        return Reason.BAD_INPUT, f"length {job.length} is above the profile's limit {longest}"
    if not reaching_ns:
        tables = [kind.tables[job.model] for kind in able]
        return Reason.ACCURACY_UNREACHABLE, _unreachable(job, tables, progress.mask)
    left_ns = job.deadline_ns - max(now_ns, job.arrival_ns)
    least_ns = min(reaching_ns)
    if left_ns < least_ns:
        return Reason.LATENCY_UNREACHABLE, (
            f"even alone, {job.requests} requests at accuracy {job.accuracy_slo:g} take at least "
            f"{least_ns / 1e6:.1f} ms, and {max(left_ns, 0) / 1e6:.1f} ms are left; "
            "allow a longer latency SLO"
        )
    return None


def _unreachable(job: Job, tables: Sequence[ModelTable], mask: int) -> str:
    given = "+".join(job.modalities or tables[0].modalities)
    usable = [(table.accuracy[mode], table.modes[mode]) for table in tables for mode in table.usable(mask)]
    if not usable:
        names = dict.fromkeys(mode for table in tables for mode in table.modes)
        return f"no mode of {job.model} runs with {given} alone; it has {', '.join(names)}"
    accuracy, mode = max(usable, key=lambda one: one[0])
    return (
        f"accuracy SLO {job.accuracy_slo:g} cannot be reached with {given}: the best is "
        f"{accuracy:g} ({mode}); lower accuracy_slo or send more modalities"
    )
