import asyncio
import json
from typing import Any

import numpy as np
import pytest

from mosel.core.clock import NS_PER_MS
from mosel.core.errors import ExecutionError, RefusedError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import BatchRun, Job, Receipt
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import Inputs, InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.answers import Answer, Live, Snapshot, Tell
from mosel.online.decisions import Decisions
from mosel.online.serving import ServedModel
from mosel.online.tensors import Declared, JobTensors
from tests.frontend.asgi_client import WAVE, Client, get, infer


def ending(model: Model, profile: Profile, **receipt: Any) -> Service:
    """Return a service whose every job ends as `receipt` says."""

    def answer(job: Job, inputs: Inputs) -> Answer:
        found = Receipt(job, detail="why", decided_ns=job.arrival_ns, **receipt)
        outputs = zeros(model)(job, inputs).outputs if found.finish_ns is not None else None
        return Answer(found, outputs)

    return Service(InstantEngine(answer, lambda: 0), [ServedModel("m", model, profile)])


async def test_health_and_metadata(service: Service) -> None:
    """Liveness, readiness, server and model metadata are told as the protocol says."""
    assert (await get(service, "/v2/health/live")).told == {"live": True}
    assert (await get(service, "/v2/health/ready")).told == {"ready": True}
    assert (await get(service, "/v2/models/m/ready")).told == {"name": "m", "ready": True}
    assert "binary_tensor_data" in (await get(service, "/v2")).told["extensions"]
    told = (await get(service, "/v2/models/m/versions/7")).told
    assert told == (await get(service, "/v2/models/m")).told
    assert told["name"] == "m"
    assert told["versions"] == ["7"]
    assert [(t["name"], t["datatype"], t["shape"]) for t in told["inputs"]] == [
        ("tokens", "INT64", [-1, -1]),
        ("mask", "BOOL", [-1, -1]),
        ("wave", "FP32", [-1, 2, -1]),
    ]
    assert [t["parameters"]["modality"] for t in told["inputs"]] == ["text", "text", "sound"]
    assert told["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}
    assert told["parameters"]["modes"] == "text:0.6;sound:0.8;text+sound:0.9"


async def test_not_ready(model: Model, profile: Profile) -> None:
    """While the engine is not ready the server lives, is not ready, and refuses jobs for now."""
    engine = InstantEngine(zeros(model))
    engine.ready = False
    service = Service(engine, [ServedModel("m", model, profile)])
    assert (await get(service, "/v2/health/live")).status == 200
    for path in ("/v2/health/ready", "/v2/models/m/ready"):
        assert (await get(service, path)).status == 503
    reply = await infer(service, {"inputs": [WAVE]})
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert "loading or draining" in reply.told["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console", 404),
        ("POST", "/", 405),
        ("GET", "/v2/models/m/explain", 404),
        ("GET", "/v2/models/m/versions/8/stats", 404),
        ("GET", "/v2/models/other/config", 404),
        ("POST", "/v2/repository/models/other/load", 404),
        ("POST", "/v2/repository/models/other/unload", 404),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/m/versions/8", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/m/versions/8/infer", 404),
        ("POST", "/v2/models/infer", 405),
        ("POST", "/v1/models/m/infer", 404),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/models/m/infer", 405),
        ("PUT", "/v2/models/m/infer", 405),
    ],
)
async def test_wrong_paths(service: Service, method: str, path: str, status: int) -> None:
    """An unknown path, model or version is 404 and a wrong method 405 with what is allowed, both as JSON."""
    reply = await get(service, path, method)
    assert reply.status == status
    assert len(reply.told["error"]) > 10
    assert reply.headers["content-type"] == "application/json"
    assert ("allow" in reply.headers) == (status == 405)


async def test_infer(service: Service) -> None:
    """A job that is served is 200 with its outputs, the client's id and the receipt."""
    told = (await infer(service, {"id": "mine", "inputs": [WAVE]}, "/v2/models/m/versions/7/infer")).told
    assert told["model_name"] == "m"
    assert told["model_version"] == "7"
    assert told["id"] == "mine"
    assert told["parameters"]["outcome"] == "served"
    assert told["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 0.0]},
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]},
    ]


async def test_infer_raw(service: Service) -> None:
    """Raw tensors both ways, in a body that comes in pieces; only the outputs asked for come back."""
    raw = np.ones((2, 2, 1), "float32").tobytes()
    entry = {
        "name": "wave",
        "shape": [2, 2, 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    outputs = [{"name": "label", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [entry], "outputs": outputs}).encode()
    body = head + raw
    reply = await Client(HttpApp(service)).ask(
        "POST",
        "/v2/models/m/infer",
        (body[:7], body[7:], b""),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers["inference-header-content-length"])
    assert [output["name"] for output in json.loads(reply.body[:length])["outputs"]] == ["label"]
    assert reply.body[length:] == np.zeros(2, "int64").tobytes()


async def test_job_ids_differ(model: Model, profile: Profile) -> None:
    """Two jobs of clients that chose the same id are two jobs to the engine."""
    seen: list[str] = []

    def answer(job: Job, inputs: Inputs) -> Answer:
        seen.append(job.id)
        return zeros(model)(job, inputs)

    service = Service(InstantEngine(answer), [ServedModel("m", model, profile)])
    for _ in range(2):
        assert (await infer(service, {"id": "same", "inputs": [WAVE]})).told["id"] == "same"
    assert len(set(seen)) == 2


async def test_receipt(model: Model, profile: Profile) -> None:
    """The receipt comes as flat values, its batches as JSON text; a late answer is 200 and says late."""
    run = BatchRun(4, 1, "sound", 2, 10 * NS_PER_MS, 13 * NS_PER_MS, requests=1)
    service = ending(
        model,
        profile,
        outcome=State.LATE,
        reason=Reason.AFTER_DEADLINE,
        finish_ns=13 * NS_PER_MS,
        accuracy=0.8,
        modes=(("text", 1), ("sound", 2)),
        batches=(run,),
    )
    reply = await infer(service, {"inputs": [WAVE], "parameters": {"latency_slo_ms": 10}})
    assert reply.status == 200
    found = reply.told["parameters"]
    assert json.loads(found.pop("batches")) == [
        {"id": 4, "worker": 1, "mode": "sound", "size": 2, "requests": 1, "start": 0.01, "finish": 0.013}
    ]
    assert found == {
        "outcome": "late",
        "reason": "after_deadline",
        "decision": "most_accurate_sent",
        "modes": "text:1;sound:2",
        "arrival_s": 0.0,
        "decided_ms": 0.0,
        "expected_accuracy": 0.8,
        "queue_ms": 10.0,
        "compute_ms": 3.0,
        "slack_ms": -3.0,
    }


@pytest.mark.parametrize(
    ("outcome", "reason", "status", "retry"),
    [
        (State.REJECTED, Reason.ACCURACY_UNREACHABLE, 400, None),
        (State.REJECTED, Reason.LATENCY_UNREACHABLE, 503, "3"),
        (State.DROPPED, Reason.NO_TIME_LEFT, 503, "3"),
        (State.DROPPED, Reason.SHUTDOWN, 503, "3"),
        (State.FAILED, Reason.WORKER_LOST, 500, None),
        (State.FAILED, Reason.MODEL_FAILED, 500, None),
        (State.FAILED, Reason.BAD_INPUT, 400, None),
    ],
)
async def test_outcomes(
    model: Model, profile: Profile, outcome: State, reason: Reason, status: int, retry: str | None
) -> None:
    """Every outcome without outputs has its status, says why, and whether trying again may help."""
    service = ending(model, profile, outcome=outcome, reason=reason)
    reply = await infer(service, {"inputs": [WAVE], "parameters": {"latency_slo_ms": 2500}})
    assert reply.status == status
    assert reply.headers.get("retry-after") == retry
    assert reply.told["error"] == f"{outcome} ({reason}): why"
    assert reply.told["parameters"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("headers", "chunks", "status", "said"),
    [
        ({"Content-Length": "4001"}, (b"",), 413, "limit of 4,000 bytes"),
        ({}, (b"x" * 3000, b"x" * 1001), 413, "limit of 4,000 bytes"),
        ({}, (b" " * 4000,), 400, "JSON"),
        ({"Inference-Header-Content-Length": "-1"}, (b"{}",), 400, "expected a number of bytes"),
        ({"Inference-Header-Content-Length": "9" * 30}, (b"{}",), 400, "expected a number of bytes"),
        ({"Content-Encoding": "gzip"}, (b"{}",), 400, "'gzip' is not supported"),
        ({"Content-Encoding": "identity"}, (b"{}",), 400, "missing required field `inputs`"),
    ],
)
async def test_bad_headers_and_sizes(
    service: Service, headers: dict[str, str], chunks: tuple[bytes, ...], status: int, said: str
) -> None:
    """A body over the limit is refused by its header, or while it is read; odd headers are refused."""
    reply = await Client(HttpApp(service)).ask("POST", "/v2/models/m/infer", chunks, headers)
    assert reply.status == status
    assert said in reply.told["error"]


async def test_too_large_is_not_read(service: Service) -> None:
    """A body that says it is over the limit is not read at all."""
    client = Client(HttpApp(service))
    reply = await client.ask("POST", "/v2/models/m/infer", (b"x",), {"Content-Length": "5000"})
    assert reply.status == 413
    assert client.received.qsize() == 1


class SlowEngine(InstantEngine):
    """An engine that never answers, and says whether a job was cancelled."""

    def __init__(self, model: Model) -> None:
        super().__init__(zeros(model))
        self._model = model
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()

    def hand_in(self, job: Job, inputs: Inputs, tell: Tell) -> Live | None:
        """Take it, and no more."""
        self.waiting.set()
        return Live(job, JobTensors(job, Declared(self._model), inputs), tell)

    def withdraw(self, live: Live) -> None:
        """Take down that it was cancelled."""
        assert live.job.model == "m"
        self.cancelled.set()


async def test_client_goes_away(model: Model, profile: Profile) -> None:
    """When the client closes the connection its job is cancelled and nothing is sent."""
    engine = SlowEngine(model)
    client = Client(HttpApp(Service(engine, [ServedModel("m", model, profile)])))
    body = json.dumps({"inputs": [WAVE]}).encode()
    client.received.put_nowait({"type": "http.request", "body": body, "more_body": False})
    handling = asyncio.create_task(client.start("POST", "/v2/models/m/infer", {}))
    await engine.waiting.wait()
    client.received.put_nowait({"type": "http.disconnect"})
    await handling
    assert engine.cancelled.is_set()
    assert client.sent == []


async def test_client_goes_away_before_its_body_is_in(service: Service) -> None:
    """A request that breaks off in its body becomes no job."""
    client = Client(HttpApp(service))
    client.received.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
    client.received.put_nowait({"type": "http.disconnect"})
    await client.start("POST", "/v2/models/m/infer", {})
    assert client.sent == []


async def test_engine_failure(model: Model, profile: Profile) -> None:
    """An engine that fails is 500 with its message."""

    def fail(_job: Job, _inputs: Inputs) -> Answer:
        raise ExecutionError("worker 0 is gone")

    service = Service(InstantEngine(fail), [ServedModel("m", model, profile)])
    reply = await infer(service, {"inputs": [WAVE]})
    assert reply.status == 500
    assert reply.told == {"error": "worker 0 is gone"}


class MoodyEngine(InstantEngine):
    """An engine that takes no job, or fails on the jobs that it took, as long as it is told to."""

    def __init__(self, model: Model) -> None:
        super().__init__(zeros(model))
        self.refuses = self.fails = False

    def hand_in(self, job: Job, inputs: Inputs, tell: Tell) -> Live | None:
        """Take it, unless it is to be refused."""
        if self.refuses:
            raise RefusedError("too much to do")
        if self.fails:
            tell(ExecutionError("the last worker\nis gone"))
            return None
        return super().hand_in(job, inputs, tell)

    async def submit(self, job: Job, inputs: Inputs) -> Answer:
        """As `hand_in`, for an upload."""
        if self.refuses:
            raise RefusedError("too much to do")
        return await super().submit(job, inputs)


async def test_what_the_engine_does_not_take_never_arrived(model: Model, profile: Profile) -> None:
    """It is a call that was refused, once, and no job; an offer's place is still there for another try."""
    engine = MoodyEngine(model)
    service = Service(engine, [ServedModel("m", model, profile)])
    offer = (b'{"requests": 1, "modalities": ["sound"]}',)
    offered = await Client(HttpApp(service)).ask("POST", "/v2/models/m/offer", offer)
    upload = {"inputs": [WAVE], "parameters": {"offer": offered.told["offer"]}}
    engine.refuses = True
    for body in ({"inputs": [WAVE]}, upload):
        assert (await infer(service, body)).status == 503
    engine.refuses = False
    assert (await infer(service, upload)).status == 200
    assert (await infer(service, upload)).status == 410
    lines = (await get(service, "/metrics")).body.decode().splitlines()
    assert 'mosel_arrived_requests_total{model="m"} 1.0' in lines, "the offer"
    assert 'mosel_refused_calls_total{error="RefusedError"} 2.0' in lines
    assert 'mosel_jobs_total{model="m",outcome="served"} 1.0' in lines
    state = (await get(service, "/dashboard/state")).told
    assert (state["arrived"], state["ended"]["served"]) == (1, 1)


async def test_a_job_on_which_the_engine_fails_has_its_outcome(model: Model, profile: Profile) -> None:
    """It arrived, so it is answered and counted as failed, once, with its receipt."""
    engine = MoodyEngine(model)
    engine.fails = True
    service = Service(engine, [ServedModel("m", model, profile)])
    reply = await infer(service, {"inputs": [WAVE]})
    assert reply.status == 500
    assert reply.told["error"] == "failed (server_failed): the last worker is gone"
    assert reply.told["parameters"]["reason"] == "server_failed"
    lines = (await get(service, "/metrics")).body.decode().splitlines()
    assert 'mosel_jobs_total{model="m",outcome="failed"} 1.0' in lines
    assert not [line for line in lines if line.startswith("mosel_refused_calls_total{")]
    state = (await get(service, "/dashboard/state")).told
    assert state["arrived"] == state["ended"]["failed"] == 1


async def test_bug_in_the_server(model: Model, profile: Profile, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen exception is 500 without its inside, which goes to the log."""

    def fail(_job: Job, _inputs: Inputs) -> Answer:
        raise ZeroDivisionError("inside")

    service = Service(InstantEngine(fail), [ServedModel("m", model, profile)])
    reply = await infer(service, {"inputs": [WAVE]})
    assert reply.status == 500
    assert "inside" not in reply.told["error"]
    assert "inside" in caplog.text


async def test_metrics(model: Model, profile: Profile) -> None:
    """Jobs and requests are counted by outcome, calls that did not fit, and the engine's own counters told."""
    engine = InstantEngine(zeros(model))
    engine.counters = Snapshot(3, 5, 0, 0, ("ready",), Decisions(7, 20.0, 10.0, 200.0, 300.0))
    service = Service(engine, [ServedModel("m", model, profile)])
    await infer(service, {"inputs": [{**WAVE, "shape": [2, 1, 2]}]})
    wave = {"name": "wave", "shape": [2, 2, 1], "datatype": "FP32", "data": [0, 0, 0, 0]}
    await infer(service, {"inputs": [wave]})
    reply = await get(service, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    lines = reply.body.decode().splitlines()
    assert 'mosel_jobs_total{model="m",outcome="served"} 1.0' in lines
    assert 'mosel_requests_total{model="m",outcome="served"} 2.0' in lines
    assert 'mosel_jobs_total{model="m",outcome="dropped"} 0.0' in lines
    assert 'mosel_refused_calls_total{error="InputError"} 1.0' in lines
    assert 'mosel_slack_seconds_count{model="m"} 1.0' in lines
    assert "mosel_queued_jobs 3.0" in lines
    assert "mosel_batches_total 5.0" in lines
    assert 'mosel_worker_state{state="ready",worker="0"} 1.0' in lines
    assert 'mosel_worker_state{state="lost",worker="0"} 0.0' in lines
    assert 'mosel_decision_seconds{quantile="0.99"} 0.0002' in lines
