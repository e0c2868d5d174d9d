import asyncio
import json
from typing import Any

import pytest

from mosel.core.states import State
from mosel.core.tables import Profile
from mosel.frontend.http import HttpApp
from mosel.models.base import Model
from tests.frontend.asgi_client import Client, Reply, get, infer
from tests.frontend.staged import SURE, UNSURE, Staged

ANY_MODE, MORE = 0.5, 0.85
"""Accuracy SLOs: one that the first stage reaches, and one for which the cascade is needed."""


@pytest.fixture
def staged(model: Model, profile: Profile) -> Staged:
    """A service with a cascade from sound to text and sound."""
    return Staged(model, profile)


async def offer(staged: Staged, requests: int = 1, steps: int = 2, **parameters: float) -> dict[str, Any]:
    """Offer a job with all modalities; returns what is wanted."""
    told = {"requests": requests, "steps": steps, "parameters": parameters}
    reply = await Client(HttpApp(staged.service)).ask(
        "POST", "/v2/models/m/offer", (json.dumps(told).encode(),)
    )
    assert reply.status == 200, reply.told
    found: dict[str, Any] = reply.told
    return found


async def upload(staged: Staged, offered: dict[str, Any], *inputs: dict[str, Any]) -> Reply:
    """Bring tensors for an offer."""
    return await infer(staged.service, {"inputs": list(inputs), "parameters": {"offer": offered["offer"]}})


def wave(*confidences: float) -> dict[str, Any]:
    """Sounds of which the model will be so sure."""
    data = [value for one in confidences for value in (one, 0)]
    return {"name": "wave", "shape": [len(confidences), 2, 1], "datatype": "FP32", "data": data}


def text(requests: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of so many texts."""
    return (
        {"name": "tokens", "shape": [requests, 1], "datatype": "INT64", "data": [7] * requests},
        {"name": "mask", "shape": [requests, 1], "datatype": "BOOL", "data": [True] * requests},
    )


def labels(reply: Reply) -> list[int]:
    """Which stage answered each request."""
    (found,) = [one["data"] for one in reply.told["outputs"] if one["name"] == "label"]
    return list(found)


async def test_who_is_sure_is_asked_for_nothing_more(staged: Staged) -> None:
    """The first stage's modality is wanted alone, and its answer counts what the cascade promises."""
    offered = await offer(staged, requests=2, accuracy_slo=MORE)
    assert (offered["modalities"], offered["inputs"]) == (["sound"], ["wave"])
    reply = await upload(staged, offered, wave(SURE, SURE))
    parameters = reply.told["parameters"]
    assert (reply.status, labels(reply), parameters["modes"]) == (200, [1, 1], "sound:2")
    assert parameters["expected_accuracy"] == pytest.approx(0.88)
    assert [job.accuracy_slo for job in staged.jobs] == [0.8]
    assert (await get(staged.service, "/dashboard/state")).told["ended"]["served"] == 2


async def test_more_is_asked_for_of_unsure_requests_alone(staged: Staged) -> None:
    """The second upload brings what the last stage needs besides; one job is answered, in two modes."""
    offered = await offer(staged, requests=3, accuracy_slo=MORE)
    further = (await upload(staged, offered, wave(SURE, UNSURE, UNSURE))).told
    assert (further["offer"], further["requests"]) == (offered["offer"], [1, 2])
    assert (further["modalities"], further["inputs"]) == (["text"], ["tokens", "mask"])
    assert 0 < further["hold_ms"] < 500
    reply = await upload(staged, further, *text(2))
    parameters = reply.told["parameters"]
    assert (reply.status, labels(reply), parameters["modes"]) == (200, [1, 2, 2], "sound:1;text+sound:2")
    assert parameters["expected_accuracy"] == pytest.approx(0.88)
    assert [one["mode"] for one in json.loads(parameters["batches"])] == ["sound", "text+sound"]
    first, last = staged.jobs
    assert (last.requests, last.accuracy_slo, last.deadline_ns) == (2, 0.9, first.deadline_ns)
    assert (await upload(staged, further, *text(2))).status == 410
    told = (await get(staged.service, "/dashboard/state")).told
    assert (told["arrived"], told["ended"]["served"]) == (3, 3)


async def test_without_two_steps_all_that_may_be_needed_is_wanted_at_once(staged: Staged) -> None:
    """A client that knows of one step is never asked again; one that sends all at once runs whole."""
    offered = await offer(staged, steps=1)
    assert offered["modalities"] == ["text", "sound"]
    assert labels(await upload(staged, offered, wave(UNSURE), *text(1))) == [2]
    offered = await offer(staged)
    assert labels(await upload(staged, offered, wave(UNSURE), *text(1))) == [2]


@pytest.mark.parametrize(("slo", "status"), [(ANY_MODE, 200), (MORE, 503)])
async def test_a_last_stage_that_is_given_up(staged: Staged, slo: float, status: int) -> None:
    """The first stage's answer goes out if the accuracy SLO holds with it; else the job is dropped."""
    staged.last = State.DROPPED
    further = (await upload(staged, await offer(staged, accuracy_slo=slo), wave(UNSURE))).told
    reply = await upload(staged, further, *text(1))
    assert reply.status == status
    parameters = reply.told["parameters"]
    assert parameters["outcome"] == ("served" if status == 200 else "dropped")
    if status == 200:
        assert (labels(reply), parameters["modes"]) == ([1], "sound:1")
        assert parameters["expected_accuracy"] == pytest.approx(0.8)


async def test_a_last_stage_that_fails(staged: Staged) -> None:
    """Where the answer that is there would not do, the job has failed as its last stage did."""
    staged.last = State.FAILED
    further = (await upload(staged, await offer(staged, accuracy_slo=MORE), wave(UNSURE))).told
    reply = await upload(staged, further, *text(1))
    assert (reply.status, reply.told["parameters"]["reason"]) == (500, "model_failed")


async def test_a_second_upload_that_does_not_come(staged: Staged) -> None:
    """The job is dropped once its last stage could no longer end in time, and counted once, whole."""
    further = (await upload(staged, await offer(staged, 2, latency_slo_ms=400), wave(SURE, UNSURE))).told
    await asyncio.sleep(further["hold_ms"] / 1000 + 0.05)
    assert (await upload(staged, further, *text(1))).status == 410
    told = (await get(staged.service, "/dashboard/state")).told
    assert (told["ended"]["dropped"], told["decisions"][0]["reason"]) == (2, "not_uploaded")


async def test_a_second_upload_that_does_not_fit_leaves_the_place(staged: Staged) -> None:
    """Rows of another number, and what was sent already, are refused; the right ones may still come."""
    further = (await upload(staged, await offer(staged, 2), wave(SURE, UNSURE))).told
    assert (await upload(staged, further, *text(2))).status == 400
    assert (await upload(staged, further, wave(UNSURE), *text(1))).status == 400
    assert (await upload(staged, further, *text(1))).status == 200


async def test_where_no_time_is_left_for_the_last_stage(staged: Staged) -> None:
    """Both stages have to fit when the offer is made; else it is asked for whole, or for what fits."""
    offered = await offer(staged, requests=4, latency_slo_ms=70)
    assert "text" in offered["modalities"]
