"""A made-up day that is like a real one: its shape, spikes, slow wander, and counts more spread than Poisson's.

`scripts/fit_daily.py` fits the parameters to a real series; those of Twitter's are in `twitter.py`, the series
itself is no part of the package. A spike begins at any minute, holds its height and then falls evenly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Daily:
    """What a series' days are like.

    Attributes:
        day: requests per second without spikes: a constant, then cosine and sine of each harmonic of 24 hours.
        spikes_a_day: their mean number; they come independently of each other.
        lengths_min: evenly spaced quantiles of how many minutes spikes last.
        heights_rps: such quantiles of what spikes add to the rate in their greatest minute.
        held: the share of a spike that is over before it falls.
        wander: standard deviation of a factor on the rate without spikes, of mean 1.
        wander_kept: correlation of that factor with the next minute's.
        variance_of_mean: variance of the counts of seconds within a minute, over their mean; above 1.
    """

    day: tuple[float, ...]
    spikes_a_day: float
    lengths_min: tuple[float, ...]
    heights_rps: tuple[float, ...]
    held: float
    wander: float
    wander_kept: float
    variance_of_mean: float


def daily_rates(like: Daily, steps: int, rng: np.random.Generator) -> Floats:
    """Return a day's expected requests per second, of shape (steps,), spikes included.

    A day of fewer steps than minutes is compressed: a step is the mean over its part of the day.
    """
    rates = quiet_rates(like) * _wander(like, rng) + _spikes(like, rng)
    edges = np.linspace(0, MINUTES, steps + 1)
    reached = np.interp(edges, np.arange(MINUTES + 1), np.concatenate([[0.0], np.cumsum(rates)]))
    means: Floats = np.diff(reached) / np.diff(edges)
    return means


def quiet_rates(like: Daily) -> Floats:
    """Return requests per second in each minute of a day that has no spikes, of shape (1440,)."""
    rates: Floats = harmonics(len(like.day) // 2) @ np.array(like.day)
    return rates


def harmonics(count: int) -> Floats:
    """Return a constant and `count` cosines and sines of the time of day, of shape (1440, 1 + 2 · count)."""
    angle = 2 * np.pi * (np.arange(MINUTES) + 0.5) / MINUTES
    waves = [wave(order * angle) for order in range(1, count + 1) for wave in (np.cos, np.sin)]
    return np.column_stack([np.ones(MINUTES), *waves])


def spread_counts(like: Daily, expected: Floats, rng: np.random.Generator) -> Counts:
    """Draw counts of these means whose variance over mean is the series'.

    They are negative binomial: Poisson with a rate that is itself drawn anew each second, from a gamma.
    """
    excess = like.variance_of_mean - 1
    return rng.poisson(rng.gamma(expected / excess, excess)).astype(np.int64)


def _wander(like: Daily, rng: np.random.Generator) -> Floats:
    """Return a factor for each minute, of shape (1440,): an autoregressive walk that never reaches 0."""
    drawn = rng.standard_normal(MINUTES) * like.wander * (1 - like.wander_kept**2) ** 0.5
    drawn[0] = rng.standard_normal() * like.wander
    for minute in range(1, MINUTES):
        drawn[minute] += like.wander_kept * drawn[minute - 1]
    factors: Floats = np.exp(drawn - like.wander**2 / 2)
    return factors


def _spikes(like: Daily, rng: np.random.Generator) -> Floats:
    """Return what spikes add in each minute, of shape (1440,); where two meet, the higher one counts."""
    added = np.zeros(MINUTES)
    for _ in range(int(rng.poisson(like.spikes_a_day))):
        start = int(rng.integers(MINUTES))
        share = rng.random()  # spikes that last are high: one draw decides both
        length_min = max(1, round(_quantile(like.lengths_min, share)))
        since = (np.arange(length_min) + 0.5) / length_min
        spike = _quantile(like.heights_rps, share) * np.clip((1 - since) / (1 - like.held), 0, 1)
        end = min(start + length_min, MINUTES)
        added[start:end] = np.maximum(added[start:end], spike[: end - start])
    return added


def _quantile(table: tuple[float, ...], share: float) -> float:
    return float(np.interp(share, np.linspace(0, 1, len(table)), table))
