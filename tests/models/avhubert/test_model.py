import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mosel.core.errors import ModelError
from mosel.models.avhubert import avhubert, word_score
from mosel.models.avhubert.shape import SHAPES
from mosel.models.registry import find
from mosel.offline.profiler import make_profile
from mosel.offline.samples import load_samples
from mosel.offline.settings import Settings
from mosel.runtime.padding import blank
from mosel.runtime.runner import Runner


def said(*texts: str) -> dict[str, np.ndarray]:
    """Return outputs of the model that say these texts."""
    longest = max(len(text.encode()) for text in texts)
    rows = [list(text.encode().ljust(longest, b"\0")) for text in texts]
    return {"text": np.array(rows, np.uint8), "text_lengths": np.array([len(text.encode()) for text in texts])}


def test_three_sizes_are_in_the_zoo() -> None:
    """`avhubert` is the published base size; all take sound at 16 kHz and lips at 25 Hz."""
    names = [find(word).name for word in ("avhubert", "avhubert-large", "avhubert-small")]
    assert names == ["avhubert", "avhubert-large", "avhubert-small"]
    model = find("avhubert,seed=3")
    assert model.modality("audio").model_inputs[0].largest_shape == (500, 104)
    assert model.modality("video").model_inputs[0].largest_shape == (500, 88, 88)
    assert model.length_buckets == SHAPES["base"].buckets
    assert (model.version, model.trained) == ("random-3", False)


def test_a_beam_is_another_version_of_the_model() -> None:
    """Its accuracy and latency are others, so that a profile of another beam is not used."""
    assert find("avhubert-small,seed=3,beam=5").version == "random-3-beam-5"
    assert find("avhubert-small,seed=3,beam=1").version == "random-3"


def test_a_second_of_sound_is_as_long_as_a_second_of_video() -> None:
    """Length is counted in frames; a job with both is as long as the longer."""
    model = find("avhubert-small")
    assert model.length_of({"audio": (16_000,), "audio_rate": (1,)}) == 25
    assert model.length_of({"video": (25, 88, 88)}) == 25
    assert model.length_of({"audio": (16_000,), "video": (50, 96, 96)}) == 50


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """An unknown size, no beam, and weights without their vocabulary."""
    with pytest.raises(ModelError, match="beam 0; expected a whole number from 1 to 50"):
        avhubert("small", beam=0)
    with pytest.raises(ModelError, match="expected one of base, large, small"):
        avhubert("huge")
    with pytest.raises(ModelError, match=r"give vocabulary=FILE as well.*dict.wrd.txt"):
        avhubert("base", checkpoint=tmp_path / "a.pt")


def test_words_are_scored_over_all_of_them() -> None:
    """A word left out, one put in, one changed; what is more wrong than there is to say counts below zero."""
    outputs = said("the cat sat", "the cat", "the big cat sat", "the cat sad", "a b c d e")
    labels = np.array(["the cat sat"] * 4 + ["x"])
    assert word_score(outputs, labels).tolist() == [[3, 3], [2, 3], [2, 3], [2, 3], [-4, 1]]


def test_an_empty_answer_has_no_word_right() -> None:
    """And bytes behind its length are not read."""
    outputs = said("", "cat rest")
    outputs["text_lengths"][1] = 3
    assert word_score(outputs, np.array(["cat", "cat"])).tolist() == [[0, 1], [1, 1]]


def test_a_runner_runs_every_mode() -> None:
    """Two clips in each combination of modalities; each text is within its limits."""
    model = find("avhubert-small")
    runner = Runner(model, "cpu", ("float32",))
    for chosen in model.combinations():
        inputs = {name: [array] for name, array in blank(model, chosen, 2, 10).items()}
        ran = runner.run(chosen, "float32", inputs)
        assert ran.outputs["text"].shape[0] == 2
        assert (ran.outputs["text_lengths"] <= ran.outputs["text"].shape[1]).all()


def test_noise_is_as_long_as_each_bucket() -> None:
    """What times random weights fits the declared tensors and has every length."""
    model = find("avhubert-small,seed=0")
    samples = load_samples(model)
    assert samples is not None
    assert [len(video) for video in samples.inputs["video"]["video"]] == list(model.length_buckets)


def test_it_is_profiled_by_length() -> None:
    """A latency for each length; random weights claim no accuracy."""
    model = dataclasses.replace(
        avhubert("small", seed=0), precisions=("float32",), allowed=lambda names: names == ("audio",)
    )
    profile = make_profile(model, Settings(batch=1, repeats=1))
    assert profile.length_buckets == model.length_buckets
    latency_s = [row[0] for row in profile.mode_named("audio").latency_s]
    assert len(latency_s) == len(model.length_buckets)
    assert (profile.extra or {})["accuracy_source"] == "none"
