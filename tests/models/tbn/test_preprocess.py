import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.base import Model
from mosel.models.tbn import tbn
from mosel.models.tbn.preprocess import AUDIO_SAMPLES, FLOOR, FREQUENCIES, HOP, RATE_HZ, TIMES, WINDOW
from mosel.runtime.runner import CorruptInputError, prepare


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the small model."""
    return tbn("small", segments=2)


def sound(model: Model, wave: NDArray[np.float32], rate: int = RATE_HZ) -> NDArray[np.float32]:
    """Return the spectrograms of a request whose segments all hear `wave`."""
    waves = np.broadcast_to(wave, (1, 2, len(wave))).astype(np.float32)
    prepared = prepare(model, "audio", {"audio": waves, "audio_rate": np.array([[rate]], np.int32)})
    found: NDArray[np.float32] = prepared["audio"][0, 0]
    return found


def test_sound_becomes_256_frequencies_and_times(model: Model) -> None:
    """1.279 s at 24 kHz, windows of 10 ms every 5 ms."""
    assert round(1.279 * 24_000) == AUDIO_SAMPLES
    assert (WINDOW, HOP) == (240, 120)
    assert sound(model, np.ones(AUDIO_SAMPLES, np.float32)).shape == (256, 256) == (FREQUENCIES, TIMES)


def test_a_tone_stands_at_its_frequency(model: Model) -> None:
    """6 kHz is half of the highest frequency: the loudest row is the middle one, at every time within."""
    wave = np.sin(2 * np.pi * 6000 * np.arange(AUDIO_SAMPLES) / RATE_HZ).astype(np.float32)
    loudest = sound(model, wave)[:, 2:-2].argmax(axis=0)
    assert set(loudest) <= {127, 128}


def test_a_time_is_the_transform_of_its_window(model: Model) -> None:
    """Column t is the power of the samples around t × 5 ms under a Hann window, by the definition of a DFT."""
    wave = np.random.default_rng(0).uniform(-1, 1, AUDIO_SAMPLES).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    start = 100 * HOP - 255 + 135
    part = wave[start : start + WINDOW] * window
    waves = np.exp(-2j * np.pi * np.outer(np.arange(FREQUENCIES), np.arange(WINDOW)) / 511)
    expected = np.log(np.abs(waves @ part) ** 2 + FLOOR)
    np.testing.assert_allclose(sound(model, wave)[:, 100], expected, atol=1e-3)


def test_silence_has_a_floor(model: Model) -> None:
    """The logarithm of nothing is that of 1e-6."""
    wave = np.zeros(AUDIO_SAMPLES, np.float32)
    wave[0] = 1
    np.testing.assert_allclose(sound(model, wave)[:, 10:], np.log(1e-6), rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "rate", "message"),
    [
        (0.5, 44_100, "modality 'audio' .*a rate of 44100 a second; expected 24000"),
        (0.0, RATE_HZ, "modality 'audio' .*request 0 holds nothing but zeros; leave this modality out"),
        (np.nan, RATE_HZ, "modality 'audio' .*request 0 reaches nan; expected numbers from -1 to 1"),
        (12_000.0, RATE_HZ, "reaches 12000; .*divide 16-bit samples by 32768"),
    ],
)
def test_bad_sound_is_refused(model: Model, value: float, rate: int, message: str) -> None:
    """Another rate, silence, NaN, and samples that were not scaled; the modality is named."""
    with pytest.raises(CorruptInputError, match=message):
        sound(model, np.full(AUDIO_SAMPLES, value, np.float32), rate)


def test_the_middle_of_a_frame_is_kept(model: Model) -> None:
    """7/8 of the shorter side, in the middle, as 256 pixels cut to 224: what lies beyond hardly shows."""
    frame = np.zeros((256, 456, 3), np.uint8)
    frame[16:240, 116:340] = 200
    found = prepare(model, "rgb", {"rgb": np.stack([frame, frame])[None]})["rgb"]
    assert found.shape == (1, 2, 3, 96, 96)
    assert found[..., 1:-1, 1:-1].min() == 200
    assert found.min() > 150


def test_colours_arrive_as_red_and_leave_as_blue_first(model: Model) -> None:
    """The published weights expect blue, green, red."""
    frames = np.broadcast_to(np.array([10, 20, 30], np.uint8), (1, 2, 40, 60, 3))
    found = prepare(model, "rgb", {"rgb": frames})["rgb"]
    assert found[0, 0, :, 5, 5].tolist() == [30, 20, 10]


def test_flow_keeps_its_ten_channels_in_order(model: Model) -> None:
    """X and y of five frames in turn, each scaled on its own."""
    frames = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None], (3, 2, 10, 64, 48))
    found = prepare(model, "flow", {"flow": frames})["flow"]
    assert found.shape == (3, 2, 10, 96, 96)
    assert found[2, 1, :, 0, 0].tolist() == list(range(10))


def test_a_narrow_frame_costs_no_more_than_a_square_one(model: Model) -> None:
    """One pixel of height, the largest width: nothing is made larger than what is kept."""
    frames = np.full((1, 2, 1, 1280, 3), 7, np.uint8)
    assert prepare(model, "rgb", {"rgb": frames})["rgb"].shape == (1, 2, 3, 96, 96)


@pytest.mark.parametrize("name", ["rgb", "flow"])
def test_black_frames_are_refused(model: Model, name: str) -> None:
    """A request whose frames are all zeros has no picture; modality and request are named."""
    shape = (2, 2, 40, 60, 3) if name == "rgb" else (2, 2, 10, 40, 60)
    frames = np.ones(shape, np.uint8)
    frames[1] = 0
    with pytest.raises(CorruptInputError, match=rf"modality '{name}' .*request 1 holds nothing but zeros"):
        prepare(model, name, {name: frames})
