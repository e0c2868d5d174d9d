from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mosel.core.clock import NS_PER_S
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.daily import MINUTES, Daily, daily_rates, quiet_rates, spread_counts
from mosel.evaluation.twitter import TWITTER
from mosel.evaluation.workload import format_workload

from .stand_ins import profile

STILL = replace(TWITTER, spikes_a_day=0.0, wander=0.0)


def per_second(recipe: Recipe) -> np.ndarray:
    """Return how many requests of a made workload arrive in each second."""
    counts = np.zeros(round(recipe.duration_s), dtype=int)
    for job in generate(recipe, profile()).jobs:
        counts[job.arrival_ns // NS_PER_S] += job.requests
    return counts


def runs(hot: np.ndarray) -> Iterator[int]:
    """Yield the lengths of the unbroken stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hot.astype(int), [0]])))
    yield from (int(end - start) for start, end in list(pairwise(edges))[::2])


def test_without_spikes_and_wander_a_day_is_its_harmonics() -> None:
    """The shape alone is left, which is highest in the hours that the first harmonics say."""
    day = daily_rates(STILL, MINUTES, np.random.default_rng(0))
    assert day == pytest.approx(quiet_rates(TWITTER))
    plain = Daily((10.0, -4.0, 0.0), 0.0, (1.0,), (0.0,), 0.5, 0.0, 0.0, 1.2)
    assert np.argmax(quiet_rates(plain)) // 60 in (11, 12)
    assert quiet_rates(plain).max() == pytest.approx(14, abs=0.01)


def test_a_day_of_any_length_has_the_same_mean() -> None:
    """Compressing a day averages it: its mean is kept."""
    means = [daily_rates(TWITTER, steps, np.random.default_rng(3)).mean() for steps in (7, 60, MINUTES, 5000)]
    assert means == pytest.approx([means[0]] * 4)


def test_spikes_come_as_often_as_they_should_and_stay_within_their_heights() -> None:
    """Over many days the number of spikes is the one given; none adds more than the highest."""
    like = replace(STILL, spikes_a_day=3.0, lengths_min=(5.0, 5.0), heights_rps=(100.0, 200.0))
    days = [daily_rates(like, MINUTES, np.random.default_rng(seed)) - quiet_rates(like) for seed in range(100)]
    added = np.concatenate(days)
    found = list(runs(added > 1e-9))
    assert abs(len(found) - 300) < 4 * 300**0.5
    assert 150 < added.max() <= 200 + 1e-9
    assert np.median(found) == 5


def test_counts_are_more_spread_than_poisson_s_by_what_was_given() -> None:
    """Mean and variance are those of the parameters, within what 200,000 draws leave open."""
    counts = spread_counts(
        replace(STILL, variance_of_mean=1.5), np.full(200_000, 40.0), np.random.default_rng(1)
    )
    assert counts.mean() == pytest.approx(40, rel=0.002)
    assert counts.var() / counts.mean() == pytest.approx(1.5, rel=0.02)


def test_a_daily_workload_keeps_its_mean_rate_or_both_ends() -> None:
    """A mean scales the day; a least and a greatest rate are the day's lowest and highest, as in §7.1."""
    assert per_second(Recipe("daily", 300, 2, rate_rps=80)).mean() == pytest.approx(80, rel=0.03)
    counts = per_second(Recipe("daily", 300, 2, least_rps=5, most_rps=400))
    assert counts[np.argsort(counts)[:3]].max() < 20
    assert 300 < counts.max() < 500


def test_the_same_seed_gives_the_same_day_and_another_does_not() -> None:
    """A day is a function of its recipe."""
    recipe = Recipe("daily", 10, 5, rate_rps=30)
    first, again = (format_workload(generate(recipe, profile())) for _ in range(2))
    assert first == again
    assert first != format_workload(generate(replace(recipe, seed=6), profile()))
