"""A workload against a live server, open loop: each job is sent at its own time, whatever became of the others.

The run directory holds the server's own judgement, taken from the receipts: its clock is moved so that the job
which reached it quickest arrived when it was sent, and finish = deadline − slack. What the client saw beside it
(answers that reached it late, its own send lag, accuracy against the labels) stands in `extra`.
"""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import aiohttp
import numpy as np

from mosel.core.clock import NS_PER_MS, monotonic_ns, to_ns, to_s
from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job
from mosel.evaluation.client import BadAnswerError, Client, Reply
from mosel.evaluation.payloads import Payload, Payloads
from mosel.evaluation.results import BatchResult, JobResult, Run, modes_run
from mosel.evaluation.workload import Workload
from mosel.models.base import Model

LEAD_S = 0.2
"""Between the last preparation and the workload's time 0."""

PREBUILT_BYTES = 1 << 30
"""Bodies up to this total are made before the start; those beyond it just before each is sent."""

REFUSED = frozenset({400, 413, 503})


@dataclass(slots=True)
class Sent:
    """One job on the wire; times are relative to the workload's start, None where it did not come to that."""

    payload: Payload
    sent_ns: int
    received_ns: int | None = None
    reply: Reply | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The run, and how often the client met which trouble of its own (a server that is gone, say)."""

    run: Run
    troubles: Counter[str] = field(default_factory=Counter)


async def replay(
    url: str,
    model: Model,
    workload: Workload,
    *,
    seed: int = 0,
    answer_limit_s: float = 600.0,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Send every job of `workload` to the server at `url` and record what became of it.

    Args:
        url: of the server.
        model: whose labelled samples are sent.
        workload: its jobs are of this model.
        seed: of the order in which samples are drawn.
        answer_limit_s: after so long without an answer a job counts as failed.
        on_answer: called with a job's number of requests when it has its outcome.

    Raises:
        ExecutionError: the server cannot be reached before the start.
        UnknownModelError: it does not serve the model.
        ModelError: the model has no labelled samples.
    """
    timeout = aiohttp.ClientTimeout(total=answer_limit_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        client = Client(session, url, model.name)
        described = await client.describe()
        payloads = Payloads(model, seed)
        sent = await _send_all(client, payloads, workload.jobs, on_answer)
    return _recorded(workload, sent, model, payloads, described.get("parameters") or {})


async def _send_all(
    client: Client, payloads: Payloads, jobs: Sequence[Job], on_answer: Callable[[int], None]
) -> list[Sent]:
    ready = _prebuilt(payloads, jobs)
    sent: list[Sent] = []
    start_ns = monotonic_ns() + to_ns(LEAD_S)
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            payload = ready.popleft() if ready else payloads.make(job)
            await asyncio.sleep(max(0.0, to_s(start_ns + job.arrival_ns - monotonic_ns())))
            one = Sent(payload, monotonic_ns() - start_ns)
            sent.append(one)
            group.create_task(_send(client, one, start_ns, partial(on_answer, job.requests)))
    return sent


def _prebuilt(payloads: Payloads, jobs: Sequence[Job]) -> deque[Payload]:
    ready: deque[Payload] = deque()
    size = 0
    for job in jobs:
        if size > PREBUILT_BYTES:
            break
        ready.append(payloads.make(job))
        size += len(ready[-1].body)
    return ready


async def _send(client: Client, one: Sent, start_ns: int, on_answer: Callable[[], None]) -> None:
    try:
        one.reply = await client.infer(one.payload)
    except TimeoutError:
        one.trouble = "no answer in time"
    except (aiohttp.ClientError, OSError) as error:
        one.trouble = f"the server is gone: {str(error) or type(error).__name__}"
    except BadAnswerError as error:
        one.trouble = str(error)
    one.received_ns = monotonic_ns() - start_ns
    one.payload = replace(one.payload, body=b"")
    on_answer()


def _recorded(
    workload: Workload, sent: Sequence[Sent], model: Model, payloads: Payloads, served: Mapping[str, Any]
) -> Replayed:
    offset_ns = _clock_offset_ns(sent)
    rows, batches = _rows(workload.jobs, sent, offset_ns)
    run = Run(
        policy=str(served.get("policy", "unknown")),
        workers=int(served.get("workers", 1)),
        seed=int(served.get("seed", 0)),
        jobs=rows,
        batches=batches,
        columns=workload.columns,
        extra={
            "reasons": _reasons(workload.jobs, sent),
            "client": _client_view(workload.jobs, sent, rows, model, payloads),
        },
    )
    return Replayed(run, Counter(one.trouble for one in sent if one.trouble))


def _clock_offset_ns(sent: Sequence[Sent]) -> int:
    """Return what to take from the server's clock to be on the workload's."""
    arrivals = ((one, _receipt(one).get("arrival_s")) for one in sent)
    return min((to_ns(at_s) - one.sent_ns for one, at_s in arrivals if at_s is not None), default=0)


def _receipt(one: Sent) -> Mapping[str, Any]:
    return one.reply.receipt if one.reply else {}


def _rows(
    jobs: Sequence[Job], sent: Sequence[Sent], offset_ns: int
) -> tuple[list[JobResult], list[BatchResult]]:
    held: dict[int, tuple[dict[str, Any], list[tuple[str, int]]]] = {}
    for job, one in zip(jobs, sent, strict=True):
        for batch in json.loads(_receipt(one).get("batches", "[]")):
            held.setdefault(batch["id"], (batch, []))[1].append((job.id, batch["requests"]))
    batches = [_batch_result(batch, parts, offset_ns) for _, (batch, parts) in sorted(held.items())]
    modes = modes_run(batches)
    rows = [
        _job_result(job, one, offset_ns, modes.get(job.id, {})) for job, one in zip(jobs, sent, strict=True)
    ]
    return rows, batches


def _batch_result(batch: Mapping[str, Any], parts: Sequence[tuple[str, int]], offset_ns: int) -> BatchResult:
    start_ns, finish_ns = (to_ns(batch[key]) - offset_ns for key in ("start", "finish"))
    return BatchResult(
        batch["id"], batch["worker"], start_ns, finish_ns, batch["mode"], batch["size"], tuple(parts)
    )


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


def _outcome(one: Sent) -> State:
    """The receipt's outcome; without a receipt, refused or failed as the status says."""
    told = _receipt(one).get("outcome")
    if told in OUTCOMES:
        return State(told)
    return State.REJECTED if one.reply and one.reply.status in REFUSED else State.FAILED


def _reasons(jobs: Sequence[Job], sent: Sequence[Sent]) -> dict[str, int]:
    """Count requests by the reason that their receipts give; those without a receipt by HTTP status."""
    counts: Counter[str] = Counter()
    for job, one in zip(jobs, sent, strict=True):
        without = f"status {one.reply.status}" if one.reply else "no answer"
        counts[str(_receipt(one).get("reason", without))] += job.requests
    return dict(sorted(counts.items()))


def _client_view(
    jobs: Sequence[Job], sent: Sequence[Sent], rows: Sequence[JobResult], model: Model, payloads: Payloads
) -> dict[str, Any]:
    lags_ms = [(one.sent_ns - job.arrival_ns) / NS_PER_MS for job, one in zip(jobs, sent, strict=True)]
    answered = [each for each in zip(jobs, sent, rows, strict=True) if each[1].reply and each[1].reply.outputs]
    requests = sum(job.requests for job, _, _ in answered)
    late = sum(job.requests for job, one, _ in answered if (one.received_ns or 0) > job.deadline_ns)
    measured = sum(_score(model, one, payloads) for _, one, _ in answered)
    promised = sum((row.accuracy or 0.0) * job.requests for job, _, row in answered)
    return {
        "send_lag_ms": {
            "p50": float(np.percentile(lags_ms, 50)),
            "p99": float(np.percentile(lags_ms, 99)),
            "max": max(lags_ms),
        },
        "answered_requests": requests,
        "late_share": late / requests if requests else None,
        "accuracy": measured / requests if requests else None,
        "promised_accuracy": promised / requests if requests else None,
    }


def _score(model: Model, one: Sent, payloads: Payloads) -> float:
    assert one.reply is not None
    return float(model.score(one.reply.outputs, payloads.labels[one.payload.indices]).sum())
