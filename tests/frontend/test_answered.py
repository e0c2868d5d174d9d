import json
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mosel.core.cascades import Cascade
from mosel.core.errors import GoneError, InputError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.frontend.answered import ID_LIMIT, Answered, counted
from mosel.frontend.feedback_body import FEEDBACK_LIMIT_BYTES, FeedbackBody, decode_feedback
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import Inputs, InstantEngine, zeros
from mosel.frontend.keys import Keys
from mosel.frontend.reliability import Judged
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.engine import Answer
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, Client, Reply, get, infer

GOLD, TIN = "gold-key-0123456789", "tin-key-0123456789ab"


def batch(mode: str, job: str, *requests: int, judged: bool = False) -> Batch:
    """Return a batch that holds some requests of one job."""
    return Batch(1, 0, "m", mode, 0, (Part(job, requests), Part("another", (0,))), 1, judged)


def answer(job: Job) -> Answer:
    """Return an answer with outputs."""
    return Answer(Receipt(job, State.SERVED, Reason.ON_TIME, "", 1, 1, 0.5), {"label": np.zeros(job.requests)})


def held(answered: Answered, given: str, *batches: Batch, requests: int = 1, tenant: str = "") -> None:
    """Let a job run in some batches."""
    job = Job("j", "m", requests, 0.5, 0, 1, tenant=tenant)

    answered.begin(given, job)
    for one in batches:
        answered.ran(one, 5)
    answered.end(given, job, has_outputs=True)


def body(given: str, *scores: float, tenant: str = "") -> FeedbackBody:
    """Return a feedback."""
    return FeedbackBody(given, list(scores), tenant)


async def test_each_request_has_the_mode_that_it_ran_in_last() -> None:
    """Jobs run in several modes; a request that ran again counts for its last one."""
    answered = Answered()
    held(answered, "a", batch("text", "j", 2, 0), batch("sound", "j", 1), batch("sound", "j", 0), requests=3)
    assert answered.take("m", body("a", 1, 0, 1)) == ("sound", "sound", "text")


async def test_requests_in_a_cascade_count_for_no_mode() -> None:
    """Neither those that its first stage answered, nor those that went on."""
    answered = Answered()
    runs = (batch("text", "j", 0, 1, judged=True), batch("text+sound", "j", 1), batch("text", "j", 2))
    held(answered, "a", *runs, requests=3)
    assert answered.take("m", body("a", 1, 1, 1)) == ("", "", "text")


async def test_of_a_request_in_a_cascade_its_confidence_is_held() -> None:
    """It says whether the request went on; one of which no confidence was told counts for nothing."""
    answered = Answered()
    first, last = batch("text", "j", 0, 1, 2, judged=True), batch("text+sound", "j", 1, 2)
    job = Job("j", "m", 3, 0.5, 0, 1)

    async def run() -> Answer:
        answered.judged(first, {("j", 0): 0.9, ("j", 1): 0.2, ("another", 0): 0.1})
        answered.ran(first, 5)
        answered.ran(last, 5)
        return answer(job)

    await answered.follow("a", job, run())
    modes = answered.take("m", body("a", 1, 1, 1))
    assert modes == (Judged("text", 0.9, escalated=False), Judged("text", 0.2, escalated=True), "")
    assert counted(modes) == {}


async def test_feedback_that_is_refused() -> None:
    """Unknown jobs, another tenant's, a second feedback, another number of scores and ids used twice."""
    answered = Answered()
    held(answered, "a", batch("text", "j", 0, 1), requests=2, tenant="gold")
    for wrong in (body("b", 1, 1, tenant="gold"), body("a", 1, 1), body("a", 1, 1, tenant="tin")):
        with pytest.raises(GoneError, match="no answered job"):
            answered.take("m", wrong)
    with pytest.raises(GoneError, match="of model 'other'"):
        answered.take("other", body("a", 1, 1, tenant="gold"))
    with pytest.raises(InputError, match="there are 1 scores for job 'a'; expected one for each of its 2"):
        answered.take("m", body("a", 1, tenant="gold"))
    assert answered.take("m", body("a", 1, 1, tenant="gold")) == ("text", "text")
    with pytest.raises(GoneError, match="has its feedback already"):
        answered.take("m", body("a", 1, 1, tenant="gold"))
    for _ in range(2):
        held(answered, "same", batch("text", "j", 0))
    with pytest.raises(InputError, match="several jobs were sent with the id 'same'"):
        answered.take("m", body("same", 1))


async def test_what_is_held_is_bounded() -> None:
    """The oldest jobs make room, with or without feedback, and ids that are too long are not held."""
    answered = Answered(kept=4)
    for given in ("a", "b"):
        held(answered, given, batch("text", "j", 0, 1), requests=2)
    answered.take("m", body("a", 1, 1))
    held(answered, "c", batch("text", "j", 0, 1), requests=2)
    for gone in ("a", "x" * (ID_LIMIT + 1)):
        held(answered, "x" * (ID_LIMIT + 1), batch("text", "j", 0))
        with pytest.raises(GoneError, match="no answered job"):
            answered.take("m", body(gone, 1, 1))
    assert answered.take("m", body("b", 1, 1)) == answered.take("m", body("c", 1, 1)) == ("text", "text")


async def test_jobs_without_an_answer_leave_nothing() -> None:
    """A job that was dropped, or that failed, cannot be given feedback on, and its batches are forgotten."""
    answered = Answered()
    job = Job("j", "m", 1, 0.5, 0, 1)

    answered.begin("a", job)
    answered.ran(batch("text", "j", 0), 5)
    answered.end("a", job, has_outputs=False)
    answered.ran(batch("text", "j", 0), 5)  # a report that comes after the job ended
    with pytest.raises(GoneError):
        answered.take("m", body("a", 1))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "truncated"),
        (b'{"id": "a"}', "missing required field `scores`"),
        (b'{"id": "a", "scores": [1.5]}', "<= 1.0"),
        (b'{"id": "a", "scores": [-1]}', ">= 0.0"),
        (b'{"id": "a", "scores": ["yes"]}', "got `str`"),
        (b'{"id": "a", "scores": [], "labels": []}', "unknown field `labels`"),
        (b"[" * 100_000, "feedback"),
        (b" " * (FEEDBACK_LIMIT_BYTES + 1), "expected at most 1,048,576"),
        (b'{"id": "a", "scores": [1], "tenant": "tin"}', "the API key is of 'gold'"),
    ],
)
def test_bodies_that_are_no_feedback(raw: bytes, said: str) -> None:
    """What cannot be read is told with what was expected."""
    with pytest.raises(InputError, match=said):
        decode_feedback(raw, "gold")


def serving(model: Model, profile: Profile) -> Service:
    """Return a service whose every job runs in the mode `sound`."""

    def run(job: Job, inputs: Inputs) -> Answer:
        engine.ran(batch("sound", job.id, *range(job.requests)), 5)
        return zeros(model)(job, inputs)

    engine = InstantEngine(run)
    return Service(engine, [ServedModel("m", model, profile)])


async def give(app: HttpApp, told: dict[str, Any], key: str = "") -> Reply:
    """Post a feedback."""
    headers = {"X-API-Key": key} if key else {}
    return await Client(app).ask("POST", "/v2/models/m/feedback", (json.dumps(told).encode(),), headers)


async def test_feedback_becomes_live_accuracy(model: Model, profile: Profile) -> None:
    """Scores of a job, true and false or numbers, are told by mode with their interval, here and in metrics."""
    service = serving(model, profile)
    app = HttpApp(service)
    wave = {"name": "wave", "shape": [3, 2, 1], "datatype": "FP32", "data": [0] * 6}
    await infer(service, {"id": "mine", "inputs": [wave]})
    reply = await give(app, {"id": "mine", "scores": [True, False, 0.5]})
    assert (reply.status, reply.told) == (
        200,
        {"model_name": "m", "id": "mine", "counted": {"sound": 3}, "left_out": 0},
    )
    assert (await give(app, {"id": "mine", "scores": [1, 1, 1]})).status == 410
    told = (await get(service, "/v2/models/m/accuracy")).told
    assert (told["model_name"], told["metric"]) == ("m", "accuracy")
    sound = told["modes"][1]
    assert (sound["mode"], sound["profiled"], sound["live"], sound["scores"]) == ("sound", 0.8, 0.5, 3)
    lines = (await get(service, "/metrics")).body.decode().splitlines()
    assert 'mosel_live_accuracy{mode="sound",model="m"} 0.5' in lines
    assert f'mosel_live_accuracy_low{{mode="sound",model="m"}} {sound["low"]}' in lines
    assert f'mosel_live_accuracy_high{{mode="sound",model="m"}} {sound["high"]}' in lines
    assert 'mosel_live_accuracy_scores{mode="sound",model="m"} 3.0' in lines


async def test_feedback_in_cascades_becomes_reliability(model: Model, profile: Profile) -> None:
    """Scores of answers in a cascade stand by confidence beside what is expected, for page and metrics too."""
    took = profile.modes[1].latency_s, profile.modes[2].latency_s
    knots = ((0.1, 0.4, 0.7), (0.5, 0.6, 0.8))
    found = Cascade("s", ("sound", "text+sound"), 0.5, 0.2, 0.88, 0.86, 100, took, knots)

    def run(job: Job, inputs: Inputs) -> Answer:
        first = batch("sound", job.id, 0, 1, judged=True)
        engine.judged(first, {(job.id, 0): 0.9, (job.id, 1): 0.1})
        engine.ran(first, 5)
        engine.ran(batch("text+sound", job.id, 1), 5)
        return zeros(model)(job, inputs)

    engine = InstantEngine(run)
    service = Service(engine, [ServedModel("m", model, replace(profile, cascades=(found,)))])
    wave = {"name": "wave", "shape": [2, 2, 1], "datatype": "FP32", "data": [0] * 4}
    await infer(service, {"id": "mine", "inputs": [wave]})
    assert (await get(service, "/dashboard/state")).told["reliability"] == {}
    told = (await give(HttpApp(service), {"id": "mine", "scores": [True, False]})).told
    assert (told["counted"], told["left_out"]) == ({}, 2)
    stayed, went_on = (await get(service, "/v2/models/m/accuracy")).told["cascades"]
    assert (stayed["from"], stayed["to"], stayed["escalated"], stayed["live"]) == (0.5, None, False, 1.0)
    assert (went_on["from"], went_on["to"], went_on["escalated"], went_on["live"]) == (None, 0.3, True, 0.0)
    assert (went_on["expected"], went_on["holds"]) == (pytest.approx(0.7), None)
    assert (await get(service, "/dashboard/state")).told["reliability"] == {"m": [stayed, went_on]}
    lines = (await get(service, "/metrics")).body.decode().splitlines()
    labels = 'escalated="yes",from="",mode="sound",model="m",to="0.3"'
    assert f"mosel_cascade_expected{{{labels}}} {went_on['expected']}" in lines
    assert f"mosel_cascade_live{{{labels}}} 0.0" in lines
    assert f"mosel_cascade_scores{{{labels}}} 1.0" in lines


async def test_statuses(model: Model, profile: Profile) -> None:
    """Wrong counts and bodies are 400, unknown jobs 410, unknown models 404, too much 413, a GET 405."""
    service = serving(model, profile)
    app = HttpApp(service)
    await infer(service, {"id": "mine", "inputs": [WAVE]})
    await infer(service, {"inputs": [WAVE]})
    for told, status in (
        ({"id": "mine", "scores": [1, 1]}, 400),
        ({"id": "mine", "scores": "all"}, 400),
        ({"id": "other", "scores": [1]}, 410),
        ({"id": "", "scores": [1]}, 410),
    ):
        assert (await give(app, told)).status == status
    assert (await get(service, "/v2/models/m/feedback")).status == 405
    assert (await get(service, "/v2/models/other/feedback", "POST")).status == 404
    assert (await get(service, "/v2/models/other/accuracy")).status == 404
    too_much = {"Content-Length": str(1 << 40)}
    assert (await Client(app).ask("POST", "/v2/models/m/feedback", (b"",), too_much)).status == 413
    assert (await give(app, {"id": "mine", "scores": [1]})).status == 200


async def test_feedback_is_of_the_tenant_of_its_key(model: Model, profile: Profile) -> None:
    """Without a key it is refused; with another tenant's the job is not to be found."""
    app = HttpApp(serving(model, profile), Keys({"gold": [GOLD], "tin": [TIN]}))
    call = json.dumps({"id": "mine", "inputs": [WAVE]}).encode()
    assert (await Client(app).ask("POST", "/v2/models/m/infer", (call,), {"X-API-Key": GOLD})).status == 200
    told = {"id": "mine", "scores": [1]}
    assert [(await give(app, told, key)).status for key in ("", TIN, GOLD)] == [401, 410, 200]
    assert (await Client(app).ask("GET", "/v2/models/m/accuracy")).status == 401
