import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mosel.core.errors import ModelError
from mosel.models.av_digits import level, load, model
from mosel.models.av_digits.data import (
    MELS,
    MOST_FRAMES,
    MOST_LETTERS,
    SPEECH_FILE,
    VIDEO_FRAMES,
    WORDS,
    Split,
    _digits,
    _speech,
    draw,
    samples,
)
from mosel.models.av_digits.distort import MOST_SILENT_FRAMES
from mosel.models.av_digits.network import AVDigits
from mosel.models.base import BatchFunction, Samples
from mosel.models.registry import find

COUNT = 400


@pytest.fixture(scope="module")
def function() -> BatchFunction:
    """Return the network with the shipped weights."""
    return load("cpu", "float32")


@pytest.fixture(scope="module")
def held_out() -> Samples:
    """Return some of the samples that `Model.samples` gives."""
    return samples(count=COUNT)


def batch(held_out: Samples, chosen: tuple[str, ...], indices: range) -> dict[str, torch.Tensor]:
    """Return the keywords of the network for these samples, prepared alone and padded together."""
    inputs: dict[str, torch.Tensor] = {}
    for name in chosen:
        arrays = [held_out.inputs[name][name][i] for i in indices]
        if name == "audio":
            arrays = [level({"audio": array[None]})["audio"][0] for array in arrays]
            inputs["audio_lengths"] = torch.tensor([len(array) for array in arrays])
        inputs[name] = torch.nn.utils.rnn.pad_sequence([torch.tensor(a) for a in arrays], batch_first=True)
    return inputs


def scores(function: BatchFunction, inputs: Mapping[str, torch.Tensor]) -> NDArray[Any]:
    """Return what the network answers."""
    with torch.inference_mode():
        result: NDArray[Any] = function(**inputs)["scores"].numpy()
    return result


def test_is_in_the_zoo() -> None:
    """The name `av-digits` finds this very model."""
    assert find("av-digits") is model
    assert model.modality_names == ("text", "audio", "video")


def test_samples_fit_the_declared_tensors(held_out: Samples) -> None:
    """Every sample has the type and shape that the model declares, variable lengths within their limits."""
    assert len(held_out) == COUNT
    for modality in model.modalities:
        tensor = modality.inputs[0]
        for array in held_out.inputs[modality.name][tensor.name]:
            assert array.dtype == tensor.dtype
            assert all(1 <= n <= most for n, most in zip(array.shape, tensor.largest_shape, strict=True))
            assert all(n == size for n, size in zip(array.shape, tensor.shape, strict=True) if size != -1)


def test_samples_are_balanced_by_class(held_out: Samples) -> None:
    """Each digit occurs equally often."""
    assert np.bincount(held_out.labels).tolist() == [COUNT // 10] * 10


def test_samples_follow_the_seed() -> None:
    """The same seed draws the same samples, another seed others."""
    first, again, other = samples(count=20), samples(count=20), samples(count=20, seed=1)
    videos = [s.inputs["video"]["video"] for s in (first, again, other)]
    assert np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])
    for name in ("text", "audio"):
        pairs = zip(first.inputs[name][name], again.inputs[name][name], strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_splits_share_no_voice() -> None:
    """A voice belongs to one split, and each split has every digit."""
    from_file = np.load(SPEECH_FILE, allow_pickle=False)
    for voice in np.unique(from_file["voice"]):
        assert len(np.unique(from_file["split"][from_file["voice"] == voice])) == 1
    for split in Split:
        assert set(_speech().digit[_speech().split == split]) == set(range(10))


def test_the_natural_flite_voices_are_held_out() -> None:
    """The voices rms and slt are heard in the test split only, among eight voices."""
    from_file = np.load(SPEECH_FILE, allow_pickle=False)
    test = {str(from_file["voices"][v]) for v in from_file["voice"][from_file["split"] == Split.TEST]}
    assert {"flite:rms", "flite:slt"} <= test
    assert len(test) == 8


def test_splits_share_no_image() -> None:
    """No image of one split occurs in another, and a thousand are held out for the test."""
    digits = _digits()
    assert np.count_nonzero(digits.split == Split.TEST) == 1000
    seen = [{image.tobytes() for image in digits.images[digits.split == split]} for split in Split]
    assert not any(a & b for a, b in itertools.combinations(seen, 2))


def test_typed_words_are_letters() -> None:
    """Text is one to sixteen lower-case ASCII letters, and often not the word itself."""
    drawn = samples(count=200)
    typed = [bytes(word).decode("ascii") for word in drawn.inputs["text"]["text"]]
    assert all(word.isalpha() and word.islower() and len(word) <= MOST_LETTERS for word in typed)
    wrong = sum(word != WORDS[label] for word, label in zip(typed, drawn.labels, strict=True))
    assert 100 < wrong < 200


def test_calibration_samples_differ_from_the_test_samples() -> None:
    """The calibration split can be drawn like the test split, and its samples are others."""
    calibration, test = samples(Split.CALIBRATION, 20), samples(count=20)
    assert "calibration" in calibration.source
    assert not np.array_equal(calibration.inputs["video"]["video"], test.inputs["video"]["video"])


@pytest.mark.parametrize("chosen", model.combinations(), ids="+".join)
def test_a_batch_equals_its_requests_one_by_one(
    function: BatchFunction, held_out: Samples, chosen: tuple[str, ...]
) -> None:
    """Padding leaks nowhere: a request has the same scores alone and in a batch of seven."""
    together = scores(function, batch(held_out, chosen, range(7)))
    alone = [scores(function, batch(held_out, chosen, range(i, i + 1))) for i in range(7)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=2e-5)


def test_the_longest_padding_changes_nothing(function: BatchFunction, held_out: Samples) -> None:
    """Audio and text padded to their limits with rubbish resp. zeros score as they do unpadded."""
    inputs = batch(held_out, ("text", "audio"), range(1))
    padded = {
        "text": torch.nn.functional.pad(inputs["text"], (0, MOST_LETTERS - inputs["text"].shape[1])),
        "audio": torch.nn.functional.pad(
            inputs["audio"], (0, 0, 0, MOST_FRAMES - inputs["audio"].shape[1]), value=9
        ),
        "audio_lengths": inputs["audio_lengths"],
    }
    np.testing.assert_allclose(scores(function, padded), scores(function, inputs), atol=2e-5)


def test_a_word_without_letters_has_scores(function: BatchFunction) -> None:
    """Text of zeros only, which a client may send, is answered with probabilities and not with NaN."""
    found = scores(function, {"text": torch.zeros(2, 3, dtype=torch.uint8)})
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_speech_may_be_varied_before_noise_is_added() -> None:
    """A function that is given to `draw` gets clean clips, and what it returns is what is drawn."""
    seen: list[int] = []

    def first_twenty(clip: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
        seen.append(len(clip))
        return clip[:20]

    drawn = draw(Split.TRAINING, 10, np.random.default_rng(0), 1, vary=first_twenty)
    assert len(seen) == 10
    assert max(len(clip) for clip in drawn.audio) <= 20 + 2 * MOST_SILENT_FRAMES


def test_an_absent_modality_does_not_run(function: BatchFunction, held_out: Samples) -> None:
    """Without video, the video branch is never called."""
    assert isinstance(function, AVDigits)
    calls: list[str] = []
    hooks = [
        branch.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, branch in function.named_children()
    ]
    scores(function, batch(held_out, ("text", "audio"), range(1)))
    for hook in hooks:
        hook.remove()
    assert calls == ["text", "audio"]


def test_logits_stand_for_what_was_given(function: BatchFunction, held_out: Samples) -> None:
    """With those of text and audio kept, only video is looked at, and the scores are the same."""
    every = batch(held_out, model.modality_names, range(3))
    with torch.inference_mode():
        kept = function(**{name: values for name, values in every.items() if name != "video"})
        del kept["scores"]
        assert list(kept) == ["text_logits", "audio_logits"]
        assert torch.equal(function(video=every["video"], **kept)["scores"], function(**every)["scores"])


def test_it_is_surer_of_what_it_gets_right(function: BatchFunction, held_out: Samples) -> None:
    """On typed and spoken digits its confidence tells right answers from wrong ones."""
    found = scores(function, batch(held_out, ("text", "audio"), range(200)))
    assert model.confidence_of is not None
    confidence = model.confidence_of({"scores": found})
    right = model.score({"scores": found}, held_out.labels[:200]) == 1
    assert ((confidence > 0) & (confidence <= 1)).all()
    assert confidence[right].mean() > confidence[~right].mean() + 0.1


def test_scores_are_probabilities(function: BatchFunction, held_out: Samples) -> None:
    """Each request gets ten probabilities as FP32."""
    found = scores(function, batch(held_out, model.modality_names, range(3)))
    assert found.shape == (3, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_each_set_beats_its_parts_on_held_out_samples(function: BatchFunction) -> None:
    """With the shipped weights, each modality is useful alone and any one more makes any set more accurate."""
    assert isinstance(function, AVDigits)
    held_out = samples(count=1000)
    with torch.inference_mode():
        parts = [batch(held_out, model.modality_names, range(i, i + 50)) for i in range(0, 1000, 50)]
        logits = torch.cat([function.logits(**part) for part in parts], dim=1)
    right: dict[frozenset[int], float] = {}
    for chosen in (frozenset(c) for n in (1, 2, 3) for c in itertools.combinations(range(3), n)):
        right[chosen] = float((logits[list(chosen)].sum(0).argmax(1).numpy() == held_out.labels).mean())
    assert min(right.values()) > 0.7
    assert right[frozenset({0, 1, 2})] > 0.98
    for fewer, more in itertools.permutations(right, 2):
        assert right[fewer] < right[more] or not fewer < more


def test_levelling_ignores_loudness_and_added_silence(held_out: Samples) -> None:
    """A clip that is ten decibels softer, or filled up with zeros, is levelled to the same values."""
    clip = np.clip(held_out.inputs["audio"]["audio"][0], 100, 255)[None]
    softer = clip - 20
    filled = np.pad(clip, ((0, 0), (0, 5), (0, 0)))
    levelled = level({"audio": clip})["audio"]
    assert levelled.dtype == np.float32
    np.testing.assert_allclose(level({"audio": softer})["audio"], levelled, atol=1e-6)
    np.testing.assert_allclose(level({"audio": filled})["audio"][:, :-5], levelled, atol=1e-6)


def test_silence_is_corrupt() -> None:
    """A request without any sound is named."""
    audio = np.ones((3, 4, MELS), np.uint8)
    audio[1] = 0
    with pytest.raises(ValueError, match="request 1 holds silence only"):
        level({"audio": audio})


def test_video_arrives_as_bytes(held_out: Samples) -> None:
    """Eight frames of 28 × 28 bytes."""
    assert held_out.inputs["video"]["video"][0].shape == (VIDEO_FRAMES, 28, 28)


def test_another_precision_is_refused() -> None:
    """Only float32 is offered for now."""
    with pytest.raises(ModelError, match="float32 only"):
        load("cpu", "int8")


def test_its_version_is_that_of_the_weights() -> None:
    """A model with weights carries a version made from them."""
    assert len(model.version) == 12
