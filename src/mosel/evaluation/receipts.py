"""A run as the receipts of a live server tell it: from what came back for each job to rows of a run directory.

The server's clock is moved so that the job which reached it quickest arrived when it was sent; then
finish = deadline − slack, as the server judged it. How jobs are sent is not known here.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from mosel.core.clock import NS_PER_MS, to_ns
from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job
from mosel.evaluation.client import Reply
from mosel.evaluation.payloads import Payload
from mosel.evaluation.results import BatchResult, Counts, JobResult, modes_run

REFUSED = frozenset({400, 413, 503})


@dataclass(slots=True)
class Sent:
    """One job on the wire; times are relative to the workload's start, None where it did not come to that."""

    payload: Payload
    sent_ns: int
    received_ns: int | None = None
    reply: Reply | None = None
    trouble: str = ""
    gave_up: bool = False


def read_receipts(
    jobs: Sequence[Job], sent: Sequence[Sent], length_buckets: Mapping[str, Sequence[float]] | None = None
) -> tuple[list[JobResult], list[BatchResult]]:
    """Return every job's row, in the workload's order, and every batch that the receipts name.

    Which length bucket a batch was of is known where the workload says how long its jobs are; `length_buckets`
    are the upper limits of each model that has some.
    """
    offset_ns = _clock_offset_ns(sent)
    batches = _batches(jobs, sent, offset_ns, length_buckets or {})
    modes = modes_run(batches)
    pairs = zip(jobs, sent, strict=True)
    return [
        _job_result(job, one, offset_ns, _last_modes(job, one, modes.get(job.id, {}))) for job, one in pairs
    ], batches


def count_reasons(jobs: Sequence[Job], sent: Sequence[Sent]) -> dict[str, int]:
    """Count requests by the reason that their receipts give; those without a receipt by HTTP status."""
    counts: Counter[str] = Counter()
    for job, one in zip(jobs, sent, strict=True):
        without = f"status {one.reply.status}" if one.reply else "given up" if one.gave_up else "no answer"
        counts[str(_receipt(one).get("reason", without))] += job.requests
    return dict(sorted(counts.items()))


def _clock_offset_ns(sent: Sequence[Sent]) -> int:
    """Return what to take from the server's clock to be on the workload's."""
    arrivals = ((one, _receipt(one).get("arrival_s")) for one in sent)
    return min((to_ns(at_s) - one.sent_ns for one, at_s in arrivals if at_s is not None), default=0)


def _receipt(one: Sent) -> Mapping[str, Any]:
    return one.reply.receipt if one.reply else {}


def _batches(
    jobs: Sequence[Job], sent: Sequence[Sent], offset_ns: int, length_buckets: Mapping[str, Sequence[float]]
) -> list[BatchResult]:
    told: dict[int, dict[str, Any]] = {}
    parts: dict[int, dict[str, int]] = {}
    for job, one in zip(jobs, sent, strict=True):
        for batch in _named_batches(one):
            bucket = _bucket(job, length_buckets.get(job.model, ()))
            told[batch["id"]] = {**batch, "model": job.model, "bucket": bucket}
            parts.setdefault(batch["id"], {})[job.id] = batch["requests"]
    _place_unfinished(jobs, sent, told, parts)
    return [_batch_result(told[number], parts[number], offset_ns) for number in sorted(told)]


def _place_unfinished(
    jobs: Sequence[Job],
    sent: Sequence[Sent],
    told: Mapping[int, Mapping[str, Any]],
    parts: Mapping[int, dict[str, int]],
) -> None:
    """Put dropped jobs into the batches that still ran with requests of theirs when they were told.

    Their receipts count these requests under `modes`, but could not name the batches, which were not done.
    Other receipts do: requests of a batch in that mode, done after the drop, that no receipt owns up to.
    """
    unowned = {number: told[number]["size"] - sum(own.values()) for number, own in parts.items()}
    unowned = {number: count for number, count in unowned.items() if count > 0}
    for job, one in zip(jobs, sent, strict=True):
        for mode, missing in _unfinished(one).items():
            same = {"model": job.model, "mode": mode}.items()
            for number in [each for each in unowned if same <= told[each].items()]:
                if missing and unowned[number] and told[number]["finish"] >= _decided_s(one):
                    taken = min(missing, unowned[number])
                    parts[number][job.id] = parts[number].get(job.id, 0) + taken
                    unowned[number] -= taken
                    missing -= taken


def _unfinished(one: Sent) -> Counter[str]:
    """Count a dropped job's requests by mode that were with a worker when it was told."""
    receipt = _receipt(one)
    if _outcome(one) is not State.DROPPED or "decided_ms" not in receipt:
        return Counter()
    counts = _told_modes(one)
    for batch in _named_batches(one):
        counts[batch["mode"]] -= batch["requests"]
    return +counts


def _named_batches(one: Sent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_receipt(one).get("batches", "[]"))
    return found


def _decided_s(one: Sent) -> float:
    """When the job was decided, on the server's clock."""
    receipt = _receipt(one)
    return float(receipt["arrival_s"] + receipt["decided_ms"] / 1000)


def _batch_result(batch: Mapping[str, Any], parts: Mapping[str, int], offset_ns: int) -> BatchResult:
    start_ns, finish_ns = (to_ns(batch[key]) - offset_ns for key in ("start", "finish"))
    return BatchResult(
        batch["id"],
        batch["worker"],
        start_ns,
        finish_ns,
        batch["mode"],
        batch["size"],
        tuple(parts.items()),
        model=batch["model"],
        bucket=batch["bucket"],
        resumed=_counts(batch.get("resumed", "")),
    )


def _bucket(job: Job, limits: Sequence[float]) -> int | None:
    if job.length is None or not limits:
        return None
    return min(bisect_left(limits, job.length), len(limits) - 1)


def _job_result(job: Job, one: Sent, offset_ns: int, modes: Mapping[str, int]) -> JobResult:
    receipt = _receipt(one)
    outcome = _outcome(one)
    arrival_ns = to_ns(receipt["arrival_s"]) - offset_ns if "arrival_s" in receipt else one.sent_ns
    deadline_ns = arrival_ns + job.deadline_ns - job.arrival_ns
    as_arrived = replace(job, arrival_ns=arrival_ns, deadline_ns=deadline_ns)
    decided_ns = one.received_ns if one.received_ns is not None else one.sent_ns
    if "decided_ms" in receipt:
        decided_ns = arrival_ns + round(receipt["decided_ms"] * NS_PER_MS)
    if outcome not in (State.SERVED, State.LATE):
        return JobResult(as_arrived, outcome, decided_ns, modes=tuple(modes.items()))
    finish_ns = deadline_ns - round(receipt["slack_ms"] * NS_PER_MS)
    return JobResult(
        as_arrived, outcome, decided_ns, finish_ns, receipt["expected_accuracy"], tuple(modes.items())
    )


def _last_modes(job: Job, one: Sent, ran: Mapping[str, int]) -> Mapping[str, int]:
    """Count a job's requests by the last mode that each ran in; where cascades ran, its receipt tells it."""
    if sum(ran.values()) <= job.requests:
        return ran
    told = _told_modes(one)
    return {mode: min(count, told[mode]) for mode, count in ran.items() if told[mode]}


def _told_modes(one: Sent) -> Counter[str]:
    return Counter(dict(_counts(_receipt(one).get("modes", ""))))


def _counts(text: object) -> Counts:
    pairs = (cell.rpartition(":") for cell in str(text).split(";") if cell)
    return tuple((mode, int(count)) for mode, _, count in pairs)


def _outcome(one: Sent) -> State:
    """The receipt's outcome; without a receipt, given up, or refused or failed as the status says."""
    told = _receipt(one).get("outcome")
    if told in OUTCOMES:
        return State(told)
    if one.gave_up:
        return State.DROPPED
    return State.REJECTED if one.reply and one.reply.status in REFUSED else State.FAILED
