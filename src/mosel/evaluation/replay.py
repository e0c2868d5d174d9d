"""A workload against a live server, open loop: each job is sent at its own time, whatever became of the others.

The run directory holds the server's own judgement, taken from the receipts: its clock is moved so that the job
which reached it quickest arrived when it was sent, and finish = deadline − slack. What the client saw beside it
(answers that reached it late, its own send lag, accuracy against the labels) stands in `extra`.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import aiohttp
import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import NS_PER_MS, monotonic_ns, to_ns, to_s
from mosel.core.errors import BadAnswerError, NotReadyError
from mosel.core.types import Job
from mosel.evaluation.client import Client, Reply
from mosel.evaluation.labels import give_feedback
from mosel.evaluation.payloads import Payload, Payloads
from mosel.evaluation.receipts import Sent, count_reasons, read_receipts
from mosel.evaluation.results import JobResult, Run
from mosel.evaluation.workload import Workload
from mosel.models.base import Model, metric_of

LEAD_S = 0.2
"""Between the last preparation and the workload's time 0."""

POLL_S = 0.05
"""Between two questions whether a server that is waited for is ready."""

LAST_QUESTION_S = 1.0
"""How long an answer to the last one is waited for, if preparing took all the time that there was."""

PREBUILT_BYTES = 1 << 30
"""Bodies up to this total are made before the start; those beyond it just before each is sent."""


class Sender(Protocol):
    """Sends a job's body to a server; `client.Client`, or that of a server that is not ours."""

    async def infer(self, payload: Payload) -> Reply:
        """Return what came back."""


class Maker(Protocol):
    """Makes the bodies of jobs, one after the other."""

    def make(self, job: Job) -> Payload:
        """Return a job's body."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The run, and how often the client met which trouble of its own (a server that is gone, say)."""

    run: Run
    troubles: Counter[str] = field(default_factory=Counter)


async def replay(
    url: str,
    models: Sequence[Model],
    workload: Workload,
    *,
    seed: int = 0,
    answer_limit_s: float = 600.0,
    give_up_s: float | None = None,
    wait_s: float = 0.0,
    api_key: str = "",
    feedback: bool = False,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Send every job of `workload` to the server at `url` and record what became of it.

    Args:
        url: of the server.
        models: whose labelled samples are sent.
        workload: its jobs are of these models.
        seed: of the order in which samples are drawn.
        answer_limit_s: after so long without an answer a job counts as failed.
        give_up_s: so long after the last arrival every job without an answer is given up and counts as
            dropped; None waits for all.
        wait_s: how long a server that is not ready is waited for; requests are prepared meanwhile.
        api_key: if the server asks for one.
        feedback: whether the server is told afterwards how right its answers were.
        on_answer: called with a job's number of requests when it has its outcome.

    Raises:
        NotReadyError: the server cannot be reached, or is not ready, before the start.
        UnauthorizedError: it asks for an API key, or does not know this one.
        UnknownModelError: it does not serve one of the models.
        ModelError: one has no labelled samples.
        ExecutionError: the server takes no feedback.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
    timeout = aiohttp.ClientTimeout(total=answer_limit_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trust_env=False, headers=headers
    ) as session:
        clients = {model.name: Client(session, url, model.name) for model in models}
        until_s = asyncio.get_running_loop().time() + wait_s
        if not wait_s:  # before anything that takes long
            described = [await client.describe() for client in clients.values()]
        payloads = {model.name: Payloads(model, seed) for model in models}
        ready = prebuilt(payloads, workload.jobs)
        if wait_s:
            described = [await _when_ready(client, until_s) for client in clients.values()]
        sent = await send_all(clients, payloads, ready, workload.jobs, give_up_s, on_answer)
        labels = {name: each.labels for name, each in payloads.items()}
        told = await give_feedback(clients, models, workload.jobs, sent, labels) if feedback else None
    return _recorded(workload, sent, models, payloads, described[0].get("parameters") or {}, told)


async def _when_ready(client: Client, until_s: float) -> dict[str, Any]:
    """Return what the server says of its model as soon as it is ready; ask at least once."""
    loop = asyncio.get_running_loop()
    problem = NotReadyError("the server took the connection and has not answered; is it still loading?")
    try:
        async with asyncio.timeout_at(max(until_s, loop.time() + LAST_QUESTION_S)):
            while True:
                try:
                    return await client.describe()
                except NotReadyError as error:
                    problem = error
                    if loop.time() >= until_s:
                        raise
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise problem from None


async def send_all(
    clients: Mapping[str, Sender],
    payloads: Mapping[str, Maker],
    ready: deque[Payload],
    jobs: Sequence[Job],
    give_up_s: float | None,
    on_answer: Callable[[int], None],
) -> list[Sent]:
    """Send each job at its own time, whatever became of the others, and return what came of each.

    Args:
        clients: by model.
        payloads: make the bodies of those jobs that are not `ready`, by model.
        ready: the bodies of the first jobs.
        jobs: in order of arrival.
        give_up_s: so long after the last arrival every job without an answer is given up; None waits for all.
        on_answer: called with a job's number of requests when it has its outcome.
    """
    sent: list[Sent] = []
    start_ns = monotonic_ns() + to_ns(LEAD_S)
    until_s = asyncio.get_running_loop().time() + LEAD_S + to_s(jobs[-1].arrival_ns)
    until_s += math.inf if give_up_s is None else give_up_s
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            payload = ready.popleft() if ready else payloads[job.model].make(job)
            await asyncio.sleep(max(0.0, to_s(start_ns + job.arrival_ns - monotonic_ns())))
            one = Sent(payload, monotonic_ns() - start_ns)
            sent.append(one)
            group.create_task(
                _send(clients[job.model], one, start_ns, until_s, partial(on_answer, job.requests))
            )
    return sent


def prebuilt(payloads: Mapping[str, Maker], jobs: Sequence[Job]) -> deque[Payload]:
    """Return the bodies of as many of the first jobs as memory should hold."""
    ready: deque[Payload] = deque()
    size = 0
    for job in jobs:
        if size > PREBUILT_BYTES:
            break
        ready.append(payloads[job.model].make(job))
        size += len(ready[-1].body)
    return ready


async def _send(
    client: Sender, one: Sent, start_ns: int, until_s: float, on_answer: Callable[[], None]
) -> None:
    try:
        async with asyncio.timeout_at(None if until_s == math.inf else until_s):
            one.reply = await client.infer(one.payload)
    except TimeoutError:
        one.gave_up = asyncio.get_running_loop().time() >= until_s
        one.trouble = "" if one.gave_up else "no answer in time"
    except (aiohttp.ClientError, OSError) as error:
        one.trouble = f"the server is gone: {str(error) or type(error).__name__}"
    except BadAnswerError as error:
        one.trouble = str(error)
    one.received_ns = monotonic_ns() - start_ns
    one.payload = replace(one.payload, body=b"")
    on_answer()


def _recorded(
    workload: Workload,
    sent: Sequence[Sent],
    models: Sequence[Model],
    payloads: Mapping[str, Payloads],
    served: Mapping[str, Any],
    told: Mapping[str, Any] | None,
) -> Replayed:
    limits = {model.name: model.length_buckets for model in models}
    rows, batches = read_receipts(workload.jobs, sent, limits)
    run = Run(
        policy=str(served.get("policy", "unknown")),
        workers=int(served.get("workers", 1)),
        seed=int(served.get("seed", 0)),
        jobs=rows,
        batches=batches,
        columns=workload.columns,
        extra={
            "reasons": count_reasons(workload.jobs, sent),
            "client": _client_view(workload.jobs, sent, rows, models, payloads),
            **({} if told is None else {"live_accuracy": told}),
        },
    )
    return Replayed(run, Counter(one.trouble for one in sent if one.trouble))


def _client_view(
    jobs: Sequence[Job],
    sent: Sequence[Sent],
    rows: Sequence[JobResult],
    models: Sequence[Model],
    payloads: Mapping[str, Payloads],
) -> dict[str, Any]:
    lags_ms = [(one.sent_ns - job.arrival_ns) / NS_PER_MS for job, one in zip(jobs, sent, strict=True)]
    answered = [each for each in zip(jobs, sent, rows, strict=True) if each[1].reply and each[1].reply.outputs]
    requests = sum(job.requests for job, _, _ in answered)
    late = sum(job.requests for job, one, _ in answered if (one.received_ns or 0) > job.deadline_ns)
    promised = sum((row.accuracy or 0.0) * job.requests for job, _, row in answered)
    return {
        "send_lag_ms": {
            "p50": float(np.percentile(lags_ms, 50)),
            "p99": float(np.percentile(lags_ms, 99)),
            "max": max(lags_ms),
        },
        "answered_requests": requests,
        "late_share": late / requests if requests else None,
        "accuracy": _accuracy([(job, one) for job, one, _ in answered], models, payloads),
        "promised_accuracy": promised / requests if requests else None,
    }


def _accuracy(
    answered: Sequence[tuple[Job, Sent]], models: Sequence[Model], payloads: Mapping[str, Payloads]
) -> float | None:
    """Return the metric against the labels; of several models its mean over requests. None if there are none.

    Of models whose weights mean nothing there is no accuracy.
    """
    found, requests = 0.0, 0
    for model in (model for model in models if model.trained):
        labelled = [one for job, one in answered if job.model == model.name and one.payload.labelled]
        scores = [_scores(model, one, payloads[model.name]) for one in labelled]
        if scores:
            count = sum(map(len, scores))
            found, requests = found + count * metric_of(np.concatenate(scores)), requests + count
    return found / requests if requests else None


def _scores(model: Model, one: Sent, payloads: Payloads) -> NDArray[np.float64]:
    assert one.reply is not None
    return model.score(one.reply.outputs, payloads.labels[one.payload.indices])
