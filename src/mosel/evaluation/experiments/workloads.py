"""The workloads that experiments share, sized after each profile as §7.1 sizes them after each model."""

import math
from collections.abc import Callable
from dataclasses import replace

from mosel.core.tables import Profile
from mosel.evaluation.arrivals import Recipe
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.trials import paper_capacity_rps

PAPER_POLICIES = ("none", "random", "aggressive", "paper")
OURS = ("none+batching", "optimized", "joint")
POLICIES = PAPER_POLICIES + OURS
COMPARED = ("none", "none+batching", "paper", "joint")
"""Where a picture has no room for all."""

LEAST_RPS = 5.0
LEAST_REQUESTS = 40
"""Slow models get longer workloads, not empty ones."""
FAST_RPS = 500.0
"""Models with a greater capacity have hundreds of jobs waiting within the latency SLO: decisions take long."""
FAST, NO_CLAIMS = "so fast a model takes long", "random weights have no accuracies"
"""Why a profile is not simulated."""


def duration_s(lab: Lab, rate_rps: float) -> float:
    """Return how long jobs arrive: as asked, within the limits on requests."""
    usual = min(lab.duration_s, max(lab.least_s, round(lab.most_requests / rate_rps)))
    return max(usual, math.ceil(LEAST_REQUESTS / rate_rps))


def without_fast(lab: Lab) -> Lab:
    """Return the lab without profiles of models that carry over `FAST_RPS`, if it has others."""
    return _without(lab, FAST, lambda profile: paper_capacity_rps(profile) > FAST_RPS)


def without_claims(lab: Lab) -> Lab:
    """Return the lab without profiles that claim no accuracy, if it has others: no SLO would mean anything."""
    return _without(lab, NO_CLAIMS, lambda profile: not claims_accuracy(profile))


def claims_accuracy(profile: Profile) -> bool:
    """Return whether a profile's accuracies were measured; those of random weights are not."""
    return (profile.extra or {}).get("accuracy_source") != "none"


def _without(lab: Lab, why: str, unwanted: Callable[[Profile], bool]) -> Lab:
    kept = {name: each for name, each in lab.profiles.items() if not unwanted(each)}
    if not kept:
        return lab
    left_out = {name: why for name in lab.profiles if name not in kept}
    return replace(lab, profiles=kept, left_out={**lab.left_out, **left_out})


def largest(lab: Lab) -> str:
    """Return the name of a profile that has most modalities, for what is shown of one profile alone."""
    return max(lab.profiles, key=lambda each: (len(lab.profiles[each].modalities), each))


def paper_recipe(lab: Lab, profile: Profile, seed: int) -> Recipe:
    """Return §7.1's workload: a day's shape from 5 requests a second to twice the profile's capacity."""
    capacity = paper_capacity_rps(profile)
    return Recipe(
        "bursty",
        duration_s(lab, capacity),
        seed,
        least_rps=min(LEAST_RPS, capacity / 4),
        most_rps=2 * capacity,
    )


def at_load(lab: Lab, profile: Profile, load: float, seed: int, kind: str = "bursty") -> Recipe:
    """Return a workload whose mean rate is a multiple of the profile's capacity; latency SLO 1 s."""
    rate = load * paper_capacity_rps(profile)
    return Recipe(kind, duration_s(lab, rate), seed, rate_rps=rate)
