"""Workloads made to order, after §7.1 of the paper: arrivals, job sizes and SLOs from a seed and a profile.

Each second has its number of requests; jobs of size int(N(1, 6)), at least 1, are drawn until it is reached
(the last one is cut to fit) and placed inside the second. `bursty` is a day's shape compressed to the duration,
with Poisson counts and short spikes; `daily` is a day like Twitter's (`daily.py`), compressed likewise; `trace`
takes the counts of a recorded series (`traces.py`).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.core.clock import NS_PER_S, to_ns
from mosel.core.errors import UsageError
from mosel.core.tables import Mode, Profile
from mosel.core.types import Job
from mosel.evaluation.daily import daily_rates, spread_counts
from mosel.evaluation.garbage import no_collector
from mosel.evaluation.twitter import TWITTER
from mosel.evaluation.workload import Workload

KINDS = ("constant", "poisson", "bursty", "daily", "trace")
SHAPED = ("bursty", "daily", "trace")
"""Kinds that can be mapped onto a least and a greatest rate."""
SIZE_MEAN, SIZE_DEVIATION = 1.0, 6.0
LEAST_OF_MEAN, MOST_OF_MEAN = 0.25, 2.5
"""Where `bursty` is given no least and greatest rate, they are these multiples of the mean."""
REQUEST_LIMIT = 50_000_000

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a workload should be like.

    Attributes:
        kind: one of `KINDS`.
        duration_s: how long jobs arrive.
        seed: of every draw.
        rate_rps: mean requests per second; None takes the mean that the shape has between the two below, or
            a trace's own counts.
        least_rps: lowest rate of `bursty`, `daily` or `trace`.
        most_rps: highest rate of `bursty` or `daily`, spikes included, or of `trace`.
        latency_slo_s: of every job; None where it is relative.
        latency_factor: latency SLO as a multiple of the job's own latency, alone and with all modalities.
        lacking: share of jobs that lack one modality.
    """

    kind: str
    duration_s: float
    seed: int = 0
    rate_rps: float | None = None
    least_rps: float | None = None
    most_rps: float | None = None
    latency_slo_s: float | None = 1.0
    latency_factor: float | None = None
    lacking: float = 0.0

    def __post_init__(self) -> None:
        if problem := _recipe_problem(self):
            raise UsageError(problem)


def capacity_rps(profile: Profile) -> float:
    """Return the full mode's capacity: one over its latency at batch size 1, in requests per second."""
    latency_s = profile.columns(full_mode(profile).latency_s)[-1][0]
    return 1 / latency_s if latency_s else math.inf


def full_mode(profile: Profile) -> Mode:
    """Return the mode with the most modalities; the most accurate one where precisions make several."""
    return max(profile.modes, key=lambda mode: (len(mode.modalities), mode.accuracy))


@no_collector()
def generate(recipe: Recipe, profile: Profile, series: Counts | None = None) -> Workload:
    """Return a workload for `profile`'s model; the same recipe gives the same workload.

    Accuracy SLOs are uniform between the lowest and highest accuracy of the modes that the job can run in.

    Args:
        recipe: what it should be like.
        profile: of the model.
        series: for `trace`, the requests of each second; the duration says how many of its seconds are taken.

    Raises:
        UsageError: no request would arrive, the rates contradict each other, or the series is too short.
    """
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(recipe.seed).spawn(5)]
    counts = _counts(recipe, streams[0]) if series is None else mapped(recipe, series)
    if not counts.sum():
        raise UsageError("the workload would hold no request; give a higher rate or a longer duration")
    sizes, seconds = job_sizes(counts, streams[1])
    arrivals_ns = _arrivals_ns(recipe, sizes, seconds, streams[2])
    lacks = _lacks(recipe, profile, len(sizes), streams[3])
    shares = streams[4].random(len(sizes))
    ranges = {index: _accuracy_range(profile, _left(profile, index)) for index in np.unique(lacks).tolist()}
    jobs = tuple(
        Job(
            id=f"j{number}",
            model=profile.model,
            requests=size,
            accuracy_slo=_between(ranges[lack], share),
            arrival_ns=arrival_ns,
            deadline_ns=arrival_ns + _slo_ns(recipe, profile, size),
            modalities=_left(profile, lack) if lack >= 0 else (),
        )
        for number, (size, arrival_ns, lack, share) in enumerate(
            zip(sizes.tolist(), arrivals_ns.tolist(), lacks.tolist(), shares.tolist(), strict=True)
        )
    )
    return Workload(jobs, ("modalities",) if recipe.lacking else ())


def job_sizes(counts: Counts, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Draw job sizes until each second's count of requests is reached; the last one is cut to fit (§7.1).

    Returns:
        The size of each job and the second in which it arrives, both of shape (jobs,).
    """
    sizes: list[Counts] = []
    for count in counts.tolist():
        drawn = np.maximum(rng.normal(SIZE_MEAN, SIZE_DEVIATION, count).astype(np.int64), 1)
        ends = np.cumsum(drawn)
        jobs = int(np.searchsorted(ends, count)) + 1 if count else 0
        taken = drawn[:jobs]
        if jobs:
            taken[-1] -= ends[jobs - 1] - count
        sizes.append(taken)
    seconds = np.repeat(np.arange(len(counts)), [len(taken) for taken in sizes])
    return np.concatenate(sizes), seconds


def mapped(recipe: Recipe, series: Counts) -> Counts:
    """Return a series' counts on the recipe's rates: from least to greatest (§7.1), or with its mean.

    Parts of a request are carried over to the next second, so that none is lost.
    """
    steps = math.ceil(recipe.duration_s)
    if steps > len(series):
        raise UsageError(f"a duration of {steps:,} s; expected at most the {len(series):,} s of the trace")
    return _whole(_on_rates(recipe, series[:steps].astype(np.float64)))


def day_shape(steps: int, rng: np.random.Generator) -> Floats:
    """Return one day's load in `steps` steps, from 0 at its lowest to 1 at its highest.

    A night's trough, a rise through the morning and an evening peak, with a few spikes that die away.
    """
    hour = 24 * (np.arange(steps) + 0.5) / steps
    load = 1 - 0.55 * np.cos(2 * np.pi * (hour - 4.5) / 24) - 0.2 * np.cos(4 * np.pi * (hour - 2.5) / 24)
    for _ in range(2 + int(rng.poisson(3))):
        start, height = rng.uniform(0, 24), rng.uniform(0.4, 1.4)
        since = hour - start
        load += np.where(since >= 0, height * np.exp(-np.maximum(since, 0) / 0.8), 0.0)
    spread = float(load.max() - load.min())
    return (load - load.min()) / spread if spread > 0 else np.zeros(steps)


def _recipe_problem(recipe: Recipe) -> str | None:
    given = (recipe.rate_rps, recipe.least_rps, recipe.most_rps)
    if recipe.kind not in KINDS:
        return f"workload kind {recipe.kind!r}; expected one of {', '.join(KINDS)}"
    if not _positive(recipe.duration_s):
        return f"duration {recipe.duration_s} s; expected seconds > 0"
    if any(rate is not None and not _positive(rate) for rate in given):
        return f"rates {given}; expected requests per second > 0"
    if recipe.kind not in SHAPED and given[1:] != (None, None):
        return (
            f"a least or greatest rate has no meaning for {recipe.kind}; give it with bursty, or leave it out"
        )
    if recipe.kind in ("daily", "trace"):
        pair = given[1] is None or given[2] is None
        if (pair and given[1:] != (None, None)) or (not pair and given[0] is not None):
            return f"rates {given}; expected for {recipe.kind} both ends, or a mean, not both"
        if recipe.kind == "daily" and given == (None, None, None):
            return "no rate; give --rate or --load, or both --min-rate and --max-rate"
    elif recipe.rate_rps is None and (recipe.kind != "bursty" or None in given[1:]):
        return "no rate; give --rate or --load, or for bursty both --min-rate and --max-rate"
    slos = (recipe.latency_slo_s, recipe.latency_factor)
    if (slos[0] is None) == (slos[1] is None) or not all(slo is None or _positive(slo) for slo in slos):
        return f"latency SLO {slos}; expected seconds > 0, or a multiple > 0 of the full latency"
    if recipe.seed < 0:
        return f"seed {recipe.seed}; expected a whole number from 0"
    return None if 0 <= recipe.lacking <= 1 else f"share lacking {recipe.lacking}; expected 0 to 1"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _counts(recipe: Recipe, rng: np.random.Generator) -> Counts:
    steps = math.ceil(recipe.duration_s)
    widths = np.ones(steps)
    widths[-1] = recipe.duration_s - (steps - 1)
    expected = _rates(recipe, steps, rng) * widths
    if expected.sum() > REQUEST_LIMIT:
        raise UsageError(f"{expected.sum():,.0f} requests; expected at most {REQUEST_LIMIT:,}")
    if recipe.kind == "daily":
        return spread_counts(TWITTER, expected, rng)
    if recipe.kind != "constant":
        return rng.poisson(expected).astype(np.int64)
    return _whole(expected)


def _whole(expected: Floats) -> Counts:
    if expected.sum() > REQUEST_LIMIT:
        raise UsageError(f"{expected.sum():,.0f} requests; expected at most {REQUEST_LIMIT:,}")
    reached = np.floor(np.cumsum(expected) + 1e-9).astype(np.int64)
    return np.diff(reached, prepend=0)


def _rates(recipe: Recipe, steps: int, rng: np.random.Generator) -> Floats:
    if recipe.kind == "daily":
        return _on_rates(recipe, daily_rates(TWITTER, steps, rng))
    if recipe.kind != "bursty":
        assert recipe.rate_rps is not None
        return np.full(steps, recipe.rate_rps)
    shape = day_shape(steps, rng)
    mean = recipe.rate_rps
    least = recipe.least_rps if recipe.least_rps is not None else LEAST_OF_MEAN * (mean or 0)
    most = recipe.most_rps if recipe.most_rps is not None else MOST_OF_MEAN * (mean or 0)
    if not least <= (least if mean is None else mean) <= most:
        raise UsageError(f"rates {least:g} ≤ {mean} ≤ {most:g} do not hold; expected least ≤ mean ≤ greatest")
    if mean is None or most == least:
        return least + (most - least) * shape
    return least + (most - least) * _bent(shape, (mean - least) / (most - least))


def _on_rates(recipe: Recipe, rates: Floats) -> Floats:
    low, high = float(rates.min()), float(rates.max())
    if recipe.least_rps is not None and recipe.most_rps is not None:
        if recipe.least_rps > recipe.most_rps:
            raise UsageError(f"rates {recipe.least_rps:g} ≤ {recipe.most_rps:g} do not hold")
        spread = (rates - low) / (high - low) if high > low else np.zeros(len(rates))
        rates = recipe.least_rps + (recipe.most_rps - recipe.least_rps) * spread
    elif recipe.rate_rps is not None and rates.mean() > 0:
        rates = rates * (recipe.rate_rps / rates.mean())
    return rates


def _bent(shape: Floats, mean: float) -> Floats:
    """Return `shape` to the power that brings its mean as near to `mean` as a power can."""
    low, high = -8.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(shape ** math.exp(middle)) > mean else (low, middle)
    bent: Floats = shape ** math.exp((low + high) / 2)
    return bent


def _arrivals_ns(recipe: Recipe, sizes: Counts, seconds: Counts, rng: np.random.Generator) -> Counts:
    if recipe.kind == "constant":
        jobs = np.bincount(seconds)
        within = np.concatenate([np.arange(count) / max(count, 1) for count in jobs])
    else:
        within = rng.random(len(sizes))
    left = np.minimum(1.0, recipe.duration_s - seconds)
    arrivals = ((seconds + within * left) * NS_PER_S).astype(np.int64)
    return np.sort(arrivals)


def _lacks(recipe: Recipe, profile: Profile, jobs: int, rng: np.random.Generator) -> Counts:
    """Return the index of the modality that each job lacks, or −1; without it a mode must be left."""
    chosen = rng.random(jobs) < recipe.lacking
    possible = [i for i in range(len(profile.modalities)) if _modes_of(profile, _left(profile, i))]
    if chosen.any() and not possible:
        raise UsageError("no job can lack a modality: the profile has no mode without one of them")
    return np.where(chosen, rng.choice(possible or [-1], jobs), -1)


def _left(profile: Profile, lack: int) -> tuple[str, ...]:
    return tuple(name for index, name in enumerate(profile.modalities) if index != lack)


def _modes_of(profile: Profile, modalities: Sequence[str]) -> list[Mode]:
    return [mode for mode in profile.modes if set(mode.modalities) <= set(modalities)]


def _accuracy_range(profile: Profile, modalities: Sequence[str]) -> tuple[float, float]:
    accuracies = [mode.accuracy for mode in _modes_of(profile, modalities)]
    return min(accuracies), max(accuracies)


def _between(ends: tuple[float, float], share: float) -> float:
    return min(ends[0] + (ends[1] - ends[0]) * share, ends[1])


def _slo_ns(recipe: Recipe, profile: Profile, requests: int) -> int:
    if recipe.latency_slo_s is not None:
        return to_ns(recipe.latency_slo_s)
    assert recipe.latency_factor is not None
    return to_ns(recipe.latency_factor * full_latency_s(profile, requests))


def full_latency_s(profile: Profile, requests: int, length: float | None = None) -> float:
    """Return how long `requests` take alone with all modalities, in batches as large as they get.

    Without a length they are as long as the model takes.
    """
    mode, limits = full_mode(profile), profile.length_buckets or ()
    bucket = -1 if length is None or not limits else min(bisect_left(limits, length), len(limits) - 1)
    sizes, latency_s = profile.sizes_of(mode), profile.columns(mode.latency_s)[bucket]
    whole, rest = divmod(requests, sizes[-1])
    last = next((latency_s[i] for i, size in enumerate(sizes) if size >= rest), 0.0) if rest else 0.0
    return whole * latency_s[-1] + last
