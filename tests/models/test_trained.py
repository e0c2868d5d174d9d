"""The small networks whose weights ship."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mosel.core.errors import FileError
from mosel.models import avhubert, selfmm, tbn, tvlt, vilt
from mosel.models.av_digits.data import Split, spoken
from mosel.models.av_digits.voice import HOP, PEAK, whispers
from mosel.models.base import Model, Samples, metric_of
from mosel.models.loading import SHIPPED
from mosel.models.registry import find
from tests.models.zoo import answers, inputs

LEAST = {
    "vilt-small": {"text": 0.7, "image": 0.75, "text+image": 0.85},
    "avhubert-small": {"audio": 0.4, "video": 0.5, "audio+video": 0.65},
    "selfmm-small": {"text": 0.8, "audio": 0.8, "video": 0.65, "text+audio+video": 0.9},
    "tbn-small": {"rgb": 0.1, "flow": 0.2, "audio": 0.1, "rgb+flow+audio": 0.75},
    "tvlt-small": {"audio": 0.7, "video": 0.65, "audio+video": 0.8},
}
"""What each is at least right about, in each mode alone and in all together."""

DIGITS: dict[str, Any] = {
    "avhubert-small": avhubert.digits,
    "selfmm-small": selfmm.digits,
    "tbn-small": tbn.digits,
    "tvlt-small": tvlt.digits,
    "vilt-small": vilt.digits,
}
"""What makes the samples of each."""

COUNT = {"avhubert-small": 30}
"""On how many samples that is tested, where other than on 100."""

MOST_BYTES = 4 << 20


def scored(model: Model, samples: Samples, mode: tuple[str, ...]) -> float:
    """Return the metric of a mode on these samples."""
    function = model.load("cpu", "float32")
    scores = []
    for start in range(0, len(samples), 10):
        part = range(start, start + 10)
        found = answers(function, inputs(model, samples, mode, part))
        named = {t.name: found.get(t.name, found.get("output", torch.empty(0))).numpy() for t in model.outputs}
        scores.append(model.score(named, samples.labels[list(part)]))
    return metric_of(np.concatenate(scores))


@pytest.mark.parametrize("name", LEAST)
def test_each_mode_is_as_right_as_it_was_trained_to_be(name: str) -> None:
    """On voices and images that training has not seen, far above chance, and best with all modalities."""
    model = find(name)
    samples = DIGITS[name].samples(Split.TEST, COUNT.get(name, 100))
    found = {mode: scored(model, samples, tuple(mode.split("+"))) for mode in LEAST[name]}
    for mode, least in LEAST[name].items():
        assert found[mode] > least, (mode, found)
    assert max(found, key=found.__getitem__) == list(LEAST[name])[-1]


@pytest.mark.parametrize("name", LEAST)
def test_samples_are_answered_alike_in_any_batch(name: str) -> None:
    """Real input of unequal lengths, all modalities: what stands beside a request changes nothing."""
    model = find(name)
    function, samples = model.load("cpu", "float32"), DIGITS[name].samples(Split.TEST, 4)
    together = answers(function, inputs(model, samples, model.modality_names, range(4)))
    for index in range(4):
        alone = answers(function, inputs(model, samples, model.modality_names, [index]))
        for output, found in alone.items():
            row = together[output][index : index + 1]
            beside = row[:, : found.shape[1]] if found.dim() > 1 else row  # texts are as long as the longest
            torch.testing.assert_close(beside, found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LEAST)
def test_weights_ship_and_a_seed_still_gives_random_ones(name: str) -> None:
    """A few MB in a file of tensors alone; its content is the version that profiles are held against."""
    model, random = find(name), find(f"{name},seed=4")
    assert (model.trained, random.trained, random.version) == (True, False, "random-4")
    assert model.calibration is not None
    assert random.calibration is None
    path = Path(str(DIGITS[name].__file__)).with_name(SHIPPED)
    assert path.stat().st_size < MOST_BYTES
    with safe_open(path, "pt") as file:
        assert all(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118


@pytest.mark.parametrize("name", LEAST)
def test_samples_are_the_same_each_time_and_calibration_has_others(name: str) -> None:
    """Test samples repeat bit by bit; those for calibration share none of them."""
    model, digits = find(name), DIGITS[name]
    first, again, apart = (digits.samples(split, 30) for split in (Split.TEST, Split.TEST, Split.CALIBRATION))
    for modality in model.modalities:
        tensor = modality.inputs[0].name
        one, same, other = (each.inputs[modality.name][tensor] for each in (first, again, apart))
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        if modality.name != "text":  # there are only so many ways to mistype ten words
            kept = {np.asarray(each).tobytes() for each in one}
            assert not any(np.asarray(each).tobytes() in kept for each in other)
    assert len(first.labels) == len(first) == 30
    assert "test" in first.source
    assert "calibration" in apart.source


def test_weights_of_ones_own_are_laid_in_by_our_names(tmp_path: Path) -> None:
    """What the training script writes is a checkpoint as any other; one that does not fit is refused."""
    network = find("selfmm-small").load("cpu", "float32")
    assert isinstance(network, torch.nn.Module)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    state["heads.text.0.bias"] = state["heads.text.0.bias"] + 1
    save_file(state, tmp_path / "mine.safetensors")
    mine = find(f"selfmm-small,checkpoint={tmp_path / 'mine.safetensors'}").load("cpu", "float32")
    assert isinstance(mine, torch.nn.Module)
    assert mine.state_dict()["heads.text.0.bias"].equal(state["heads.text.0.bias"])
    save_file({**state, "heads.text.0.bias": torch.zeros(3)}, tmp_path / "mine.safetensors")
    with pytest.raises(FileError, match=r"heads\.text\.0\.bias has shape \(3,\)"):
        find(f"selfmm-small,checkpoint={tmp_path / 'mine.safetensors'}").load("cpu", "float32")


def test_a_whisper_has_the_bands_of_its_log_mel() -> None:
    """Where the clip is loud the waveform is, band by band; it is as long as the clip, and nowhere too loud."""
    rng = np.random.default_rng(0)
    clips = spoken(Split.TEST, np.arange(10), rng)
    for clip, wave in zip(clips, whispers(clips, rng), strict=True):
        assert len(wave) == (len(clip) + 1) * HOP
        assert np.abs(wave).max() == pytest.approx(PEAK)
        energy = np.array(
            [(wave[start : start + 2 * HOP] ** 2).sum() for start in range(0, len(clip) * HOP, HOP)]
        )
        loudness = (10 ** (clip / 20)).sum(axis=1)
        assert np.corrcoef(np.log(energy + 1e-12), np.log(loudness))[0, 1] > 0.8
