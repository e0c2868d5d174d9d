"""From what a client sends to what TBN takes: frames are cut and scaled, sound becomes a spectrogram.

One function a modality, run only when it is chosen. Torch is not needed here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, signal

from mosel.models.waves import check_rate, check_wave, until_zeros

Arrays = Mapping[str, NDArray[Any]]

RATE_HZ = 24_000
WINDOW = RATE_HZ * 10 // 1000
HOP = RATE_HZ * 5 // 1000
AUDIO_SAMPLES = round(1.279 * RATE_HZ)
TRANSFORM = 511
FREQUENCIES = TRANSFORM // 2 + 1
TIMES = 1 + AUDIO_SAMPLES // HOP
FLOOR = 1e-6
"""Added to the power, so that silence has a logarithm."""

CUT = 224 / 256
"""The side of the middle square that is kept, relative to the shorter side of the frame."""


def rgb(arrays: Arrays, side: int) -> dict[str, NDArray[np.uint8]]:
    """Return `rgb`, (requests, segments, 3, side, side) as blue, green and red.

    Args:
        arrays: `rgb`, red, green and blue of shape (requests, segments, height, width, 3).
        side: in pixels.

    Raises:
        ValueError: a request is black throughout.
    """
    frames = _shown(arrays["rgb"])
    out = np.empty((*frames.shape[:2], 3, side, side), np.uint8)
    for place in np.ndindex(frames.shape[:2]):
        scaled = np.asarray(_middle(Image.fromarray(frames[place]), side))
        out[place] = scaled[:, :, ::-1].transpose(2, 0, 1)
    return {"rgb": out}


def flow(arrays: Arrays, side: int) -> dict[str, NDArray[np.uint8]]:
    """Return `flow`, (requests, segments, 10, side, side).

    Args:
        arrays: `flow`, x and y of five frames in turn as grey levels, 128 being no movement, of shape
            (requests, segments, 10, height, width).
        side: in pixels.

    Raises:
        ValueError: a request holds zeros only.
    """
    frames = _shown(arrays["flow"])
    out = np.empty((*frames.shape[:3], side, side), np.uint8)
    for place in np.ndindex(frames.shape[:3]):
        out[place] = np.asarray(_middle(Image.fromarray(frames[place]), side))
    return {"flow": out}


def audio(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return `audio`, logarithms of power of shape (requests, segments, FREQUENCIES, TIMES).

    Args:
        arrays: `audio`, waveforms from −1 to 1 of shape (requests, segments, AUDIO_SAMPLES); `audio_rate`, in
            samples a second, of shape (requests, 1).

    Raises:
        ValueError: another rate, samples that are no numbers or beyond −1 to 1, or zeros only.
    """
    waves = _shown(arrays["audio"])
    check_rate(arrays["audio_rate"], RATE_HZ)
    check_wave(waves)
    half = TRANSFORM // 2
    padded = np.pad(waves, [(0, 0)] * (waves.ndim - 1) + [(half, half)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, TRANSFORM, axis=-1)[..., ::HOP, :]
    spectrum = fft.rfft(windows * _window(), axis=-1)
    power = spectrum.real**2 + spectrum.imag**2
    return {"audio": np.ascontiguousarray(np.log(power + FLOOR).swapaxes(-1, -2), np.float32)}


def _shown(requests: NDArray[Any]) -> NDArray[Any]:
    """Return requests none of which is empty."""
    for number, request in enumerate(requests):
        until_zeros(request, number)
    return requests


def _middle(frame: Image.Image, side: int) -> Image.Image:
    """Return the middle square, scaled in one step: nothing larger is ever made of a narrow frame."""
    width, height = frame.size
    kept = min(width, height) * CUT
    left, upper = (width - kept) / 2, (height - kept) / 2
    box = (left, upper, left + kept, upper + kept)
    return frame.resize((side, side), Image.Resampling.BILINEAR, box=box)


def _window() -> NDArray[np.float32]:
    """Return a periodic Hann window in the middle of the transform."""
    before = (TRANSFORM - WINDOW) // 2
    window = signal.get_window("hann", WINDOW)
    return np.pad(window, (before, TRANSFORM - WINDOW - before)).astype(np.float32)
