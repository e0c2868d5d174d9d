"""What `tbn-small` is trained and measured on: a written digit that moves, and its word, said while it does.

Made from AV-digits. Nobody filmed a kitchen: the noun is the digit, the verb is what it does (`VERBS`). A frame
is blurred by the movement, of which it so shows the kind but not the way; flow, computed from frames (Lucas and
Kanade 1981), shows the movement and little of the digit; the word grows louder where the digit comes nearer,
fades where it goes away, and is level where it turns. All three together are needed to be right.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from mosel.models.av_digits.data import MOST_FRAMES, SIDE, Split, Varying, balanced, spoken, written
from mosel.models.av_digits.distort import add_noise
from mosel.models.av_digits.voice import RATE_HZ as WHISPER_HZ
from mosel.models.av_digits.voice import whispers
from mosel.models.base import Samples
from mosel.models.tbn.preprocess import AUDIO_SAMPLES, RATE_HZ

VERBS = ("come nearer", "go away", "turn left", "turn right")
FRAME = 40
"""The side of the frames, in pixels."""

SHOWN, PAUSE = 6, 2
"""Frames of each segment, between which flow is computed; and frames that pass from one segment to the next."""

GROWTH = (0.03, 0.06)
TURN = (0.06, 0.12)
"""How much larger, and how much turned in radians, a digit is from one frame to the next."""

SIGMA = (10.0, 60.0)
FLOW_SIGMA = (2.0, 12.0)
STEPS_PER_PIXEL = 32
NONE = 128
FADE_DB = 20.0
HUM = (0.001, 0.02)


def samples(split: Split = Split.TEST, count: int = 400, seed: int = 0, segments: int = 3) -> Samples:
    """Return `count` labelled samples of `split`, balanced by digit; the same for the same seed."""
    drawn = drawing(split, count, np.random.default_rng([seed, split]), segments=segments)
    source = f"moving AV-digits, {split.name.lower()} voices and images, {count} samples, seed {seed}"
    return Samples(drawn.inputs, drawn.labels, source)


def drawing(
    split: Split, count: int, rng: np.random.Generator, vary: Varying | None = None, segments: int = 3
) -> Samples:
    """Return samples drawn by `rng`; `vary` as for `av_digits.data.draw`. Labels are verbs and nouns."""
    nouns = balanced(count, rng)
    verbs = rng.integers(0, len(VERBS), count)
    images = written(split, nouns, rng)
    clips = add_noise(spoken(split, nouns, rng, vary), MOST_FRAMES, rng)
    shown = np.stack([_moved(image, verb, segments, rng) for image, verb in zip(images, verbs, strict=True)])
    sound = np.stack([_said(clip, verb, segments, rng) for clip, verb in zip(clips, verbs, strict=True)])
    rates = np.full((count, 1), RATE_HZ, np.int32)
    return Samples(
        {
            "rgb": {"rgb": _photographed(shown, rng)},
            "flow": {"flow": _flow(shown, rng)},
            "audio": {"audio": sound, "audio_rate": rates},
        },
        np.stack([verbs, nouns], axis=1),
    )


def _moved(image: NDArray[np.uint8], verb: int, segments: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (segments, SHOWN, FRAME, FRAME): the digit as it moves, around the middle of its way."""
    times = np.arange(segments * (SHOWN + PAUSE)).reshape(segments, -1)[:, :SHOWN]
    times = times - times.mean()
    growth = {0: 1, 1: -1}.get(verb, 0) * rng.uniform(*GROWTH)
    turn = {2: 1, 3: -1}.get(verb, 0) * rng.uniform(*TURN)
    scales = 0.9 * rng.uniform(0.9, 1.1) * np.exp(growth * times)
    angles = rng.uniform(-0.2, 0.2) + turn * times
    middle, place = (SIDE - 1) / 2, (FRAME - 1) / 2 + rng.uniform(-2, 2, 2)
    out = np.empty((*times.shape, FRAME, FRAME), np.float32)
    pixels = image.astype(np.float32)
    for at in np.ndindex(times.shape):
        cos, sin = np.cos(angles[at]) / scales[at], np.sin(angles[at]) / scales[at]
        matrix = np.array([[cos, -sin], [sin, cos]])
        ndimage.affine_transform(pixels, matrix, middle - matrix @ place, output=out[at], order=1)
    return out


def _photographed(shown: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (samples, segments, FRAME, FRAME, 3): each segment's frames in one exposure, tinted and noisy."""
    count = len(shown)
    blurred = shown.mean(axis=2)[..., None] * rng.uniform(0.5, 1, (count, 1, 1, 1, 3)).astype(np.float32)
    sigma = rng.uniform(*SIGMA, (count, 1, 1, 1, 1)).astype(np.float32)
    noisy = blurred + 20 + sigma * rng.standard_normal(blurred.shape, np.float32)
    photographed: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return photographed


def _flow(shown: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (samples, segments, 10, FRAME, FRAME): x and y of the flow from each frame to the next in turn."""
    sigma = rng.uniform(*FLOW_SIGMA, (len(shown), 1, 1, 1, 1)).astype(np.float32)
    noisy = ndimage.gaussian_filter(
        shown + sigma * rng.standard_normal(shown.shape, np.float32), (0, 0, 0, 1, 1)
    )
    before, after = noisy[:, :, :-1], noisy[:, :, 1:]
    both = (before + after) / 2
    down, right = np.gradient(both, axis=(3, 4))
    moved = optical_flow(right, down, after - before)
    steps = np.clip(NONE + STEPS_PER_PIXEL * moved, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(steps.transpose(0, 1, 3, 2, 4, 5).reshape(*shown.shape[:2], -1, FRAME, FRAME))


def optical_flow(
    right: NDArray[np.float32], down: NDArray[np.float32], later: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return x and y of the flow, in pixels a frame, (…, 2, …, height, width), by Lucas and Kanade.

    Args:
        right: how much brighter it is one pixel to the right, (samples, segments, pairs, height, width).
        down: one pixel below, likewise.
        later: one frame later, likewise.
    """

    def around(values: NDArray[Any]) -> NDArray[Any]:
        means: NDArray[Any] = ndimage.uniform_filter(values, (0, 0, 0, 7, 7), mode="constant")
        return means

    xx, yy, xy = around(right * right) + 25, around(down * down) + 25, around(right * down)
    xt, yt = around(right * later), around(down * later)
    determinant = xx * yy - xy * xy
    flow = np.stack([(xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant])
    found: NDArray[np.float32] = flow.transpose(1, 2, 0, 3, 4, 5)
    return found


def _said(clip: NDArray[np.uint8], verb: int, segments: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (segments, AUDIO_SAMPLES): the word whispered anew in each, somewhere in a quiet hum."""
    out = rng.uniform(*HUM) * rng.standard_normal((segments, AUDIO_SAMPLES))
    for row, whisper in zip(out, whispers([clip] * segments, rng), strict=True):
        wave = signal.resample_poly(whisper, RATE_HZ // 8000, WHISPER_HZ // 8000)
        slope = {0: 1, 1: -1}.get(verb, 0) + rng.normal(0, 0.3)
        wave *= 10 ** (slope * FADE_DB / 20 * np.linspace(-0.5, 0.5, len(wave)))
        start = int(rng.integers(0, AUDIO_SAMPLES - len(wave) + 1))
        row[start : start + len(wave)] += wave * 0.5 / np.abs(wave).max()
    return np.clip(out, -1, 1).astype(np.float32)
