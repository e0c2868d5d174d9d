from typing import Any

from mosel.core.tables import Profile
from mosel.frontend.feedback import LOOK_EVERY, LiveAccuracy
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.frontend.standing import drifted, standing
from mosel.models.base import Model
from mosel.online.decisions import Decisions
from mosel.online.engine import Snapshot
from mosel.online.serving import ServedModel
from tests.frontend.asgi_client import get

RATIOS = {("m", "text"): 1.19, ("m", "sound"): 1.3, ("m", "text+sound"): 0.8, ("other", "text"): 9.0}


def test_a_profile_holds_within_the_tolerance(profile: Profile) -> None:
    """Of latency a fifth either way; accuracies as feedback has them; what nobody saw is not judged."""
    live = LiveAccuracy([profile])
    for score in [1.0, 0.0] * LOOK_EVERY:
        live.note("m", "text+sound", score)
    found = standing("m", live.of_model("m"), RATIOS)
    assert [one["latency_holds"] for one in found] == [True, False, False]
    assert [one["holds"] for one in found] == [None, None, False]
    assert drifted(found) == "sound:latency;text+sound:accuracy;text+sound:latency"
    assert drifted(standing("m", live.of_model("m"), {})[:2]) == ""


async def test_metadata_and_the_dashboard_tell(model: Model, profile: Profile) -> None:
    """Both say in which modes the profile does not hold."""
    engine = InstantEngine(zeros(model))
    engine.counters = Snapshot(0, 0, 0, 0, (), Decisions(), latency_ratios=RATIOS)
    service = Service(engine, [ServedModel("m", model, profile)])
    told: Any = (await get(service, "/v2/models/m")).told
    assert told["parameters"]["drifted"] == "sound:latency;text+sound:latency"
    modes = (await get(service, "/dashboard/state")).told["profiles"]["m"]
    assert [(one["mode"], one["latency_ratio"]) for one in modes] == [
        ("text", 1.19),
        ("sound", 1.3),
        ("text+sound", 0.8),
    ]
