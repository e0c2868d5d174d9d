"""What `avhubert-small` is trained and measured on: digits said in a row, and written while they are said.

Made from AV-digits, which pairs both by class: speech as whispers (`av_digits/voice.py`), each word by a voice
of its own; in place of lips a written digit, shaking and partly covered, for as long as its word lasts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.models.av_digits import distort
from mosel.models.av_digits.data import MOST_FRAMES, WORDS, Split, Varying, spoken, written
from mosel.models.av_digits.voice import RATE_HZ, whispers
from mosel.models.avhubert.shape import FRAMES_HZ
from mosel.models.base import Samples

DIGITS = (2, 4)
"""The fewest and the most digits of a clip."""

SAMPLES_A_FRAME = RATE_HZ // FRAMES_HZ
LONGEST_FRAMES = 27
"""Of one digit: 80 hops of speech, one window more, and rounding."""

COVER_PIXELS, GREY_SIGMA = (6, 11), (30.0, 80.0)
MARGIN, LARGER = 2, 3
"""A digit of 28 × 28 pixels is drawn three times as large, in the middle of 88 × 88."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """Samples, and for each of them which digit is said in which frame, (frames,)."""

    samples: Samples
    digits: list[NDArray[np.int64]]


def samples(split: Split = Split.TEST, count: int = 240, seed: int = 0) -> Samples:
    """Return `count` clips of `split` and their transcripts; the same for the same seed."""
    drawn = drawing(split, count, np.random.default_rng([seed, split]))
    source = f"rows of AV-digits, {split.name.lower()} voices and images, {count} clips, seed {seed}"
    return Samples(drawn.inputs, drawn.labels, source)


def drawing(split: Split, count: int, rng: np.random.Generator, vary: Varying | None = None) -> Samples:
    """Return clips drawn by `rng`; `vary` as for `av_digits.data.draw`."""
    return aligned(split, count, rng, vary).samples


def aligned(split: Split, count: int, rng: np.random.Generator, vary: Varying | None = None) -> Aligned:
    """Return clips drawn by `rng`, and what is said when."""
    sizes = rng.integers(DIGITS[0], DIGITS[1] + 1, count)
    said = rng.integers(0, len(WORDS), sizes.sum())
    waves = whispers(distort.add_noise(spoken(split, said, rng, vary), MOST_FRAMES, rng), rng)
    pictures = shown(written(split, said, rng), LONGEST_FRAMES, rng)
    ends = np.cumsum(sizes)
    clips = [_clip(waves[end - size : end], said[end - size : end], pictures[end - size : end])
             for size, end in zip(sizes, ends, strict=True)]  # fmt: skip
    rates = np.ones((count, 1), np.int32)
    words = [
        " ".join(WORDS[digit] for digit in said[end - size : end])
        for size, end in zip(sizes, ends, strict=True)
    ]
    return Aligned(
        Samples(
            {
                "audio": {"audio": [wave for wave, _, _ in clips], "audio_rate": rates * RATE_HZ},
                "video": {"video": [video for _, video, _ in clips], "video_rate": rates * FRAMES_HZ},
            },
            np.array(words),
        ),
        [digits for _, _, digits in clips],
    )


def _clip(
    waves: list[NDArray[np.float32]], said: NDArray[np.int64], pictures: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Return the sound of one clip, its frames, (frames, 88, 88), and the digit of each frame."""
    wave = np.concatenate(waves)
    ends = np.cumsum([len(part) for part in waves])
    ends = np.ceil(ends / SAMPLES_A_FRAME).astype(int)
    lengths = np.diff(ends, prepend=0)
    lasting = [frames[:length] for frames, length in zip(pictures, lengths, strict=True)]
    return wave, enlarged(np.concatenate(lasting)), np.repeat(said, lengths)


def shown(images: NDArray[np.uint8], frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a clip of each image, (images, frames, 28, 28), shaking, noisy and partly covered."""
    return distort.cover(images, frames, rng, COVER_PIXELS, GREY_SIGMA)


def enlarged(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (…, 88, 88) of digits (…, 28, 28)."""
    large = frames.repeat(LARGER, axis=-2).repeat(LARGER, axis=-1)
    return np.pad(large, (*[(0, 0)] * (frames.ndim - 2), (MARGIN, MARGIN), (MARGIN, MARGIN)))
