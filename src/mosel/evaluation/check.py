"""Whether a run can be true: an independent check of a run directory against its profile and workload.

It shares no code with the scheduler, and recomputes from the batches what the jobs and the summary say.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mosel.core.arrays import resumptions
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
        *_resumption_problems(run.batches),
        *_summary_problems(run),
        *(problem for batch in run.batches for problem in _batch_problems(batch, crew, models, profiled)),
        *_job_problems(run, crew, models, charged),
    ]


@dataclass(frozen=True, slots=True)
class _Facts:
    """A profile's accuracies by mode, and latencies by mode, bucket and size.

    `range` is what a request counts whose last mode it is: one number, unless it is a stage of a cascade.
    `after` are, for each mode, those in which a request may run once more; `resumed_ns` is what that takes, by
    both modes, bucket and size, where features of all requests are kept.
    """

    accuracy: dict[str, float]
    latency_ns: dict[tuple[str, int, int], int]
    resumed_ns: dict[tuple[str, str, int, int], int]
    range: dict[str, tuple[float, float]]
    after: dict[str, set[str]]

    @classmethod
    def of(cls, profile: Profile) -> "_Facts":
        modes = list(zip(profile.mode_names, profile.modes, strict=True))
        latency_ns = {
            (name, bucket, size): to_ns(latency_s)
            for name, mode in modes
            for bucket, column in enumerate(profile.columns(mode.latency_s))
            for size, latency_s in zip(profile.sizes_of(mode), column, strict=True)
        }
        accuracy = {name: mode.accuracy for name, mode in modes}
        ranges = {name: (value, value) for name, value in accuracy.items()}
        after: dict[str, set[str]] = defaultdict(set)
        resumed_ns = {
            (*stages, bucket, size): int(took_ns)
            for stages, rows in resumptions(profile).items()
            for (bucket, size), took_ns in np.ndenumerate(rows)
        }
        for cascade in profile.cascades:
            first, last = cascade.stages
            after[first].add(last)
            # Answered with what it has, a request may count as little as it is sure.
            ranges[first] = 0.0, max(ranges[first][1], cascade.accuracy)
            ranges[last] = min(ranges[last][0], accuracy[first]), max(ranges[last][1], cascade.accuracy)
        return cls(accuracy, latency_ns, resumed_ns, ranges, after)

    def profiled_ns(self, batch: BatchResult) -> int | None:
        """What a batch takes; None if it can neither run so nor resume what it says."""
        bucket = batch.bucket or 0
        if not batch.resumed:
            return self.latency_ns.get((batch.mode, bucket, batch.size))
        first, count = batch.resumed[0]
        rest_ns = self.resumed_ns.get((first, batch.mode, bucket, batch.size))
        fresh = batch.size - count
        before_ns = self.latency_ns.get((first, bucket, fresh)) if fresh else 0
        return None if rest_ns is None or before_ns is None else rest_ns + before_ns


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


Held = Sequence[tuple[_Facts | None, BatchResult, int]]
"""The batches with a job's requests, what the profile of each worker says, and how many requests."""


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


def _resumption_problems(batches: Sequence[BatchResult]) -> Iterator[str]:
    """What a batch resumes ran on its worker before, in the mode that it names."""
    ended = sorted((batch for batch in batches if batch.done), key=lambda batch: -batch.finish_ns)
    ran: Counter[tuple[int, str, str]] = Counter()
    for batch in sorted(batches, key=lambda batch: batch.start_ns):
        while ended and ended[-1].finish_ns <= batch.start_ns:
            before = ended.pop()
            ran.update({(before.worker, before.mode, job): count for job, count in before.jobs})
        for first, count in batch.resumed:
            most = sum(min(own, ran[batch.worker, first, job]) for job, own in batch.jobs)
            if not 1 <= count <= most:
                yield f"batch {batch.id} resumes {count} requests of {first}; of these {most} ran before"


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
        expected_ns, took_ns = facts.profiled_ns(batch), batch.finish_ns - batch.start_ns
        if took_ns != expected_ns:
            yield f"{where} took {took_ns} ns; profiled {expected_ns}"


def _job_problems(run: Recorded, crew: _Crew, models: Mapping[str, str], charged: bool) -> Iterator[str]:
    held: dict[str, list[tuple[BatchResult, int]]] = defaultdict(list)
    for batch in run.batches:
        for name, count in batch.jobs:
            held[name].append((batch, count))
    for row in run.jobs:
        if row.job.id in models:
            own = held[row.job.id]
            known = [(crew.facts(batch, models), batch, count) for batch, count in own]
            yield from _one_job_problems(row, own, known)
            # An unsure answer may have waited for a next stage that did not come.
            waited = any(facts and batch.mode in facts.after for facts, batch, _ in known)
            yield from _finish_problems(row, own, charged or waited)


def _one_job_problems(row: JobResult, held: Sequence[tuple[BatchResult, int]], known: Held) -> Iterator[str]:
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
    yield from _stage_problems(row, ran, known, where)
    if row.decided_ns < row.job.arrival_ns:
        yield f"{where} is decided before it arrives"
    yield from _outcome_problems(row, known, where)
    if row.outcome is State.REJECTED and held:
        yield f"{where} was refused on arrival, but ran"


def _stage_problems(row: JobResult, ran: Counter[str], known: Held, where: str) -> Iterator[str]:
    """A request is in one batch that is done, or in one for each stage of a cascade; its last mode counts."""
    said = dict(row.modes)
    after = {last for facts, _, _ in known if facts for lasts in facts.after.values() for last in lasts}
    first = {mode for facts, _, _ in known if facts for mode, lasts in facts.after.items() if lasts}
    more = {mode: ran[mode] - said.get(mode, 0) for mode in ran.keys() | said.keys()}
    again = sum(more.values())
    if again > sum(count for mode, count in ran.items() if mode in after) or any(
        count and (count < 0 or mode not in first) for mode, count in more.items()
    ):
        yield f"{where} has modes {said}; its batches say {dict(ran)}"


def _outcome_problems(row: JobResult, known: Held, where: str) -> Iterator[str]:
    requests = row.job.requests
    done = Counter({mode: 0 for mode, _ in row.modes})
    for _, batch, count in known:
        done[batch.mode] += count * batch.done
    ran = sum(min(count, done[mode]) for mode, count in row.modes)
    if row.outcome in FINISHED:
        low, high = _gained(row, known)
        if ran != requests:
            yield f"{where} ran {ran} of its {requests} requests"
        reached = high if row.accuracy is None else min(high, row.accuracy * requests)
        if reached < row.job.accuracy_slo * requests - ACCURACY_TOLERANCE * max(requests, 1):
            yield f"{where} reached {reached / requests}, under its SLO of {row.job.accuracy_slo}"
        if row.accuracy is None or not low - ROUNDING <= row.accuracy * requests <= high + ROUNDING * requests:
            said = low / requests if low == high else (low / requests, high / requests)
            yield f"{where} claims accuracy {row.accuracy}; its batches say {said}"
    elif row.accuracy is not None:
        yield f"{where} has an accuracy"
    cascades = any(facts and facts.after for facts, _, _ in known)
    if row.outcome is State.DROPPED and ran >= requests and not cascades:
        yield f"{where} ran all of its requests"


def _gained(row: JobResult, known: Held) -> tuple[float, float]:
    """The least and the largest accuracy sum that a job's requests can count, by where each ran last."""
    left = dict(row.modes)
    low = high = 0.0
    for facts, batch, count in known:
        if batch.done and facts is not None and (own := min(count, left.get(batch.mode, 0))):
            left[batch.mode] -= own
            least, most = facts.range.get(batch.mode, (0.0, 0.0))
            low, high = low + least * own, high + most * own
    return low, high


def _finish_problems(row: JobResult, held: Sequence[tuple[BatchResult, int]], later: bool) -> Iterator[str]:
    """A finish may come `later` than the last batch, where decisions take time or an answer waited."""
    where = f"job {row.job.id} ({row.outcome})"
    if row.outcome not in FINISHED:
        if row.finish_ns is not None:
            yield f"{where} has a finish"
        return
    last_ns = max((batch.finish_ns for batch, _ in held if batch.done), default=None)
    if row.finish_ns is None or last_ns is None or row.finish_ns < last_ns:
        yield f"{where} claims to finish before its last batch"
    elif row.finish_ns > last_ns and not later:
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
