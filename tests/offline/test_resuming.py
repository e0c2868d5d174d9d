"""What resuming a first stage takes, as the profiler finds it."""

from typing import Any

import numpy as np
import pytest

from mosel.core.tables import Profile
from mosel.models.base import Modality, Model, Samples, Tensor
from mosel.offline.profiler import make_profile, refresh
from mosel.offline.resuming import scaled
from mosel.offline.settings import Settings
from tests.offline.stand_ins import scripted

COUNT = 600
COST_S = {"ear": 0.001, "eye": 0.009}


def listen_and_look(**given: Any) -> dict[str, Any]:
    """Evidence for each of two classes, summed over senses; features are the evidence."""
    seen = {f"{name.removesuffix('_seen')}_seen": values for name, values in given.items()}
    return {"scores": np.sum(list(seen.values()), axis=0), **seen}


def samples() -> Samples:
    """`ear` is in doubt of one sample in five, and then wrong half of the time; `eye` is right."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, COUNT)
    doubt = rng.random(COUNT) < 0.2
    heard = np.where(doubt & (rng.random(COUNT) < 0.5), 1 - labels, labels)
    sure = np.where(doubt, 0.1, 2.0) + 0.1 * rng.random(COUNT)
    ear = np.eye(2)[heard] * sure[:, None]
    eye = 4 * np.eye(2)[np.where(rng.random(COUNT) < 0.01, 1 - labels, labels)]
    inputs = {"ear": {"ear": ear.astype(np.float32)}, "eye": {"eye": eye.astype(np.float32)}}
    return Samples(inputs, labels)


def sense(features: bool) -> Model:
    """A model of two senses, which tells what it made of each, or does not."""
    return Model(
        name="sense",
        modalities=tuple(
            Modality(
                name, (Tensor(name, "FP32", (2,)),), features=(Tensor(f"{name}_seen", "FP32", (2,)),) * features
            )
            for name in COST_S
        ),
        outputs=(Tensor("scores", "FP32", (2,)),),
        load=lambda _device, _precision: listen_and_look,
        samples=samples,
        calibration=samples,
        framework="numpy",
        max_batch=4,
    )


def made(features: bool) -> Profile:
    """Its profile: a batch takes what its senses take."""
    with scripted(lambda names, size: sum(COST_S[name] * size for name in names)):
        return make_profile(sense(features), Settings(repeats=2))


def test_a_model_that_keeps_nothing_has_nothing_to_resume() -> None:
    """Its cascades run the last stage whole."""
    assert made(features=False).cascades
    assert all(cascade.resumed_s is None for cascade in made(features=False).cascades)


def test_what_is_resumed_is_timed_beside_the_whole() -> None:
    """By the script a mode takes the same with features of a part: a part of 1 of what it takes."""
    found = made(features=True)
    assert found.cascades
    for cascade in found.cascades:
        assert cascade.resumed_s == pytest.approx(list(found.mode_named("ear+eye").latency_s))


def test_a_refresh_times_what_the_profile_does_not_say() -> None:
    """A profile of a time before features were kept gets what resuming takes."""
    with scripted(lambda names, size: sum(COST_S[name] * size for name in names)):
        found = refresh(made(features=False), sense(features=True), Settings(repeats=2))
    assert all(cascade.resumed_s is not None for cascade in found.cascades)


def test_what_resuming_takes_moves_with_its_mode() -> None:
    """In proportion, in every length bucket; where batches end elsewhere it is not known any more."""
    assert scaled([1.0, 2.0], [2.0, 4.0], [4.0, 4.0]) == [2.0, 2.0]
    assert scaled([[1.0], [2.0]], [[2.0], [4.0]], [[3.0], [8.0]]) == [[1.5], [4.0]]
    assert scaled([1.0, 2.0], [2.0, 4.0], [4.0]) is None
