import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.base import Model
from mosel.models.tvlt import SHAPES, noise, tvlt
from mosel.models.tvlt.preprocess import audio, video
from mosel.runtime.runner import CorruptInputError, prepare

FULL, SMALL = SHAPES["full"], SHAPES["small"]


def tone(hz: float, samples: int, rate_hz: int = SMALL.rate_hz) -> NDArray[np.float32]:
    """Return a sine wave."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz)).astype(np.float32)


def heard(*waves: NDArray[np.float32], rate_hz: int = SMALL.rate_hz) -> dict[str, NDArray[Any]]:
    """Return waves as one job's audio, the shorter ones filled up with zeros."""
    longest = max(map(len, waves))
    padded = np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves])
    return {"audio": padded, "audio_rate": np.full((len(waves), 1), rate_hz, np.int32)}


def test_a_higher_tone_is_loudest_in_a_higher_band() -> None:
    """Bands go up with frequency, and the loudest level is near that of full scale."""
    bands = []
    for hz in (200, 1000, 4000):
        levels = audio(heard(tone(hz, 16_000)), shape=SMALL)["audio"][0]
        bands.append(int(levels[20].argmax()))
        assert levels[20].max() > levels[20].min() + 0.5
    assert bands == sorted(set(bands))


def test_the_published_size_makes_1024_windows_of_128_bands() -> None:
    """The longest waveform fills the network's input; one sample more is refused by its declaration."""
    wave = np.random.default_rng(0).uniform(-1, 1, FULL.most_samples).astype(np.float32)
    assert audio(heard(wave, rate_hz=44_100), shape=FULL)["audio"].shape == (1, 1024, 128)
    assert tvlt().modality("audio").inputs[0].limits == (1024 * 512 - 1,)


def test_what_fills_a_job_up_changes_nothing() -> None:
    """A short request of a job has the levels it has alone, then −1; black frames at a clip's end are cut."""
    short, long = tone(300, 4000) + np.float32(0.1), tone(900, 9000)
    alone = audio(heard(short), shape=SMALL)["audio"][0]
    together = audio(heard(short, long), shape=SMALL)["audio"][0]
    windows = 1 + 4000 // SMALL.hop
    assert np.array_equal(together[:windows], alone[:windows])
    assert (together[windows:] == -1).all()
    clip = np.random.default_rng(0).integers(100, 256, (1, 5, 40, 50, 3), np.uint8)
    black = np.zeros((1, 3, 40, 50, 3), np.uint8)
    filled = np.concatenate([clip, black], axis=1)
    assert np.array_equal(
        video({"video": filled}, shape=SMALL)["video"], video({"video": clip}, shape=SMALL)["video"]
    )


def test_frames_are_spread_over_the_clip_and_squared() -> None:
    """Frame k of the network shows frame k · n / 8 of the clip: its middle square, without dark borders."""
    grey = np.arange(40, 200, 10, dtype=np.uint8)
    clip = np.zeros((1, 16, 90, 120, 3), np.uint8)
    clip[0, :, 10:80, 15:105] = grey[:, None, None, None]
    frames = video({"video": clip}, shape=SMALL)["video"]
    assert frames.shape == (1, 8, 3, SMALL.side, SMALL.side)
    assert [set(frame.ravel().tolist()) for frame in frames[0]] == [{value} for value in grey[::2].tolist()]


def test_the_middle_square_is_scaled_in_place() -> None:
    """Left stays left, and colours stay red, green, blue."""
    clip = np.full((1, 1, 80, 80, 3), 200, np.uint8)
    clip[:, :, :, :40, 0] = 60
    frames = video({"video": clip}, shape=SMALL)["video"]
    half = SMALL.side // 2 - 2
    assert (frames[0, :, 0, :, :half] == 60).all()
    assert (frames[0, :, 0, :, -half:] == 200).all()
    assert (frames[0, :, 1:] == 200).all()


BAD: dict[str, tuple[str, Callable[[], dict[str, NDArray[Any]]], str]] = {
    "rate": ("audio", lambda: heard(tone(300, 4000), rate_hz=48_000), "48000"),
    "NaN": ("audio", lambda: heard(np.full(4000, np.nan, np.float32)), "request 0"),
    "beyond 1": ("audio", lambda: heard(tone(300, 4000), 100 * tone(300, 4000)), "request 1"),
    "silence": (
        "audio",
        lambda: heard(tone(300, 4000), np.zeros(10, np.float32)),
        "request 1 holds nothing but",
    ),
    "black": ("video", lambda: {"video": np.zeros((1, 4, 30, 30, 3), np.uint8)}, "request 0 holds nothing but"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_made_sense_of_is_refused(case: str) -> None:
    """The message names the modality and what is wrong with it."""
    modality, arrays, words = BAD[case]
    with pytest.raises(CorruptInputError) as raised:
        prepare(tvlt("small"), modality, arrays())
    assert raised.value.modality == modality
    assert f"modality {modality!r}" in str(raised.value)
    assert words in str(raised.value)


def test_a_modality_needs_nothing_of_the_other() -> None:
    """Each is prepared from its own tensors alone, so one that is not chosen is never touched."""
    model, samples = tvlt("small"), noise(SMALL)
    for name in model.modality_names:
        own = {tensor: np.asarray(values)[:1] for tensor, values in samples.inputs[name].items()}
        assert set(prepare(model, name, own)) == {tensor.name for tensor in model.modality(name).prepared}


def test_the_noise_fits_the_declaration_of_every_size() -> None:
    """It is of the longest clips that are taken."""
    for size in ("full", "small"):
        model: Model = tvlt(size)
        samples = noise(dataclasses.replace(SHAPES[size]))
        for modality in model.modalities:
            for tensor in modality.inputs:
                array = np.asarray(samples.inputs[modality.name][tensor.name])
                assert array.dtype == tensor.dtype
                assert array.ndim == 1 + len(tensor.shape)
        assert samples.inputs["audio"]["audio"][0].shape == model.modality("audio").inputs[0].limits
