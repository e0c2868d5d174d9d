"""Features that a worker process keeps between the stages of a cascade."""

from typing import Any

import numpy as np
import pytest

from mosel.core.clock import to_ns
from mosel.core.states import State
from mosel.core.types import Job
from mosel.models.base import Modality, Model, Tensor
from mosel.online.engine import Engine
from mosel.online.policies import POLICIES, Policy
from mosel.online.policies.base import cheapest
from mosel.online.serving import EngineConfig, ServedModel
from tests.online.cascaded import FULL, MIDDLE, cascaded, escalate

pytestmark = pytest.mark.process

NAMES = ("text", "audio", "video")


def tell_what_is_encoded(**given: Any) -> Any:
    """One row a request: how many modalities it has, how many are encoded for it now, and how sure that is."""
    seen = {f"{name.removesuffix('_seen')}_seen": values for name, values in given.items()}
    new = sum(not name.endswith("_seen") for name in given)
    text = seen["text_seen"][:, 0]
    scores = np.stack([np.full(len(text), len(given)), np.full(len(text), new), text], axis=1)
    return {"scores": scores.astype(np.float32), **seen}


MODEL = Model(
    name="m",
    modalities=tuple(
        Modality(name, (Tensor(name, "FP32", (1,)),), features=(Tensor(f"{name}_seen", "FP32", (1,)),))
        for name in NAMES
    ),
    outputs=(Tensor("scores", "FP32", (3,)),),
    load=lambda _device, _precision: tell_what_is_encoded,
    confidence=lambda outputs: outputs["scores"][:, 2],
    framework="numpy",
)


async def test_a_worker_process_encodes_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two unsure requests of four come with video alone, and in all three modalities."""
    monkeypatch.setitem(POLICIES, "escalate", Policy(escalate, first=cheapest, least=cheapest))
    served = ServedModel("tests.process.test_kept:MODEL", MODEL, cascaded(resumed=0.5))
    engine = Engine([served], EngineConfig(policy="escalate"))
    await engine.start()
    try:
        now_ns = engine.now_ns()
        text = np.array([[0.9], [0.1], [0.95], [0.2]], np.float32)
        inputs = dict.fromkeys(NAMES, text)
        answer = await engine.submit(Job("a", "m", 4, 0.95, now_ns, now_ns + to_ns(60)), inputs)
    finally:
        await engine.stop()
    assert answer.receipt.outcome is State.SERVED
    assert dict(answer.receipt.modes) == {MIDDLE: 2, FULL: 2}
    assert [run.resumed for run in answer.receipt.batches] == [(), ((MIDDLE, 2),)]
    assert answer.outputs is not None
    assert answer.outputs["scores"][:, :2].tolist() == [[2, 2], [3, 1], [2, 2], [3, 1]]
