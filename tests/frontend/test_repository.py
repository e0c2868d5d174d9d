import asyncio
import json

import pytest

from mosel.core.errors import InputError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import Inputs, InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.answers import Live, Tell
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, Client, infer


class Held(InstantEngine):
    """An engine that answers once it is let go."""

    def __init__(self, model: Model) -> None:
        super().__init__(zeros(model))
        self.holds, self._held = asyncio.Event(), list[tuple[Job, Inputs, Tell]]()

    def hand_in(self, job: Job, inputs: Inputs, tell: Tell) -> Live | None:
        """Keep it."""
        self.holds.set()
        self._held.append((job, inputs, tell))
        return None

    def let_go(self) -> None:
        """Answer what is kept."""
        for held in self._held:
            super().hand_in(*held)


async def test_unload_waits(model: Model, profile: Profile) -> None:
    """Unloading refuses new jobs at once and returns when those that were accepted are answered."""
    engine = Held(model)
    service = Service(engine, [ServedModel("m", model, profile)])
    running = asyncio.create_task(infer(service, {"inputs": [WAVE]}))
    await engine.holds.wait()
    unloading = asyncio.create_task(service.repository.unload("m"))
    await asyncio.sleep(0)
    assert service.repository.index() == [
        {"name": "m", "version": "7", "state": "UNAVAILABLE", "reason": "unloading: 1 calls"}
    ]
    assert (await infer(service, {"inputs": [WAVE]})).status == 503
    assert not unloading.done()
    engine.let_go()
    assert (await running).status == 200
    await unloading
    assert service.repository.index()[0]["reason"] == "unloaded"
    assert service.repository.index(ready_only=True) == []


async def test_load_while_unloading(model: Model, profile: Profile) -> None:
    """A model that is loaded while it unloads takes jobs, and nobody waits for ever."""
    engine = Held(model)
    service = Service(engine, [ServedModel("m", model, profile)])
    with service.repository.using("m"):
        unloading = asyncio.create_task(service.repository.unload("m"))
        await asyncio.sleep(0)
        service.repository.load("m", {})
        await unloading
    assert service.model_ready("m")


def test_load_takes_no_parameters(service: Service) -> None:
    """A model is loaded as it was started: another configuration is refused, not ignored."""
    with pytest.raises(InputError, match="parameters config are given; expected none"):
        service.repository.load("m", {"config": "{}"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "is a JSON list; expected an object"),
        (b"{", "not valid JSON"),
        (b'{"ready": 1}', "ready is 1; expected true or false"),
        (b" " * 70_000, "expected a small JSON object"),
    ],
)
async def test_bad_bodies(service: Service, body: bytes, said: str) -> None:
    """What is no small JSON object is refused."""
    reply = await Client(HttpApp(service)).ask("POST", "/v2/repository/index", (body,))
    assert reply.status in (400, 413)
    assert said in json.loads(reply.body)["error"]


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_no_page_loads_or_unloads(model: Model, profile: Profile, action: str) -> None:
    """What a browser sends for a page, wherever that is from, changes nothing."""
    service = Service(InstantEngine(zeros(model)), [ServedModel("m", model, profile)])
    client = Client(HttpApp(service))
    path = f"/v2/repository/models/m/{action}"
    reply = await client.ask("POST", path, headers={"origin": "https://elsewhere.example"})
    assert reply.status == 400
    assert "https://elsewhere.example" in reply.told["error"]
    assert service.repository.index()[0]["state"] == "READY"
