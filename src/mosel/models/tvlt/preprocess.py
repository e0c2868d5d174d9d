"""From what a client sends to what TVLT takes: a waveform to log-mels, frames to eight small square ones.

One function a modality, run only when it is chosen. Zeros at the end of a waveform, and black frames at the end
of a clip, are what fills a job's shorter requests up, and count as nothing. What raises here names no modality:
`prepare` does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mosel.models.mel import mel_power
from mosel.models.waves import check_rate, check_wave, until_zeros

if TYPE_CHECKING:
    from mosel.models.tvlt import Shape

Arrays = Mapping[str, NDArray[Any]]

FLOOR_POWER = 1e-10
RANGE_DB = 80.0
"""What is further below the loudest is raised to this far below it."""

LOUD_DB, SPAN_DB = 20.0, 40.0
"""A level of LOUD_DB becomes 1, one that is twice SPAN_DB below it −1; so do those beyond."""

BRIGHT = 30
"""A border that is never brighter than this, in any frame and colour, is cut off."""


def audio(arrays: Arrays, *, shape: "Shape") -> dict[str, NDArray[np.float32]]:
    """Return `audio`, levels from −1 to 1 of shape (requests, windows, mels).

    The number of windows is that of the longest request, rounded up to whole patches; −1 fills the others up.

    Args:
        arrays: `audio`, waveforms from −1 to 1 of shape (requests, samples); `audio_rate`, in samples a
            second, of shape (requests, 1).
        shape: of the model.

    Raises:
        ValueError: another rate, samples that are no numbers or beyond −1 to 1, or zeros only.
    """
    check_rate(arrays["audio_rate"], shape.rate_hz)
    check_wave(arrays["audio"])
    levels = [_levels(until_zeros(wave, request), shape) for request, wave in enumerate(arrays["audio"])]
    longest = max(map(len, levels))
    whole = -(-longest // shape.patch) * shape.patch
    out = np.full((len(levels), whole, shape.mels), -1, np.float32)
    for place, level in zip(out, levels, strict=True):
        place[: len(level)] = level
    return {"audio": out}


def video(arrays: Arrays, *, shape: "Shape") -> dict[str, NDArray[np.uint8]]:
    """Return `video`, (requests, frames, 3, side, side): the middle squares of frames spread over the clip.

    Args:
        arrays: `video`, red, green and blue of shape (requests, frames, height, width, 3).
        shape: of the model.

    Raises:
        ValueError: a request is black throughout.
    """
    clips = [
        _scaled(_spread(clip, request, shape.frames), shape.side)
        for request, clip in enumerate(arrays["video"])
    ]
    return {"video": np.stack(clips)}


def _levels(wave: NDArray[np.float32], shape: "Shape") -> NDArray[np.float32]:
    """Return (windows, mels) from −1 to 1, as TVLT was trained on."""
    power = mel_power(wave - wave.mean(), shape.rate_hz, shape.transform, shape.hop, shape.mels)
    decibels = 10 * np.log10(np.maximum(power, FLOOR_POWER))
    raised = np.maximum(decibels, decibels.max() - RANGE_DB)
    levels: NDArray[np.float32] = np.clip((raised - LOUD_DB) / SPAN_DB, -2, 0) + 1
    return levels[: shape.windows].astype(np.float32)


def _spread(clip: NDArray[np.uint8], request: int, frames: int) -> NDArray[np.uint8]:
    shown = until_zeros(clip, request)
    spread: NDArray[np.uint8] = shown[np.linspace(0, len(shown), frames, endpoint=False).astype(int)]
    return spread


def _scaled(frames: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return (frames, 3, side, side) of (frames, height, width, 3), without dark borders, the middle square."""
    import torch  # an optional extra; where a model runs, it is there
    from torch.nn import functional

    square = _middle(_without_borders(frames))
    pixels = torch.from_numpy(np.ascontiguousarray(square.transpose(0, 3, 1, 2))).float()
    scaled = functional.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    found: NDArray[np.uint8] = scaled.round().clamp(0, 255).to(torch.uint8).numpy()
    return found


def _without_borders(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bright = np.asarray((frames > BRIGHT).all(axis=(0, 3)))
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return frames
    return frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _middle(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = -(-(height - side) // 2), -(-(width - side) // 2)
    return frames[:, top : top + side, left : left + side]
