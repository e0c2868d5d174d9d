import json

from mosel.core.tables import Profile
from mosel.frontend.checks import Limits
from mosel.frontend.http import HttpApp
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.models.base import Model
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import WAVE, Client, infer


async def test_messages_are_cut(service: Service) -> None:
    """An error does not send back all that a client sent."""
    reply = await infer(service, {"inputs": [WAVE], "outputs": [{"name": "x" * 3500}]})
    assert reply.status == 400
    assert len(reply.told["error"]) <= 2000


async def test_bodies_are_released(model: Model, profile: Profile) -> None:
    """Every answered call, a refused one too, gives back the room that its body took."""
    body = json.dumps({"inputs": [WAVE]}).encode()
    limits = Limits(held_bytes=len(body))
    service = Service(InstantEngine(zeros(model)), [ServedModel("m", model, profile)], limits)
    app = HttpApp(service)
    for _ in range(3):
        assert (await Client(app).ask("POST", "/v2/models/m/infer", (body,))).status == 200
        assert (await Client(app).ask("POST", "/v2/models/m/infer", (body[1:],))).status == 400
    reply = await Client(app).ask("POST", "/v2/models/m/infer", (body + b" ",))
    assert reply.status == 503
    assert "overloaded" in reply.told["error"]
