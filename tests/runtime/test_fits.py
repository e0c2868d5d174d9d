from typing import Any

import pytest
from msgspec import structs

from mosel import Modality, Model, Tensor
from mosel.core.errors import UsageError
from mosel.core.tables import PROFILE_FORMAT, Device, Mode, Profile
from mosel.runtime.fits import check_profile_fits

HERE = Device("CPU A", "cpu")
TENSOR = Tensor("t", "FP32", (1,))
MODEL = Model(
    "m",
    (Modality("a", (TENSOR,)), Modality("b", (Tensor("u", "FP32", (1,)),))),
    (TENSOR,),
    load=lambda *_: lambda t: t,
    allowed=lambda names: "a" in names,
    version="3",
)
MODE = Mode(("a",), 0.5, 0.4, 10, [0.1], [0.1], [1])
PROFILE = Profile(
    PROFILE_FORMAT, "m", ("a", "b"), "accuracy", (1,), (MODE,), HERE, "float32", {}, "now",
    extra={"version": "3", "threads": 1},
)  # fmt: skip


def test_a_profile_of_this_model_on_this_device_fits() -> None:
    """Nothing is raised."""
    check_profile_fits(PROFILE, MODEL, HERE)


def test_a_profile_that_does_not_say_version_or_threads_is_taken_at_its_word() -> None:
    """A profile written by hand need not carry `extra`."""
    check_profile_fits(structs.replace(PROFILE, extra=None), MODEL, HERE, threads=2)


def test_threads_do_not_matter_on_a_gpu() -> None:
    """There the host's threads are no part of what was measured."""
    gpu = Device("GPU", "cuda")
    check_profile_fits(structs.replace(PROFILE, device=gpu), MODEL, gpu, threads=4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "n"}, "of model 'n', not of 'm'"),
        ({"modalities": ("a", "c")}, "has modalities a, c; the model has a, b"),
        ({"extra": {"version": "2"}}, "of version 2 of 'm'; the model is version 3"),
        ({"device": Device("CPU B", "cpu")}, "measured on CPU B (cpu); this device is CPU A (cpu)"),
        ({"device": Device("CPU A", "host")}, "measured on CPU A (host); this device is CPU A (cpu)"),
        ({"extra": {"threads": 2}}, "with 2 CPU threads a worker; this one has 1"),
        (
            {"modes": (structs.replace(MODE, modalities=("b",)),)},
            "has mode b@float32, which model 'm' does not",
        ),
        ({"precision": "int8"}, "has mode a@int8"),
    ],
)
def test_a_profile_that_does_not_fit_says_what_differs_and_what_to_do(
    change: dict[str, Any], words: str
) -> None:
    """Both sides of the difference are named."""
    with pytest.raises(UsageError) as caught:
        check_profile_fits(structs.replace(PROFILE, **change), MODEL, HERE)
    assert words in str(caught.value)
    assert "mosel profile" in str(caught.value)
