import asyncio
import json
from typing import Any

import msgspec
import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import GoneError, InputError, RefusedError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.offers import MOST_HELD, Offers, uploaded
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, Client, Reply, get, infer


def job(latency_s: float = 0.5, slo: float = 0.5, requests: int = 1, modalities: tuple[str, ...] = ()) -> Job:
    """Return a job that arrives at 0."""
    return Job("j", "m", requests, slo, 0, to_ns(latency_s), modalities)


@pytest.fixture
def offers(profile: Profile) -> Offers:
    """Text takes 10 ms a request, sound 20 and both 40; batches take as long as their requests one by one."""
    latencies = ([0.01, 0.02], [0.02, 0.04], [0.04, 0.08])
    modes = tuple(
        msgspec.structs.replace(mode, latency_s=latency_s)
        for mode, latency_s in zip(profile.modes, latencies, strict=True)
    )
    return Offers([msgspec.structs.replace(profile, modes=modes)])


@pytest.mark.parametrize(
    ("offered", "ahead_s", "wanted"),
    [
        (job(), 0.0, ("text", "sound")),
        (job(), 0.155, ("sound",)),
        (job(), 0.162, ("text",)),
        (job(), 9.0, ("text",)),
        (job(slo=0.7), 9.0, ("sound",)),
        (job(requests=20), 0.0, ("sound",)),
        (job(modalities=("text",)), 0.0, ("text",)),
    ],
)
def test_what_is_wanted(offers: Offers, offered: Job, ahead_s: float, wanted: tuple[str, ...]) -> None:
    """The most accurate mode that fits beside the work ahead; else the fastest that meets the accuracy SLO."""
    assert offers.hold(offered, ahead_s, 0).wanted == wanted


def test_work_that_is_held_is_ahead(offers: Offers) -> None:
    """Offers after others are answered as if these were queued, until they are let go."""
    first = offers.hold(job(), 0.155, 0)
    assert first.wanted == ("sound",)
    assert offers.hold(job(), 0.155, 0).wanted == ("text",)
    offers.let_go(first.id)
    assert offers.work_s == pytest.approx(0.01)
    assert offers.let_go(first.id) is None


def test_how_long_a_place_is_held(offers: Offers) -> None:
    """Until the job could no longer be on time in what was wanted, and never for long."""
    held = offers.hold(job(), 0.0, 0)
    assert held.until_ns == to_ns(0.46)
    assert offers.find(held.id, "m", held.until_ns) is held
    with pytest.raises(GoneError, match="is not held, or no more; make a new one"):
        offers.find(held.id, "m", held.until_ns + 1)
    for name, model in ((held.id, "other"), ("j-1", "m"), (7, "m")):
        with pytest.raises(GoneError):
            offers.find(name, model, 0)
    assert offers.hold(job(latency_s=3600), 0.0, 0).until_ns == to_ns(10)


def test_offers_that_cannot_be_held(offers: Offers) -> None:
    """An SLO out of reach, a deadline that even the fastest mode misses, and an offer too many are refused."""
    with pytest.raises(InputError, match=r"cannot be reached with text: the best is 0.6"):
        offers.hold(job(slo=0.7, modalities=("text",)), 0.0, 0)
    with pytest.raises(RefusedError, match=r"take at least 20.0 ms, and 15.0 ms are left"):
        offers.hold(job(latency_s=0.015, slo=0.7), 0.0, 0)
    for _ in range(MOST_HELD):
        offers.hold(job(), 0.0, 0)
    with pytest.raises(RefusedError, match="holds 10,000 offers"):
        offers.hold(job(), 0.0, 0)


def test_an_upload_keeps_arrival_and_deadline(offers: Offers) -> None:
    """The scheduler is told of the job as it was offered, with the modalities that came."""
    held = offers.hold(job(), 9.0, 0)
    brought = Job("j", "m", 1, 0.9, 77, 99, ("text",))
    assert uploaded(held, brought) == job(modalities=("text",))
    with pytest.raises(InputError, match=r"hold 2 requests; .* was of 1"):
        uploaded(held, Job("j", "m", 2, 0.9, 77, 99))
    with pytest.raises(InputError, match="modality 'text' is missing"):
        uploaded(held, Job("j", "m", 1, 0.9, 77, 99, ("sound",)))


async def offer(service: Service, body: object) -> Reply:
    """Post an offer."""
    return await Client(HttpApp(service)).ask("POST", "/v2/models/m/offer", (json.dumps(body).encode(),))


async def test_both_steps(service: Service) -> None:
    """An offer says which tensors to send; these go to infer under its id, once; one job is counted."""
    told = (await offer(service, {"requests": 1, "modalities": ["sound"]})).told
    assert (told["modalities"], told["inputs"]) == (["sound"], ["wave"])
    assert 0 < told["hold_ms"] <= 490
    body: dict[str, Any] = {"inputs": [WAVE], "parameters": {"offer": told["offer"]}}
    assert (await infer(service, body)).told["parameters"]["outcome"] == "served"
    again = await infer(service, body)
    assert again.status == 410
    assert "is not held" in again.told["error"]
    state = (await get(service, "/dashboard/state")).told
    assert state["arrived"] == state["ended"]["served"] == 1


async def test_an_offer_that_is_not_taken_up_is_dropped(service: Service) -> None:
    """When its place is no longer held it has its one outcome, and the queue is empty."""
    parameters = {"latency_slo_ms": 400}
    told = (await offer(service, {"requests": 2, "parameters": parameters})).told
    await asyncio.sleep(told["hold_ms"] / 1000 + 0.05)
    (decision,) = (await get(service, "/dashboard/state")).told["decisions"]
    assert (decision["outcome"], decision["reason"]) == ("dropped", "not_uploaded")
    body = {"inputs": [{**WAVE}], "parameters": {"offer": told["offer"]}}
    assert (await infer(service, body)).status == 410
    assert b'mosel_requests_total{model="m",outcome="dropped"} 2.0' in (await get(service, "/metrics")).body


async def test_offers_that_are_open_when_the_server_stops_are_dropped(model: Model, profile: Profile) -> None:
    """While it drains uploads are refused; each offer then has one outcome, and only one."""
    engine = InstantEngine(zeros(model))
    service = Service(engine, [ServedModel("m", model, profile)])
    for slo_ms in (200, 300, 400):
        body = {"requests": 1, "modalities": ["sound"], "parameters": {"latency_slo_ms": slo_ms}}
        told = (await offer(service, body)).told
    body = {"inputs": [WAVE], "parameters": {"offer": told["offer"]}}
    assert (await infer(service, body)).status == 200
    engine.ready = False
    assert (await infer(service, body)).status == 503
    await asyncio.sleep(0.21)
    service.close()
    await asyncio.sleep(0.2)
    decisions = (await get(service, "/dashboard/state")).told["decisions"]
    assert [one["reason"] for one in decisions] == ["shutdown", "shutdown", "on_time"]


async def test_an_upload_that_does_not_fit_leaves_the_place(service: Service) -> None:
    """Wrong tensors and parameters beside the offer are refused; the right ones may still come."""
    told = (await offer(service, {"requests": 1, "modalities": ["sound"]})).told
    wrong = {"inputs": [WAVE], "parameters": {"offer": told["offer"], "accuracy_slo": 0.1}}
    assert (await infer(service, wrong)).status == 400
    two = {"name": "wave", "shape": [2, 2, 1], "datatype": "FP32", "data": [1, 1, 1, 1]}
    assert (await infer(service, {"inputs": [two], "parameters": {"offer": told["offer"]}})).status == 400
    assert (await infer(service, {"inputs": [WAVE], "parameters": {"offer": told["offer"]}})).status == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"requests": 0}, 400, "requests is 0; expected 1 to 4"),
        ({"requests": 1, "modalities": ["smell"]}, 400, "no modality 'smell'; expected some of text, sound"),
        ({"requests": 1, "parameters": {"slo": 1}}, 400, "parameter 'slo' is unknown"),
        ({"requests": 1, "modalities": ["text"], "parameters": {"accuracy_slo": 0.7}}, 400, "the best is 0.6"),
        ({"requests": 1, "parameters": {"latency_slo_ms": 1}}, 503, "take at least"),
        ({"requests": 1, "tensors": []}, 400, "the offer: Object contains unknown field `tensors`"),
        ([], 400, "the offer: Expected `object`"),
    ],
)
async def test_bad_offers(service: Service, body: object, status: int, said: str) -> None:
    """What does not fit, or cannot be served, is told as it is for a job with tensors."""
    reply = await offer(service, body)
    assert reply.status == status
    assert said in reply.told["error"]
    assert (await get(service, "/dashboard/state")).told["arrived"] == 0
