"""From AV-digits' log-mels back to something that can be heard: a whisper with the same bands, as a waveform.

The speech that ships is log-mels, since waveforms would be ten times as large. Noise is given the spectrum that
the bands tell, window by window: what was said stays, the voice's pitch is gone. Models of the zoo that take
waveforms are trained and measured on it.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mosel.models.av_digits.data import MELS
from mosel.models.av_digits.distort import FLOOR_DB, STEPS_PER_DB

RATE_HZ = 16_000
WINDOW, HOP = 400, 200
BAND_HZ = (80.0, 7600.0)
PEAK = 0.5
"""The loudest sample of a whisper."""


def whispers(clips: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return a waveform for each clip, at `RATE_HZ`, of shape (HOP · (frames + 1),), from −PEAK to PEAK.

    Args:
        clips: log-mels in half decibels above the floor, each of shape (frames, MELS).
        rng: of the noise.
    """
    return [_whisper(clip, rng) for clip in clips]


@functools.cache
def mel_filters() -> NDArray[np.float64]:
    """Return the triangular mel filters of the log-mels, (MELS, WINDOW / 2 + 1)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in BAND_HZ)
    edges_hz = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    bins_hz = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)
    rise = (bins_hz - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    fall = (edges_hz[2:, None] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    filters: NDArray[np.float64] = np.clip(np.minimum(rise, fall), 0, None)
    return filters


def _whisper(clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    filters = mel_filters()
    power = 10 ** ((clip / STEPS_PER_DB + FLOOR_DB) / 10)
    spectrum = np.sqrt((power / filters.sum(axis=1)) @ filters)
    real, imaginary = rng.standard_normal((2, *spectrum.shape))
    pieces = np.fft.irfft(spectrum * (real + 1j * imaginary), WINDOW, axis=1) * np.hanning(WINDOW)
    wave = np.zeros((len(clip) + 1) * HOP)
    wave[:-HOP] += pieces[:, :HOP].ravel()
    wave[HOP:] += pieces[:, HOP:].ravel()
    return (wave * (PEAK / max(float(np.abs(wave).max()), 1e-12))).astype(np.float32)
