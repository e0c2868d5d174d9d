"""Shadow runs of answers in cascades, and what their agreement says of the calibration."""

import asyncio
import logging

import pytest
from msgspec import structs

from mosel.core.types import Batch, Part
from mosel.frontend.agreement import LiveAgreement
from mosel.frontend.cascade_shadows import CascadeAgreement, Followed, least
from mosel.frontend.reliability import Judged, expected
from mosel.frontend.shadows import Shadows
from mosel.models.base import Model
from mosel.online import virtual
from mosel.online.serving import ServedModel
from tests.frontend.test_shadows import INPUTS, JOB, OUTPUTS, Engine, receipt_of
from tests.online.cascaded import FULL, MIDDLE, cascaded

PROFILE = cascaded()
WIDEST = PROFILE.cascades[2]
SURE, UNSURE = Judged(MIDDLE, 0.9, escalated=False), Judged(MIDDLE, 0.2, escalated=False)


def judged(request: int = 0, confidence: float = 0.9) -> tuple[Batch, dict[tuple[str, int], float]]:
    """A batch of a first stage, and how sure the model was of a request of job `j`."""
    batch = Batch(0, 0, "m", MIDDLE, 0, (Part("j", (request,)),), 0, judged=True)
    return batch, {("j", request): confidence}


def test_it_is_followed_what_went_on() -> None:
    """What is in a later batch went on; what is known of a job is handed out once."""
    followed = Followed()
    followed.judged(*judged(0))
    followed.judged(*judged(1, 0.2))
    followed.ran(Batch(1, 0, "m", FULL, 0, (Part("j", (1,)),), 0), 5)
    assert followed.take("j") == {0: SURE, 1: Judged(MIDDLE, 0.2, escalated=True)}
    assert followed.take("j") == {}


def test_both_are_right_at_least_so_often() -> None:
    """As often as one is by the calibration, less what the most accurate mode misses of such requests."""
    assert expected(WIDEST, UNSURE) == pytest.approx(0.3 + 0.2 / 3)
    assert least(WIDEST, 0.99, UNSURE) == pytest.approx(0.3 + 0.2 / 3 + 0.8 + 0.1 / 3 - 1)
    assert least(WIDEST, 0.99, UNSURE._replace(escalated=True)) == pytest.approx(2 * (0.8 + 0.1 / 3) - 1)
    assert least(WIDEST, 0.9, SURE) == pytest.approx(expected(WIDEST, SURE) + (0.9 - 0.3 * 0.85) / 0.7 - 1)


def test_a_calibration_that_agreement_rules_out_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Sure answers that disagree one time in four cannot be as right as promised; those that agree may be."""
    found = CascadeAgreement([PROFILE])
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            found.note("m", SURE, 1.0)
        assert found.of_model("m")[0]["holds"] is True
        for at in range(400):
            found.note("m", SURE, float(at % 4 > 0))
    [record] = [record for record in caplog.records if "calibration no longer holds" in record.message]
    assert "agree with the most accurate mode in" in record.message
    [entry] = found.of_model("m")
    assert (entry["mode"], entry["shadows"], entry["holds"]) == (MIDDLE, 500, False)
    assert found.of_model("other") == []


def test_an_answer_in_a_cascade_is_compared(model: Model) -> None:
    """One that stayed, while the server is idle; one that went on to all modalities agrees with itself."""
    engine, found = Engine(mode=(FULL, 1)), CascadeAgreement([PROFILE])
    receipt = structs.replace(receipt_of(structs.replace(JOB, requests=1), MIDDLE), cascaded=1)
    inputs, outputs = ({name: array[:1] for name, array in each.items()} for each in (INPUTS, OUTPUTS))

    async def main() -> None:
        served = [ServedModel("m", model, structs.replace(PROFILE, model=model.name))]
        shadows = Shadows(served, 1.0, *engine.given, LiveAgreement([PROFILE]), found)
        for confidence in (0.9, 0.2):
            shadows.followed.judged(*judged(0, confidence))
            if confidence < 0.5:
                shadows.followed.ran(Batch(1, 0, "m", FULL, 0, (Part("j", (0,)),), 0), 5)
                shadows.saw(structs.replace(receipt, modes=((FULL, 1),)), inputs, outputs)
            else:
                shadows.saw(receipt, inputs, outputs)
            await asyncio.sleep(5)

    virtual.run(main())
    assert len(engine.jobs) == 1
    assert found.count("m", MIDDLE) == 1
