import numpy as np
import pytest

from mosel.models.mel import mel_filters, mel_power


def test_windows_and_bands() -> None:
    """There is a window around each hop, the first around the first sample."""
    assert mel_power(np.ones(1000, np.float32), 16_000, 400, 160, 40).shape == (7, 40)
    assert mel_power(np.ones(1, np.float32), 16_000, 400, 160, 40).shape == (1, 40)


def test_bands_are_even_up_to_1_khz_and_grow_above() -> None:
    """Slaney's scale: the middles of bands are equally far apart below 1 kHz, then by equal ratios."""
    filters = mel_filters(44_100, 1 << 16, 64).astype(np.float64)
    frequencies = np.fft.rfftfreq(1 << 16, 1 / 44_100)
    middles = frequencies[filters.argmax(axis=0)]
    low, high = middles[middles < 950], middles[middles > 1100]
    assert np.ptp(np.diff(low)) < 2
    assert np.ptp(high[1:] / high[:-1]) < 0.002


def test_each_band_is_of_unit_area() -> None:
    """A broad band counts no more of a flat spectrum than a narrow one."""
    filters = mel_filters(16_000, 1 << 14, 32).astype(np.float64)
    area = filters.sum(axis=0) * 16_000 / (1 << 14)
    assert area == pytest.approx(np.ones(32), rel=0.01)


def test_the_power_of_a_tone_is_in_its_band() -> None:
    """A tone of amplitude a has its power around it: a²/4 times the window's squared sum."""
    wave = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)
    power = mel_power(wave, 16_000, 512, 160, 64)[50]
    frequencies = np.fft.rfftfreq(512, 1 / 16_000)
    middles = frequencies[mel_filters(16_000, 512, 64).argmax(axis=0)]
    assert abs(middles[power.argmax()] - 1000) < 50
    assert power.sum() > 100 * power[middles > 2000].sum()


def test_power_is_that_of_another_implementation() -> None:
    """Three cells of a chirp, as librosa 0.11.0's melspectrogram has them with the same settings."""
    time = np.arange(8000) / 8000
    wave = np.sin(2 * np.pi * (200 + 1500 * time) * time).astype(np.float32)
    power = mel_power(wave, 8000, 256, 64, 20)
    assert power.shape == (126, 20)
    assert [power[0, 1], power[60, 12], power[125, 19]] == pytest.approx(
        [18.63316, 25.21697, 0.577813], rel=1e-5
    )
