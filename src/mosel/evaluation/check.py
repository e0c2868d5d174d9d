"""Whether a run can be true: an independent check of a run directory against its profile and workload.

It shares no code with the scheduler, and recomputes from the batches what the jobs and the summary say.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mosel.core.clock import NS_PER_S, to_ns
from mosel.core.states import State
from mosel.core.tables import Profile, read_profile
from mosel.core.types import ACCURACY_TOLERANCE
from mosel.evaluation.recorded import Recorded, read_run
from mosel.evaluation.results import BatchResult, JobResult
from mosel.evaluation.workload import Workload, read_workload

FINISHED = (State.SERVED, State.LATE)
ROUNDING = 1e-9


def check_run(
    folder: Path,
    profiles: Path | Sequence[Path],
    workload: Path,
    *,
    workers: Sequence[Sequence[Path]] | None = None,
    profiled: bool = True,
    arrival_tolerance_s: float = 0.0,
) -> list[str]:
    """Return everything about a run directory that cannot be true; an empty list means that it holds.

    Args:
        folder: the run directory.
        profiles: the `profile.json` of each model.
        workload: the `workload.csv` that was run.
        workers: the `profile.json` files of each worker, where they differ.
        profiled: whether every batch must take exactly its profiled latency (a simulation without noise).
        arrival_tolerance_s: how far a job's arrival may lie from the workload's (a live run).

    Raises:
        FileError: a file cannot be read at all.
    """
    paths = [profiles] if isinstance(profiles, Path) else [*profiles]
    read = {
        path: read_profile(path).profile for path in {*paths, *(each for own in workers or () for each in own)}
    }
    crew = _Crew.of(read, paths, workers)
    run = read_run(folder)
    jobs = read_workload(workload, {profile.model: profile.modalities for profile in read.values()})
    models = {job.id: job.model for job in jobs.jobs}
    charged = bool(run.summary.extra.get("charge_decisions"))
    return [
        *_roll_problems(run, jobs, to_ns(arrival_tolerance_s)),
        *_worker_problems(run.batches),
        *_summary_problems(run),
        *(problem for batch in run.batches for problem in _batch_problems(batch, crew, models, profiled)),
        *_job_problems(run, crew, models, charged),
    ]


@dataclass(frozen=True, slots=True)
class _Facts:
    """A profile's accuracies by mode, and latencies by mode, bucket and size."""

    accuracy: dict[str, float]
    latency_ns: dict[tuple[str, int, int], int]

    @classmethod
    def of(cls, profile: Profile) -> "_Facts":
        modes = list(zip(profile.mode_names, profile.modes, strict=True))
        latency_ns = {
            (name, bucket, size): to_ns(latency_s)
            for name, mode in modes
            for bucket, column in enumerate(profile.columns(mode.latency_s))
            for size, latency_s in zip(profile.sizes_of(mode), column, strict=True)
        }
        return cls({name: mode.accuracy for name, mode in modes}, latency_ns)


@dataclass(frozen=True, slots=True)
class _Crew:
    """What each worker's profiles say of a model; one entry where all workers are alike."""

    workers: Sequence[Mapping[str, _Facts]]
    alike: bool

    @classmethod
    def of(
        cls, read: Mapping[Path, Profile], paths: Sequence[Path], workers: Sequence[Sequence[Path]] | None
    ) -> "_Crew":
        facts = {path: _Facts.of(profile) for path, profile in read.items()}
        each = [paths] if workers is None else workers
        return cls([{read[path].model: facts[path] for path in own} for own in each], workers is None)

    def facts(self, batch: BatchResult, models: Mapping[str, str]) -> _Facts | None:
        """What the batch's worker can run of its model; None if it has no profile of it."""
        number = 0 if self.alike else batch.worker
        model = batch.model or models.get(batch.jobs[0][0], "")
        return self.workers[number].get(model) if number < len(self.workers) else None


def _roll_problems(run: Recorded, workload: Workload, tolerance_ns: int) -> Iterator[str]:
    counts = Counter(row.job.id for row in run.jobs)
    rows = {row.job.id: row.job for row in run.jobs}
    for job in workload.jobs:
        if counts[job.id] != 1:
            yield f"job {job.id} has {counts[job.id]} outcomes; expected one"
            continue
        row = rows[job.id]
        if abs(row.arrival_ns - job.arrival_ns) > tolerance_ns:
            yield f"job {job.id} arrives at {row.arrival_ns} ns; the workload says {job.arrival_ns}"
        same_slo = abs((row.deadline_ns - row.arrival_ns) - (job.deadline_ns - job.arrival_ns)) <= 1
        if not same_slo or (row.requests, row.accuracy_slo) != (job.requests, job.accuracy_slo):
            yield f"job {job.id} is not as the workload says"
    for name in counts.keys() - {job.id for job in workload.jobs}:
        yield f"job {name} is not in the workload"


def _worker_problems(batches: Sequence[BatchResult]) -> Iterator[str]:
    by_worker: dict[int, list[BatchResult]] = defaultdict(list)
    for batch in batches:
        by_worker[batch.worker].append(batch)
    for worker, own in by_worker.items():
        own.sort(key=lambda batch: (batch.start_ns, batch.finish_ns))
        for before, after in itertools.pairwise(own):
            if after.start_ns < before.finish_ns:
                yield f"batches {before.id} and {after.id} overlap on worker {worker}"
    for name, count in Counter(batch.id for batch in batches).items():
        if count > 1:
            yield f"batch {name} stands {count} times"


def _batch_problems(
    batch: BatchResult, crew: _Crew, models: Mapping[str, str], profiled: bool
) -> Iterator[str]:
    where = f"batch {batch.id}"
    if sum(count for _, count in batch.jobs) != batch.size:
        yield f"{where} has size {batch.size}, but other requests in it"
    if batch.finish_ns < batch.start_ns:
        yield f"{where} ends before it starts"
    facts = crew.facts(batch, models)
    if facts is None or batch.mode not in facts.accuracy:
        yield f"{where} ran in {batch.mode}, which the profile of worker {batch.worker} does not have"
        return
    if profiled and batch.done:
        expected_ns = facts.latency_ns.get((batch.mode, batch.bucket or 0, batch.size))
        if expected_ns != batch.finish_ns - batch.start_ns:
            yield f"{where} took {batch.finish_ns - batch.start_ns} ns; profiled {expected_ns}"


def _job_problems(run: Recorded, crew: _Crew, models: Mapping[str, str], charged: bool) -> Iterator[str]:
    held: dict[str, list[tuple[BatchResult, int]]] = defaultdict(list)
    for batch in run.batches:
        for name, count in batch.jobs:
            held[name].append((batch, count))
    for row in run.jobs:
        if row.job.id in models:
            own = held[row.job.id]
            yield from _one_job_problems(row, own, _gained(own, crew, models))
            yield from _finish_problems(row, own, charged)


def _gained(held: Sequence[tuple[BatchResult, int]], crew: _Crew, models: Mapping[str, str]) -> float:
    """The accuracy sum that a job's requests earned where they ran."""
    total = 0.0
    for batch, count in held:
        facts = crew.facts(batch, models)
        if batch.done and facts is not None:
            total += facts.accuracy.get(batch.mode, 0.0) * count
    return total


def _one_job_problems(row: JobResult, held: Sequence[tuple[BatchResult, int]], gained: float) -> Iterator[str]:
    where = f"job {row.job.id} ({row.outcome})"
    ran: Counter[str] = Counter()
    for batch, count in held:
        if batch.start_ns < row.job.arrival_ns:
            yield f"{where} is in batch {batch.id}, which starts before it arrives"
        needs = batch.mode.split("@")[0].split("+")
        if row.job.modalities and not set(needs) <= set(row.job.modalities):
            yield f"{where} ran in {batch.mode}, but has only {'+'.join(row.job.modalities)}"
        if batch.done:
            ran[batch.mode] += count
    if dict(row.modes) != ran:
        yield f"{where} has modes {dict(row.modes)}; its batches say {dict(ran)}"
    if row.decided_ns < row.job.arrival_ns:
        yield f"{where} is decided before it arrives"
    yield from _outcome_problems(row, ran.total(), gained, where)
    if row.outcome is State.REJECTED and held:
        yield f"{where} was refused on arrival, but ran"


def _outcome_problems(row: JobResult, ran: int, gained: float, where: str) -> Iterator[str]:
    requests = row.job.requests
    if row.outcome in FINISHED:
        if ran != requests:
            yield f"{where} ran {ran} of its {requests} requests"
        if gained < row.job.accuracy_slo * requests - ACCURACY_TOLERANCE * max(requests, 1):
            yield f"{where} reached {gained / requests}, under its SLO of {row.job.accuracy_slo}"
        if row.accuracy is None or abs(row.accuracy - gained / requests) > ROUNDING:
            yield f"{where} claims accuracy {row.accuracy}; its batches say {gained / requests}"
    elif row.accuracy is not None:
        yield f"{where} has an accuracy"
    if row.outcome is State.DROPPED and ran >= requests:
        yield f"{where} ran all of its requests"


def _finish_problems(row: JobResult, held: Sequence[tuple[BatchResult, int]], charged: bool) -> Iterator[str]:
    """Where decisions are charged for, a finish is known only when the decision before it is over."""
    where = f"job {row.job.id} ({row.outcome})"
    if row.outcome not in FINISHED:
        if row.finish_ns is not None:
            yield f"{where} has a finish"
        return
    last_ns = max((batch.finish_ns for batch, _ in held if batch.done), default=None)
    if row.finish_ns is None or last_ns is None or row.finish_ns < last_ns:
        yield f"{where} claims to finish before its last batch"
    elif row.finish_ns > last_ns and not charged:
        yield f"{where} claims to finish after its last batch"
    elif (row.finish_ns <= row.job.deadline_ns) != (row.outcome is State.SERVED):
        yield f"{where} finished at {row.finish_ns} ns with its deadline at {row.job.deadline_ns}"


def _summary_problems(run: Recorded) -> Iterator[str]:
    total = sum(row.job.requests for row in run.jobs)
    requests: Counter[State] = Counter()
    for row in run.jobs:
        requests[row.outcome] += row.job.requests
    said = run.summary
    gained = sum((row.accuracy or 0) * row.job.requests for row in run.jobs if row.outcome is State.SERVED)
    served = requests[State.SERVED]
    ends = [row.finish_ns for row in run.jobs if row.finish_ns is not None]
    span_s = (max(ends) - min(row.job.arrival_ns for row in run.jobs)) / NS_PER_S if ends else 0.0
    expected = {
        "requests": total,
        "on_time": served / total,
        "late": requests[State.LATE] / total,
        "dropped": requests[State.DROPPED] / total,
        "rejected": requests[State.REJECTED] / total,
        "failed": requests[State.FAILED] / total,
        "violation_ratio": 1 - served / total,
        "effective_accuracy": gained / total,
        "accuracy": gained / served if served else None,
        "throughput_rps": served / span_s if span_s else 0.0,
    }
    for key, value in expected.items():
        given = getattr(said, key)
        if given is None or value is None:
            wrong = given is not value
        else:
            wrong = abs(given - value) > ROUNDING * max(1, abs(value))
        if wrong:
            yield f"summary.json says {key} = {given}; the jobs say {value}"
    if said.bound is not None and served / total > said.bound + ROUNDING:
        yield f"{served / total} is on time, above the bound of {said.bound}"
