"""What `tvlt-small` is trained and measured on: a digit said and seen; large ones count as positive.

Made from AV-digits, which pairs both by class: speech as whispers (`av_digits/voice.py`), a written digit in
place of a face. Nobody's sentiment was asked: it is (digit − 4.5) / 1.5, from −3 to 3, so that the network
keeps the head of its published size.
"""

import numpy as np

from mosel.models.av_digits import distort
from mosel.models.av_digits.data import MOST_FRAMES, VIDEO_FRAMES, Split, Varying, balanced, spoken, written
from mosel.models.av_digits.voice import RATE_HZ, whispers
from mosel.models.base import Samples

MIDDLE, STEP = 4.5, 1.5
COVER_PIXELS, GREY_SIGMA = (6, 11), (30.0, 80.0)
DARKEST, CONTRAST = 48, 0.75
"""Grey levels are brought into this range, in which nothing is taken for a clip's dark border."""


def samples(split: Split = Split.TEST, count: int = 1000, seed: int = 0) -> Samples:
    """Return `count` labelled samples of `split`, balanced by digit; the same for the same seed."""
    drawn = drawing(split, count, np.random.default_rng([seed, split]))
    source = f"whispered AV-digits, {split.name.lower()} voices and images, {count} samples, seed {seed}"
    return Samples(drawn.inputs, drawn.labels, source)


def drawing(split: Split, count: int, rng: np.random.Generator, vary: Varying | None = None) -> Samples:
    """Return samples drawn by `rng`; `vary` as for `av_digits.data.draw`."""
    digits = balanced(count, rng)
    clips = distort.add_noise(spoken(split, digits, rng, vary), MOST_FRAMES, rng)
    shown = distort.cover(written(split, digits, rng), VIDEO_FRAMES, rng, COVER_PIXELS, GREY_SIGMA)
    grey = (DARKEST + CONTRAST * shown).astype(np.uint8)
    return Samples(
        {
            "audio": {
                "audio": whispers(clips, rng),
                "audio_rate": np.full((count, 1), RATE_HZ, np.int32),
            },
            "video": {"video": np.repeat(grey[..., None], 3, axis=4)},
        },
        (digits - MIDDLE) / STEP,
    )
