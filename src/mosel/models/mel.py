"""From a waveform to the power in bands that are as wide as the ear hears them (Slaney's mel scale).

Rates, lengths and what silence is made into are each model's business. Torch is not needed here.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

LINEAR_HZ = 1000.0
HZ_PER_MEL = 200 / 3
RATIO_PER_MEL = math.log(6.4) / 27
"""Below 1 kHz a mel is so many hertz; above it frequencies grow by this power of e."""


def mel_power(
    wave: NDArray[np.floating[Any]], rate_hz: int, transform: int, hop: int, bands: int
) -> NDArray[np.float32]:
    """Return the power in each band, of shape (1 + samples // hop, bands).

    Args:
        wave: of shape (samples,); zeros stand before and after it.
        rate_hz: samples a second.
        transform: samples of each window (Hann), around every `hop`th sample.
        hop: samples from one window to the next.
        bands: from 0 Hz to half the rate, each of unit area.
    """
    padded = np.pad(wave.astype(np.float32), transform // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, transform)[::hop]
    spectrum = fft.rfft(windows * _window(transform), axis=1)
    power: NDArray[np.float32] = (spectrum.real**2 + spectrum.imag**2) @ mel_filters(rate_hz, transform, bands)
    return power


@functools.cache
def mel_filters(rate_hz: int, transform: int, bands: int) -> NDArray[np.float32]:
    """Return triangular filters over the frequencies of a transform, of shape (transform // 2 + 1, bands)."""
    frequencies = fft.rfftfreq(transform, 1 / rate_hz)
    edges = _hz(np.linspace(0, _mel(rate_hz / 2), bands + 2))
    lower, middle, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - lower) / (middle - lower)
    falling = (upper - frequencies[:, None]) / (upper - middle)
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * 2 / (upper - lower)).astype(np.float32)
    return filters


@functools.cache
def _window(transform: int) -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(transform) / transform)).astype(np.float32)


def _mel(hz: float) -> float:
    if hz < LINEAR_HZ:
        return hz / HZ_PER_MEL
    return LINEAR_HZ / HZ_PER_MEL + math.log(hz / LINEAR_HZ) / RATIO_PER_MEL


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = mel - LINEAR_HZ / HZ_PER_MEL
    return np.where(above < 0, mel * HZ_PER_MEL, LINEAR_HZ * np.exp(RATIO_PER_MEL * above))
