"""Both clients upload in two steps by themselves; the server is in this process, on a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvicorn

from mosel.client import AsyncClient, Client
from mosel.client_wire import Inputs
from mosel.core.tables import Device, Mode, Profile
from mosel.frontend.http import HttpApp
from mosel.models.base import Modality, Model, Tensor
from tests.frontend.staged import SURE, UNSURE, Staged, waves

pytestmark = pytest.mark.process


def staged() -> Staged:
    """A service with a cascade from sound to text and sound."""
    text = Modality("text", (Tensor("tokens", "INT64", (-1,), limits=(5,)),))
    sound = Modality("sound", (Tensor("wave", "FP32", (2, -1), limits=(8,)),))
    outputs = Tensor("scores", "FP32", (3,)), Tensor("label", "INT64", ())
    model = Model("m", (text, sound), outputs, lambda *_: lambda **_: {}, framework="numpy")
    accuracies = {("text",): 0.6, ("sound",): 0.8, ("text", "sound"): 0.9}
    modes = tuple(Mode(names, a, a, 100, [0.01, 0.02], [0.01, 0.02], [1, 2]) for names, a in accuracies.items())
    host, at = Device("a host", "host"), "2026-11-22T00:00:00Z"
    profile = Profile(
        "mosel.profile/1", "m", ("text", "sound"), "accuracy", (1, 2), modes, host, "float32", {}, at
    )
    return Staged(model, profile)


@asynccontextmanager
async def served(on: Staged) -> AsyncIterator[str]:
    """The service on a socket of its own, until the block ends."""
    config = uvicorn.Config(HttpApp(on.service), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


def texts() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Texts of three requests."""
    return np.array([[1], [2], [3]], np.int64)


def dear() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Fail: this tensor is not to be made."""
    raise AssertionError("every answer is sure: it was not wanted")


async def test_both_clients_send_more_when_they_are_asked_to() -> None:
    """The dear input is made only if a request was unsure, and then the rows of these alone are sent."""
    on = staged()

    def ask(url: str) -> None:
        with Client(url, "m") as client:
            sure = client.infer({"wave": waves(SURE), "tokens": dear}, lazy=True, requests=1, accuracy_slo=0.85)
            assert sure.outputs["label"].tolist() == [1]
            inputs: Inputs = {"wave": waves(UNSURE, SURE, UNSURE), "tokens": texts}
            mixed = client.infer(inputs, lazy=True, requests=3, accuracy_slo=0.85)
            assert mixed.outputs["label"].tolist() == [2, 1, 2]
            assert mixed.receipt["modes"] == "sound:1;text+sound:2"

    async with served(on) as url:
        await asyncio.to_thread(ask, url)
        assert [job.requests for job in on.jobs] == [1, 3, 2]
        async with AsyncClient(url, "m") as client:
            inputs: Inputs = {"wave": waves(UNSURE), "tokens": texts()[:1]}
            answer = await client.infer(inputs, lazy=True, accuracy_slo=0.85)
            assert answer.outputs["label"].tolist() == [2]
