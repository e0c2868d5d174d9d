"""From what a client sends to what AV-HuBERT takes: stacked log-mel windows, the middle of the mouth's region.

One function a modality, run only when it is chosen. Zeros at the end of a waveform and black frames at the end
of a clip fill a job's shorter requests up, and count as nothing. Torch is not needed here.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mosel.models.avhubert.shape import BANDS, FRAMES_HZ, SIDE, STACKED
from mosel.models.waves import check_rate, check_wave, until_zeros

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

    There are as many frames as the longest request has; zeros fill the others up.

    Args:
        arrays: `audio`, waveforms from −1 to 1 of shape (requests, samples); `audio_rate`, in samples a second,
            of shape (requests, 1).

    Raises:
        ValueError: another rate, samples that are no numbers or beyond −1 to 1, or zeros only.
    """
    check_rate(arrays["audio_rate"], RATE_HZ)
    check_wave(arrays["audio"])
    heard = [_frames(until_zeros(wave, request)) for request, wave in enumerate(arrays["audio"])]
    out = np.zeros((len(heard), max(map(len, heard)), STACKED * BANDS), np.float32)
    for place, frames in zip(out, heard, strict=True):
        place[: len(frames)] = frames
    return {"audio": out}


def video(arrays: Arrays) -> dict[str, NDArray[np.uint8]]:
    """Return `video`, (requests, frames, SIDE, SIDE): the middle of each frame.

    Args:
        arrays: `video`, grey levels of the mouth's region, (requests, frames, side, side), side being one of
            `SIDES`; `video_rate`, in frames a second, of shape (requests, 1).

    Raises:
        ValueError: another rate or another side, or black frames only.
    """
    check_rate(arrays["video_rate"], FRAMES_HZ)
    frames = arrays["video"]
    height, width = frames.shape[2:]
    if height != width or height not in SIDES:
        raise ValueError(
            f"frames of {height} × {width}; expected the mouth's region, "
            + " or ".join(f"{side} × {side}" for side in SIDES)
        )
    longest = max(len(until_zeros(clip, request)) for request, clip in enumerate(frames))
    middle = slice((height - SIDE) // 2, (height + SIDE) // 2)
    return {"video": np.ascontiguousarray(frames[:, :longest, middle, middle])}


def _frames(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (frames, BANDS × STACKED)."""
    windows = np.log(_mel_energies(wave.astype(np.float64) * FULL_SCALE))
    whole = np.pad(windows, ((0, -len(windows) % STACKED), (0, 0)))
    stacked = whole.reshape(-1, STACKED * BANDS)
    centred = stacked - stacked.mean(axis=1, keepdims=True)
    found: NDArray[np.float64] = centred / np.sqrt(stacked.var(axis=1, keepdims=True) + EPS)
    return found


def _mel_energies(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (windows, BANDS): energies in bands of the emphasised wave, windows being rectangles."""
    sharp = wave.copy()
    sharp[1:] -= EMPHASIS * wave[:-1]
    windows = 1 + max(0, -(-(len(wave) - WINDOW) // HOP))
    padded = np.pad(sharp, (0, (windows - 1) * HOP + WINDOW - len(wave)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = fft.rfft(cut, TRANSFORM, axis=1)
    energies = ((spectrum.real**2 + spectrum.imag**2) / TRANSFORM) @ _bands().T
    return np.where(energies == 0, TINY, energies)


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
