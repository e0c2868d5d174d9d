from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.selfmm import SHAPES, noise, selfmm
from mosel.runtime.runner import CorruptInputError, prepare

SMALL = SHAPES["small"]


def spoilt(value: float) -> NDArray[np.float32]:
    """Return the sound of two requests, the second with one such value."""
    features = np.ones((2, 5, 74), np.float32)
    features[1, 3, 7] = value
    return features


BAD: dict[str, tuple[str, Callable[[], NDArray[Any]], str]] = {
    "NaN": ("audio", lambda: spoilt(np.nan), "request 1 holds features that are no finite numbers"),
    "infinite": ("audio", lambda: spoilt(-np.inf), "request 1 holds features that are no finite numbers"),
    "zeros": ("video", lambda: np.zeros((1, 4, 35), np.float32), "request 0 holds nothing but zeros"),
    "no text": ("text", lambda: np.zeros((1, 3), np.uint8), "request 0 holds no text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_made_sense_of_is_refused(case: str) -> None:
    """The message names the modality and what is wrong with it."""
    modality, array, words = BAD[case]
    with pytest.raises(CorruptInputError) as raised:
        prepare(selfmm("small"), modality, {modality: array()})
    assert raised.value.modality == modality
    assert f"modality {modality!r}" in str(raised.value)
    assert words in str(raised.value)


def test_limits_are_those_of_the_published_data() -> None:
    """Texts are cut at 50 pieces; more than 500 times of sound or 375 of face are refused by declaration."""
    model, samples = selfmm(), noise(SHAPES["full"])
    declared = {name: model.modality(name).inputs[0] for name in ("audio", "video")}
    assert {name: (tensor.shape, tensor.limits) for name, tensor in declared.items()} == {
        "audio": ((-1, 74), (500,)),
        "video": ((-1, 35), (375,)),
    }
    text = np.asarray(samples.inputs["text"]["text"][0])[None]
    assert prepare(model, "text", {"text": text})["text"].shape == (1, 50)


def test_a_modality_needs_nothing_of_the_others() -> None:
    """Each is prepared from its own tensor alone, so one that is not chosen is never touched."""
    model, samples = selfmm("small"), noise(SMALL)
    for name in model.modality_names:
        assert set(prepare(model, name, {name: np.asarray(samples.inputs[name][name][0])[None]})) == {name}
