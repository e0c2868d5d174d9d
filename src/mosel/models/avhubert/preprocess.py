"""From what a client sends to what AV-HuBERT takes: stacked log-mel windows, the middle of the mouth's region.

One function a modality, run only when it is chosen. Torch is not needed here.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mosel.models.avhubert.shape import BANDS, FRAMES_HZ, SIDE, STACKED
from mosel.models.waves import check_rate, check_wave

Arrays = Mapping[str, NDArray[Any]]

RATE_HZ = 16_000
WINDOW, HOP, TRANSFORM = 400, 160, 512
SAMPLES_A_FRAME = HOP * STACKED
SIDES = (SIDE, 96)
"""Of the mouth's region as it arrives: cut already, or as data sets are usually prepared."""

EMPHASIS = 0.97
FULL_SCALE = 32_768
TINY = float(np.finfo(np.float64).eps)
EPS = 1e-5


def audio(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return `audio`, (requests, frames, BANDS × STACKED): log-mel energies, each frame's mean 0, deviation 1.

    Args:
        arrays: `audio`, waveforms from −1 to 1 of shape (requests, samples); `audio_rate`, in samples a second,
            of shape (requests, 1).

    Raises:
        ValueError: another rate, or samples that are no numbers or beyond −1 to 1.
    """
    check_rate(arrays["audio_rate"], RATE_HZ)
    check_wave(arrays["audio"])
    stacked = _stacked(np.log(_mel_energies(arrays["audio"] * FULL_SCALE)))
    centred = stacked - stacked.mean(axis=2, keepdims=True)
    return {"audio": (centred / np.sqrt(stacked.var(axis=2, keepdims=True) + EPS)).astype(np.float32)}


def video(arrays: Arrays) -> dict[str, NDArray[np.uint8]]:
    """Return `video`, (requests, frames, SIDE, SIDE): the middle of each frame.

    Args:
        arrays: `video`, grey levels of the mouth's region, (requests, frames, side, side), side being one of
            `SIDES`; `video_rate`, in frames a second, of shape (requests, 1).

    Raises:
        ValueError: another rate or another side.
    """
    check_rate(arrays["video_rate"], FRAMES_HZ)
    frames = arrays["video"]
    height, width = frames.shape[2:]
    if height != width or height not in SIDES:
        raise ValueError(
            f"frames of {height} × {width}; expected the mouth's region, "
            + " or ".join(f"{side} × {side}" for side in SIDES)
        )
    start = (height - SIDE) // 2
    return {"video": np.ascontiguousarray(frames[:, :, start : start + SIDE, start : start + SIDE])}


def _mel_energies(waves: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (requests, windows, BANDS): energies in bands of the emphasised wave, windows being rectangles."""
    sharp = waves.astype(np.float64)
    sharp[:, 1:] -= EMPHASIS * waves[:, :-1]
    windows = 1 + max(0, -(-(waves.shape[1] - WINDOW) // HOP))
    padded = np.pad(sharp, ((0, 0), (0, (windows - 1) * HOP + WINDOW - waves.shape[1])))
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    spectrum = fft.rfft(cut, TRANSFORM, axis=2)
    energies = ((spectrum.real**2 + spectrum.imag**2) / TRANSFORM) @ _bands().T
    return np.where(energies == 0, TINY, energies)


def _stacked(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = -windows.shape[1] % STACKED
    whole = np.pad(windows, ((0, 0), (0, missing), (0, 0)))
    return whole.reshape(len(whole), -1, STACKED * BANDS)


@functools.cache
def _bands() -> NDArray[np.float64]:
    """Return triangles over a transform's frequencies, (BANDS, TRANSFORM // 2 + 1), evenly spaced in mel.

    The mel scale is 2595 · log10(1 + hertz / 700), and edges are rounded down to whole frequencies.
    """
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    edges = np.floor((TRANSFORM + 1) * hertz / RATE_HZ)
    places = np.arange(TRANSFORM // 2 + 1)
    lower, middle, upper = (edges[i : BANDS + i, None] for i in range(3))
    rising, falling = (places - lower) / (middle - lower), (upper - places) / (upper - middle)
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles
