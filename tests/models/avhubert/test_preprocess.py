import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.models.avhubert import avhubert
from mosel.models.avhubert.preprocess import RATE_HZ, SAMPLES_A_FRAME
from mosel.models.base import Model
from mosel.runtime.runner import CorruptInputError, prepare


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the small model."""
    return avhubert("small")


def heard(model: Model, waves: NDArray[np.floating], rate: int = RATE_HZ) -> NDArray[np.float32]:
    """Return the frames of sound of a job, (requests, frames, 104)."""
    rates = np.full((len(waves), 1), rate, np.int32)
    found: NDArray[np.float32] = prepare(
        model, "audio", {"audio": waves.astype(np.float32), "audio_rate": rates}
    )["audio"]
    return found


def seen(model: Model, frames: NDArray[np.uint8], rate: int = 25) -> NDArray[np.uint8]:
    """Return the frames of video of a job."""
    rates = np.full((len(frames), 1), rate, np.int32)
    found: NDArray[np.uint8] = prepare(model, "video", {"video": frames, "video_rate": rates})["video"]
    return found


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (400, 1), (640, 1), (1_600, 3), (16_000, 25), (128_000, 200)]
)
def test_sound_has_25_frames_a_second(model: Model, samples: int, frames: int) -> None:
    """Of four windows of 26 bands each; the last ones are filled up with zeros."""
    assert heard(model, np.full((1, samples), 0.1)).shape == (1, frames, 104)


def test_no_clip_within_the_limit_has_too_many_frames(model: Model) -> None:
    """As many samples as are accepted make as many frames as the network takes."""
    arriving, prepared = model.modality("audio").inputs[0], model.modality("audio").prepared[0]
    assert heard(model, np.full((1, arriving.limits[0]), 0.1)).shape[1] == prepared.limits[0]
    assert arriving.limits[0] == prepared.limits[0] * SAMPLES_A_FRAME


def test_a_frame_is_the_logarithm_of_energies_in_mel_bands(model: Model) -> None:
    """Frame 2 equals the definition: emphasis, rectangles of 25 ms, power over 512, triangles, normed."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 6_400).astype(np.float32)
    scaled = wave.astype(np.float64) * 32_768
    sharp = np.append(scaled[0], scaled[1:] - 0.97 * scaled[:-1])
    mels = np.linspace(0, 2595 * np.log10(1 + 8_000 / 700), 28)
    edges = np.floor(513 * 700 * (10 ** (mels / 2595) - 1) / 16_000).astype(int)
    windows = []
    for start in range(8 * 160, 12 * 160, 160):
        power = np.abs(np.fft.rfft(sharp[start : start + 400], 512)) ** 2 / 512
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            rising = sum(power[i] * (i - low) / (middle - low) for i in range(low, middle))
            falling = sum(power[i] * (high - i) / (high - middle) for i in range(middle, high))
            bands.append(np.log(rising + falling))
        windows.append(bands)
    frame = np.ravel(windows)
    expected = (frame - frame.mean()) / np.sqrt(frame.var() + 1e-5)
    np.testing.assert_allclose(heard(model, wave[None])[0, 2], expected, atol=1e-4)


def test_loudness_hardly_matters(model: Model) -> None:
    """A clip at a quarter of its loudness has the same frames."""
    wave = np.random.default_rng(1).uniform(-1, 1, (1, 6_400))
    np.testing.assert_allclose(heard(model, wave / 4)[:, :-1], heard(model, wave)[:, :-1], atol=1e-3)


def test_silence_within_a_clip_is_no_error(model: Model) -> None:
    """Zeros have a floor: their frames are numbers."""
    wave = np.zeros((1, 6_400))
    wave[0, -1] = 0.5
    assert np.isfinite(heard(model, wave)).all()


def test_zeros_at_the_end_count_as_nothing(model: Model) -> None:
    """A request that was filled up to the longest of its job has the frames that it has alone, then zeros."""
    waves = np.random.default_rng(2).uniform(-1, 1, (2, 6_400))
    waves[1, 2_000:] = 0
    found = heard(model, waves)
    alone = heard(model, waves[1:, :2_000])
    assert np.array_equal(found[1, : alone.shape[1]], alone[0])
    assert not found[1, alone.shape[1] :].any()
    frames = np.full((2, 5, 88, 88), 9, np.uint8)
    frames[:, 3:] = 0
    assert seen(model, frames).shape == (2, 3, 88, 88)


@pytest.mark.parametrize(
    ("value", "rate", "message"),
    [
        (0.1, 8_000, "modality 'audio' .*a rate of 8000 a second; expected 16000"),
        (np.nan, RATE_HZ, "modality 'audio' .*reaches nan; expected numbers from -1 to 1"),
        (np.inf, RATE_HZ, "modality 'audio' .*reaches inf"),
    ],
)
def test_bad_sound_is_refused(model: Model, value: float, rate: int, message: str) -> None:
    """Another rate, NaN and infinity; the modality is named."""
    waves = np.zeros((2, 1_000))
    waves[1, 17] = value
    with pytest.raises(CorruptInputError, match=message):
        heard(model, waves, rate)


def test_nothing_but_zeros_is_refused(model: Model) -> None:
    """Silence and black; the modality and the request are named."""
    waves, frames = np.ones((2, 700)), np.ones((2, 3, 88, 88), np.uint8)
    waves[1], frames[1] = 0, 0
    with pytest.raises(CorruptInputError, match=r"modality 'audio' .*request 1 holds nothing but zeros"):
        heard(model, waves)
    with pytest.raises(CorruptInputError, match=r"modality 'video' .*request 1 holds nothing but zeros"):
        seen(model, frames)


@pytest.mark.parametrize("side", [88, 96])
def test_the_middle_of_the_mouth_is_kept(model: Model, side: int) -> None:
    """88 × 88 pixels in the middle; what is that already stays as it is."""
    frames = np.zeros((2, 3, side, side), np.uint8)
    start = (side - 88) // 2
    frames[:, :, start : start + 88, start : start + 88] = 9
    found = seen(model, frames)
    assert found.shape == (2, 3, 88, 88)
    assert (found == 9).all()


@pytest.mark.parametrize(
    ("shape", "rate", "message"),
    [
        ((1, 3, 88, 88), 30, "modality 'video' .*a rate of 30 a second; expected 25"),
        ((1, 3, 64, 64), 25, "modality 'video' .*frames of 64 × 64; expected .*88 × 88 or 96 × 96"),
        ((1, 3, 88, 96), 25, "frames of 88 × 96"),
    ],
)
def test_bad_video_is_refused(model: Model, shape: tuple[int, ...], rate: int, message: str) -> None:
    """Another rate, another side, no square; the modality is named."""
    with pytest.raises(CorruptInputError, match=message):
        seen(model, np.zeros(shape, np.uint8), rate)
