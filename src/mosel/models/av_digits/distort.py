"""What makes AV-digits hard: typing errors, noise over speech, and frames that are noisy and partly covered.

Each function takes clean items and a seeded generator. How hard is chosen so that no modality alone suffices
and each pair beats its members, as in the paper's models (§2): `SNR_DB` was set with the accuracy on held-out
voices in view, which is therefore a property of the task set here as much as of the network. Which items are
drawn is not known here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOOR_DB = -100.0
STEPS_PER_DB = 2
"""A log-mel value v stands for FLOOR_DB + v / STEPS_PER_DB decibels."""

NEIGHBOURS = {
    "e": "wrd", "f": "dgr", "g": "fht", "h": "gjn", "i": "uok", "n": "bmh", "o": "ipl", "r": "etf", "s": "adx",
    "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "z": "xas",
}  # fmt: skip
"""Keys beside each letter that occurs in a digit word, on a QWERTY keyboard."""

ERROR_SHARE = (0.2, 0.9)
SNR_DB = (10.0, 30.0)
MOST_SILENT_FRAMES = 8
GREY_SIGMA = (30.0, 90.0)
CONTRAST = (0.5, 1.0)
COVER_PIXELS = (10, 17)
MOST_SHIFT = 2


def mistype(word: str, limit: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return `word` with typing errors as ASCII codes: at least one letter and at most `limit`.

    Each letter is, with one probability a word, left out (half the time) or replaced by a neighbouring key or
    by any letter (a quarter each).
    """
    share = rng.uniform(*ERROR_SHARE)
    typed = "".join(_mistyped(letter, rng) if rng.random() < share else letter for letter in word)
    return np.frombuffer((typed or word[0])[:limit].encode("ascii"), np.uint8)


def add_noise(
    clips: Sequence[NDArray[np.uint8]], limit: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Return `clips`, each (frames, mels), with silence around and noise over them, `limit` frames at most.

    Noise has a random slope over frequency and, per clip, a level below the speech drawn from `SNR_DB`.
    """
    padded = [_with_silence(clip, limit, rng) for clip in clips]
    ends = np.cumsum([len(clip) for clip in padded])
    owner = np.repeat(np.arange(len(padded)), [len(clip) for clip in padded])
    power = 10 ** ((np.concatenate(padded) / STEPS_PER_DB + FLOOR_DB) / 10)
    speech = np.array([part.max(axis=1).mean() for part in np.split(power, ends[:-1])])
    noise = speech * 10 ** (-rng.uniform(*SNR_DB, len(padded)) / 10)
    slope_db = rng.uniform(-12, 6, len(padded))[:, None] * np.linspace(0, 1, power.shape[1])
    level = (noise[:, None] * 10 ** (slope_db / 10))[owner]
    noisy_db = 10 * np.log10(power + level * rng.gamma(2.0, 0.5, power.shape))
    steps = np.clip(np.round((noisy_db - FLOOR_DB) * STEPS_PER_DB), 0, 255).astype(np.uint8)
    return np.split(steps, ends[:-1])


def cover(
    images: NDArray[np.uint8],
    frames: int,
    rng: np.random.Generator,
    pixels: tuple[int, int] = COVER_PIXELS,
    grey_sigma: tuple[float, float] = GREY_SIGMA,
) -> NDArray[np.uint8]:
    """Return a shaking, noisy clip of each image, a patch drifting over it: (images, frames, side, side).

    `pixels` are the least side of the patch and one more than the most, `grey_sigma` the range of the noise.
    """
    count, side = len(images), images.shape[1]
    margin = ((0, 0), (MOST_SHIFT, MOST_SHIFT), (MOST_SHIFT, MOST_SHIFT))
    room = np.pad(images, margin)
    top, left = rng.integers(0, 2 * MOST_SHIFT + 1, (2, count, frames))
    rows = (top[..., None] + np.arange(side))[..., :, None]
    columns = (left[..., None] + np.arange(side))[..., None, :]
    seen = room[np.arange(count)[:, None, None, None], rows, columns].astype(np.float32)
    seen *= rng.uniform(*CONTRAST, (count, 1, 1, 1)).astype(np.float32)
    patch = _patch(count, frames, side, pixels, rng)
    grey = rng.uniform(0, 255, (count, 1, 1, 1)).astype(np.float32)
    sigma = rng.uniform(*grey_sigma, (count, 1, 1, 1)).astype(np.float32)
    noisy = np.where(patch, grey, seen) + sigma * rng.standard_normal(seen.shape, np.float32)
    video: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return video


def _mistyped(letter: str, rng: np.random.Generator) -> str:
    neighbour = NEIGHBOURS[letter][rng.integers(len(NEIGHBOURS[letter]))]
    stray = chr(ord("a") + rng.integers(26))
    return (neighbour, stray, "", "")[rng.integers(4)]


def _with_silence(clip: NDArray[np.uint8], limit: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    before, after = rng.integers(0, MOST_SILENT_FRAMES + 1, 2)
    return np.pad(clip, ((before, after), (0, 0)))[:limit]


def _patch(
    count: int, frames: int, side: int, pixels: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return where a rectangle covers each frame; it moves evenly from one random place to another."""
    size = rng.integers(*pixels, (2, count, 1))
    begin, end = rng.uniform(0, 1, (2, 2, count, 1))
    way = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    corner = (begin + (end - begin) * way) * (side - size)
    inside = (np.arange(side) >= corner[..., None]) & (np.arange(side) < (corner + size)[..., None])
    covered: NDArray[np.bool_] = inside[0][..., :, None] & inside[1][..., None, :]
    return covered
