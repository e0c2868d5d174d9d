from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from mosel.core.clock import NS_PER_S, to_ns, to_s
from mosel.core.errors import UsageError
from mosel.evaluation.arrivals import (
    Recipe,
    capacity_rps,
    day_shape,
    full_latency_s,
    generate,
    job_sizes,
)
from mosel.evaluation.workload import Workload, format_workload

from .stand_ins import profile


def per_second(made: Workload, seconds: int) -> list[int]:
    """Return how many requests arrive in each second."""
    counts = [0] * seconds
    for job in made.jobs:
        counts[job.arrival_ns // NS_PER_S] += job.requests
    return counts


def test_constant_reaches_its_rate_in_every_second() -> None:
    """At a constant rate each second has exactly that many requests."""
    made = generate(Recipe("constant", 7, rate_rps=23), profile())
    assert per_second(made, 7) == [23] * 7


def test_constant_rates_below_one_and_parts_of_a_second_add_up() -> None:
    """A fractional rate is reached over the whole duration, a broken last second counted by its width."""
    made = generate(Recipe("constant", 8.5, rate_rps=0.75), profile())
    assert made.requests == 6
    assert all(job.arrival_ns < to_ns(8.5) for job in made.jobs)


def test_constant_arrivals_are_evenly_spaced() -> None:
    """Within a second the jobs of a constant workload arrive at fixed intervals."""
    made = generate(Recipe("constant", 1, rate_rps=40), profile())
    gaps = {after.arrival_ns - before.arrival_ns for before, after in pairwise(made.jobs)}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("kind", ["poisson", "bursty"])
def test_random_arrivals_keep_their_mean(kind: str) -> None:
    """Over a long run the mean rate is the one asked for, within four standard deviations."""
    made = generate(Recipe(kind, 400, rate_rps=50, seed=3), profile())
    assert abs(made.requests - 400 * 50) < 4 * (400 * 50) ** 0.5


def test_bursty_goes_from_its_least_to_its_greatest_rate() -> None:
    """Given a least and a greatest rate, the day's shape is mapped onto them, as in §7.1."""
    made = generate(Recipe("bursty", 600, least_rps=5, most_rps=200, seed=1), profile())
    counts = np.array(per_second(made, 600))
    smooth = np.convolve(counts, np.ones(5) / 5, mode="valid")
    assert smooth.min() < 10
    assert 120 < smooth.max() < 220


def test_the_shape_of_a_day_spans_zero_to_one() -> None:
    """The shape is 0 at its lowest and 1 at its highest, whatever its spikes."""
    for seed in range(20):
        shape = day_shape(100, np.random.default_rng(seed))
        assert (shape.min(), shape.max()) == (0, 1)


def test_sizes_follow_the_paper_and_fill_each_second() -> None:
    """Sizes are int(N(1, 6)) floored at 1, drawn until a second's count is reached, the last one cut (§7.1)."""
    counts = np.full(2000, 60)
    sizes, seconds = job_sizes(counts, np.random.default_rng(0))
    assert (np.bincount(seconds, sizes) == counts).all()
    assert sizes.min() == 1
    drawn = np.maximum(np.random.default_rng(1).normal(1, 6, 10**6).astype(int), 1)
    assert abs(sizes.mean() - drawn.mean()) < 0.15
    assert abs((sizes > 10).mean() - (drawn > 10).mean()) < 0.01


def test_the_same_seed_gives_the_same_workload_and_another_does_not() -> None:
    """A workload is a function of its recipe."""
    recipe = Recipe("bursty", 10, rate_rps=30, seed=5)
    again, other = generate(recipe, profile()), generate(replace(recipe, seed=6), profile())
    assert format_workload(generate(recipe, profile())) == format_workload(again)
    assert format_workload(again) != format_workload(other)


def test_accuracy_slos_lie_between_the_lowest_and_the_highest_mode() -> None:
    """SLOs are spread over the whole range of the profile's accuracies."""
    slos = [job.accuracy_slo for job in generate(Recipe("poisson", 50, rate_rps=100), profile()).jobs]
    assert 0.6 <= min(slos) < 0.61
    assert 0.89 < max(slos) <= 0.9
    assert abs(np.mean(slos) - 0.75) < 0.01


def test_jobs_that_lack_a_modality_ask_for_what_they_can_reach() -> None:
    """About the given share lacks one modality; their SLOs stay within the modes that are left."""
    made = generate(Recipe("poisson", 50, rate_rps=100, lacking=0.3), profile())
    lacking = [job for job in made.jobs if job.modalities]
    assert abs(len(lacking) / len(made.jobs) - 0.3) < 0.05
    assert {job.modalities for job in lacking} == {("audio",)}, "without audio no mode is left"
    assert {job.accuracy_slo for job in lacking} == {0.6}
    assert made.columns == ("modalities",)


def test_relative_slos_follow_the_jobs_own_latency() -> None:
    """A relative latency SLO is a multiple of the job's latency alone, in full batches with all modalities."""
    recipe = Recipe("poisson", 20, rate_rps=30, latency_slo_s=None, latency_factor=5)
    for job in generate(recipe, profile()).jobs:
        assert job.deadline_ns - job.arrival_ns == to_ns(5 * full_latency_s(profile(), job.requests))
    assert full_latency_s(profile(), 9) == pytest.approx(0.09)


def test_capacity_is_one_over_the_full_latency() -> None:
    """Capacity counts batches of one with all modalities: 10 ms give 100 a second."""
    assert capacity_rps(profile()) == pytest.approx(100)


def test_jobs_arrive_in_order_within_the_duration() -> None:
    """Arrivals ascend and end before the duration does."""
    arrivals = [to_s(job.arrival_ns) for job in generate(Recipe("bursty", 12.5, rate_rps=40), profile()).jobs]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 12.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "weekly"}, "expected one of constant, poisson, bursty"),
        ({"duration_s": 0.0}, "expected seconds > 0"),
        ({"rate_rps": float("nan")}, "requests per second > 0"),
        ({"rate_rps": None}, "no rate"),
        ({"kind": "daily", "rate_rps": None}, "no rate"),
        ({"kind": "daily", "least_rps": 5.0}, "both ends, or a mean"),
        ({"kind": "daily", "least_rps": 5.0, "most_rps": 9.0}, "both ends, or a mean"),
        ({"kind": "poisson", "least_rps": 2.0}, "no meaning for poisson"),
        ({"latency_slo_s": None}, "latency SLO"),
        ({"latency_factor": 3.0}, "latency SLO"),
        ({"lacking": 1.5}, "expected 0 to 1"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    """A recipe that cannot be followed says what was expected."""
    with pytest.raises(UsageError, match=said):
        Recipe(**{"kind": "bursty", "duration_s": 10.0, "rate_rps": 10.0, **given})


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("bursty", 10, rate_rps=10, least_rps=20), "least ≤ mean ≤ greatest"),
        (Recipe("constant", 1, rate_rps=0.1), "no request"),
        (Recipe("constant", 1e6, rate_rps=1e6), "at most"),
    ],
)
def test_workloads_that_cannot_be_made_are_refused(recipe: Recipe, said: str) -> None:
    """Contradicting rates, an empty workload and one without end are usage errors."""
    with pytest.raises(UsageError, match=said):
        generate(recipe, profile())


def test_no_modality_can_be_lacking_where_every_mode_needs_all() -> None:
    """A profile with the full mode alone has no jobs that lack one."""
    only_full = msgspec.structs.replace(profile(), modes=profile().modes[1:])
    with pytest.raises(UsageError, match="no job can lack"):
        generate(Recipe("poisson", 20, rate_rps=30, lacking=0.5), only_full)
