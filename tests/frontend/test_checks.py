import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.clock import to_ns
from mosel.core.errors import InputError
from mosel.core.tables import Profile
from mosel.frontend.calls import Call, Input
from mosel.frontend.checks import Checked, Checker, Limits
from mosel.models.base import DATATYPES, Modality, Model, Tensor

Arrays = Mapping[str, NDArray[Any]]
ARRIVAL_NS = 5_000


@pytest.fixture
def checker(model: Model, profile: Profile) -> Checker:
    """Return a checker of `model` that takes up to 4 requests a job."""
    return Checker(model, profile, Limits(job_requests=4))


def arrays(requests: int = 2) -> dict[str, NDArray[Any]]:
    """Return good inputs."""
    return {
        "tokens": np.zeros((requests, 3), "int64"),
        "mask": np.ones((requests, 3), "bool"),
        "wave": np.zeros((requests, 2, 8), "float32"),
    }


def call(given: Arrays, outputs: tuple[str, ...] = (), **parameters: object) -> Call:
    """Return a call with these inputs."""
    types = {numpy_name: name for name, numpy_name in DATATYPES.items() if name != "BF16"}
    inputs = tuple(Input(name, types[str(array.dtype)], array) for name, array in given.items())
    return Call(inputs, "", parameters, outputs)


def check(checker: Checker, given: Arrays, **parameters: object) -> Checked:
    """Check a call that arrives at ARRIVAL_NS."""
    return checker.check(call(given, (), **parameters), ARRIVAL_NS, "j1")


def test_a_call_becomes_a_job(checker: Checker) -> None:
    """A call with every modality and its SLOs becomes a job with these, its deadline counted from arrival."""
    found = check(checker, arrays(), accuracy_slo=0.7, latency_slo_ms=20)
    assert found.job.id == "j1"
    assert found.job.model == "m"
    assert found.job.requests == 2
    assert found.job.accuracy_slo == 0.7
    assert found.job.deadline_ns - ARRIVAL_NS == to_ns(0.02)
    assert found.job.modalities == ()
    assert (found.job.weight, found.job.tenant, found.job.length) == (1.0, "", None)
    assert set(found.inputs) == {"tokens", "mask", "wave"}


def test_defaults(checker: Checker) -> None:
    """SLOs that are absent are the model's: here the least accurate mode's accuracy, and 0.5 s."""
    found = check(checker, arrays())
    assert found.job.accuracy_slo == 0.6
    assert found.job.deadline_ns - ARRIVAL_NS == to_ns(0.5)


def test_what_a_job_is_worth(model: Model, profile: Profile) -> None:
    """Weight, tenant and length reach the job; a tenant's weight multiplies its jobs'."""
    checker = Checker(model, profile, Limits(), {"gold": 4.0})
    job = check(checker, arrays(), weight=2.5, tenant="gold", length="7").job
    assert (job.weight, job.tenant, job.length) == (10.0, "gold", 7.0)


def test_modalities_left_out(checker: Checker) -> None:
    """A job has the modalities whose tensors it brings."""
    given = arrays()
    assert check(checker, {"wave": given["wave"]}).job.modalities == ("sound",)
    del given["wave"]
    assert check(checker, given).job.modalities == ("text",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extra": np.zeros((2, 3), "float32")}, "no input 'extra'; expected some of tokens, mask, wave"),
        ({"wave": np.zeros((2, 2, 8), "float64")}, "'wave': datatype is FP64; expected FP32"),
        ({"wave": np.zeros((2, 3, 8), "float32")}, r"shape is \[2, 3, 8\]; expected \[requests, 2, 1 to 8\]"),
        ({"wave": np.zeros((2, 2, 9), "float32")}, r"shape is \[2, 2, 9\]; expected \[requests, 2, 1 to 8\]"),
        ({"wave": np.zeros((2, 2, 0), "float32")}, r"shape is \[2, 2, 0\]; expected"),
        ({"wave": np.zeros((2, 8), "float32")}, r"shape is \[2, 8\]; expected"),
        ({"wave": np.zeros((3, 2, 8), "float32")}, "first dimensions differ .*tokens 2.*wave 3"),
        ({"mask": None}, "modality 'text' lacks its input mask; send all of tokens, mask, or none"),
        ({"mask": None, "tokens": None, "wave": None}, "no inputs; expected .* of text, sound"),
    ],
)
def test_bad_tensors(checker: Checker, change: dict[str, NDArray[Any] | None], said: str) -> None:
    """A tensor that does not fit the model is refused with what was given and expected."""
    given = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    with pytest.raises(InputError, match=said):
        check(checker, given)


@pytest.mark.parametrize("requests", [0, 5])
def test_job_size(checker: Checker, requests: int) -> None:
    """A job has from 1 request to the server's limit."""
    with pytest.raises(InputError, match=f"first dimension is {requests}; expected 1 to 4 requests"):
        check(checker, arrays(requests))


def test_input_given_twice(checker: Checker) -> None:
    """An input that is given twice is refused."""
    wave = Input("wave", "FP32", arrays()["wave"])
    with pytest.raises(InputError, match="'wave' is given twice"):
        checker.check(Call((wave, wave)), 0, "j1")


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (("logits",), "no output 'logits'; ask for some of scores, label"),
        (("label", "label"), "asked for twice"),
    ],
)
def test_bad_outputs(checker: Checker, outputs: tuple[str, ...], said: str) -> None:
    """An output that the model does not have, or that is asked for twice, is refused."""
    with pytest.raises(InputError, match=said):
        checker.check(call(arrays(), outputs), 0, "j1")


def test_no_mode_for_these_modalities(model: Model, profile: Profile) -> None:
    """Modalities that no mode can run on are refused with the least that can."""
    modes = tuple(mode for mode in profile.modes if "sound" in mode.modalities)
    checker = Checker(model, msgspec.structs.replace(profile, modes=modes), Limits())
    given = {name: array for name, array in arrays().items() if name != "wave"}
    with pytest.raises(InputError, match=r"cannot run on text; send at least: sound$"):
        check(checker, given)


def test_a_jobs_length_is_told_by_its_tensors(model: Model, profile: Profile) -> None:
    """Where a model has length buckets, what arrived counts and not what the client says."""
    told = Tensor("wave", "FP32", (-1,), limits=(80,), per_length=10)
    modalities = (Modality(profile.modalities[0], (told,)),)
    sized = dataclasses.replace(model, modalities=modalities, allowed=lambda _: True, length_buckets=(2, 8))
    only = msgspec.structs.replace(
        profile,
        modalities=profile.modalities[:1],
        modes=tuple(m for m in profile.modes if m.modalities == profile.modalities[:1]),
    )
    waves = {"wave": np.zeros((2, 35), "float32")}
    assert check(Checker(sized, only, Limits()), waves, length=1).job.length == 3.5
