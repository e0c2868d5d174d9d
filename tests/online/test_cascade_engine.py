"""Cascades through the live engine, with a worker that is a thread."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mosel.core.states import State
from mosel.core.types import Job
from mosel.models.base import Modality, Model, Tensor
from mosel.online.channel import Channel, Report
from mosel.online.engine import Engine
from mosel.online.execution import judge
from mosel.online.policies import POLICIES, Policy
from mosel.online.policies.base import cheapest
from mosel.online.serving import EngineConfig, ServedModel, start_message
from mosel.online.thread_channel import ThreadChannel
from tests.online.cascaded import FULL, MIDDLE, cascaded, escalate

NAMES = ("text", "audio", "video")


def count_modalities(**given: Any) -> Any:
    """One row a request: how many modalities it came in, and the text, which tells how sure the answer is."""
    return np.stack([np.full(len(given["text"]), len(given)), given["text"][:, 0]], axis=1).astype(np.float32)


MODEL = Model(
    name="m",
    modalities=tuple(Modality(name, (Tensor(name, "FP32", (1,)),)) for name in NAMES),
    outputs=(Tensor("scores", "FP32", (2,)),),
    load=lambda _device, _precision: count_modalities,
    confidence=lambda outputs: outputs["scores"][:, 1],
    framework="numpy",
)


SEEN = Model(
    name="m",
    modalities=tuple(
        Modality(name, (Tensor(name, "FP32", (1,)),), features=(Tensor(f"{name}_seen", "FP32", (1,)),))
        for name in NAMES
    ),
    outputs=MODEL.outputs,
    load=lambda _device, _precision: count_what_is_seen,
    confidence=MODEL.confidence,
    framework="numpy",
)
ENCODED: list[set[str]] = []


def count_what_is_seen(**given: Any) -> Any:
    """As `count_modalities`, from features too; what is encoded for it is noted."""
    seen = {name.removesuffix("_seen"): values for name, values in given.items()}
    ENCODED.append({name for name in given if not name.endswith("_seen")})
    return {"scores": count_modalities(**seen), **{f"{name}_seen": values for name, values in seen.items()}}


@pytest.mark.parametrize("model", [MODEL, SEEN], ids=["whole", "resumed"])
async def test_unsure_requests_are_answered_by_the_last_stage(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four requests two are unsure: theirs are the outputs of all modalities, the others' of two.

    Where features are kept these take no second look at what they saw, and nothing stays kept.
    """
    module = ModuleType("cascade_under_test")
    module.model = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cascade_under_test", module)
    monkeypatch.setitem(POLICIES, "escalate", Policy(escalate, first=cheapest, least=cheapest))
    served = ServedModel("cascade_under_test:model", model, cascaded(resumed=0.5 if model is SEEN else None))
    config = EngineConfig(policy="escalate")

    def channel(worker: int, report: Report) -> Channel:
        return ThreadChannel(report, start_message(worker, [served], config))

    engine = Engine([served], config, channels=channel)
    await engine.start()
    ENCODED.clear()
    try:
        now_ns = engine.now_ns()
        text = np.array([[0.9], [0.1], [0.95], [0.2]], np.float32)
        inputs = {"text": text, "audio": text, "video": text}
        answer = await engine.submit(Job("a", "m", 4, 0.95, now_ns, now_ns + 60_000_000_000), inputs)
    finally:
        await engine.stop()
    assert ([{"text", "audio"}, {"video"}] if model is SEEN else []) == ENCODED
    assert answer.receipt.outcome is State.SERVED
    assert dict(answer.receipt.modes) == {MIDDLE: 2, FULL: 2}
    assert answer.receipt.cascaded == 4
    assert answer.receipt.accuracy == pytest.approx(0.985)
    assert answer.outputs is not None
    assert answer.outputs["scores"][:, 0].tolist() == [2, 3, 2, 3]


@pytest.mark.parametrize(
    "confidence", [None, lambda outputs: outputs["missing"], lambda outputs: outputs["scores"]]
)
def test_a_confidence_that_is_of_no_use_is_none(confidence: Any) -> None:
    """One that is not there, raises or has another shape: every request then counts as unsure."""
    model = Model(
        name="m",
        modalities=MODEL.modalities,
        outputs=MODEL.outputs,
        load=MODEL.load,
        score=lambda _outputs, labels: np.ones(len(labels)),
        confidence=confidence,
    )
    assert judge(model, {"scores": np.ones((3, 2), np.float32)}) == ()
