import pytest

from mosel.core.tables import Device, Mode, Profile
from mosel.frontend.checks import Limits
from mosel.frontend.instant import InstantEngine, zeros
from mosel.frontend.service import Service
from mosel.models.base import Modality, Model, Tensor
from mosel.online.serving import ServedModel

ACCURACIES = {("text",): 0.6, ("sound",): 0.8, ("text", "sound"): 0.9}


@pytest.fixture(scope="session")
def model() -> Model:
    """Text of up to 5 tokens with a mask, and sound of variable length with 2 channels."""
    return Model(
        name="m",
        modalities=(
            Modality(
                "text",
                (Tensor("tokens", "INT64", (-1,), limits=(5,)), Tensor("mask", "BOOL", (-1,), limits=(5,))),
            ),
            Modality("sound", (Tensor("wave", "FP32", (2, -1), limits=(8,)),)),
        ),
        outputs=(Tensor("scores", "FP32", (3,)), Tensor("label", "INT64", ())),
        load=lambda _device, _precision: lambda **_: {},
        framework="numpy",
        latency_slo_s=0.5,
        version="7",
    )


@pytest.fixture(scope="session")
def profile() -> Profile:
    """A profile of `model`: text 0.6, sound 0.8, both 0.9."""
    modes = tuple(
        Mode(names, accuracy, accuracy, 100, [0.01, 0.02], [0.01, 0.02], [1, 2])
        for names, accuracy in ACCURACIES.items()
    )
    return Profile(
        format="mosel.profile/1",
        model="m",
        modalities=("text", "sound"),
        metric="accuracy",
        batch_sizes=(1, 2),
        modes=modes,
        device=Device("a host", "host"),
        precision="float32",
        software={},
        measured_at="2026-11-22T00:00:00Z",
    )


@pytest.fixture
def service(model: Model, profile: Profile) -> Service:
    """A service that serves every job at once with zeros; bodies up to 4,000 bytes."""
    engine = InstantEngine(zeros(model))
    return Service(engine, [ServedModel("m", model, profile)], Limits(body_bytes=4000, job_requests=4))
