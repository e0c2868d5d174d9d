"""What lets networks that have heard few voices be right about others: each clip as if another had said it.

For training alone; what is measured is never varied.
"""

import numpy as np
from numpy.typing import NDArray

from mosel.models.av_digits.data import MELS, MOST_FRAMES
from mosel.models.av_digits.distort import STEPS_PER_DB

STRETCH = (0.8, 1.25)
PACE_SIGMA = 0.25
MEL_WARP = 0.15
MEL_SHIFT = 2.0
EQUALISER_DB = 3.0
RANGE_SHARE = (0.85, 1.15)


def another_voice(clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return `clip`, (frames, mels), as if another had said it: other pace, vocal tract, timbre and dynamics.

    The pace changes along the word and the mel scale is stretched apart on either side of a random band.
    """
    frames = min(MOST_FRAMES, round(len(clip) * rng.uniform(*STRETCH)))
    pace = np.cumsum([0, *np.exp(rng.normal(0, PACE_SIGMA, 4))])
    times = np.interp(np.linspace(0, pace[-1], frames), pace, np.linspace(0, len(clip) - 1, 5))
    pivot, (below, above) = rng.uniform(MELS / 4, MELS * 3 / 4), np.exp(rng.uniform(-MEL_WARP, MEL_WARP, 2))
    away = np.arange(MELS) - pivot
    mels = pivot + away * np.where(away < 0, below, above) + rng.uniform(-MEL_SHIFT, MEL_SHIFT)
    spoken = _between(_between(clip.astype(np.float32), times).T, np.clip(mels, 0, MELS - 1)).T
    gain_db = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, 5), rng.normal(0, EQUALISER_DB, 5))
    heard = spoken + gain_db * STEPS_PER_DB
    squeezed = heard.max() - (heard.max() - heard) * rng.uniform(*RANGE_SHARE)
    varied: NDArray[np.uint8] = np.clip(squeezed, 0, 255).astype(np.uint8)
    return varied


def _between(values: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return rows of `values` at `places` between them, interpolated linearly."""
    before = np.minimum(places.astype(np.int64), len(values) - 2)
    share = (places - before)[:, None].astype(np.float32)
    between: NDArray[np.float32] = values[before] * (1 - share) + values[before + 1] * share
    return between
