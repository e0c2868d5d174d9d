"""Figs. 5 and 6, and completion times: all policies on the paper's workload (§7.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from mosel.evaluation.experiments.charts import box_pairs, histograms
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.section import Cell, Figure, Grid, Section
from mosel.evaluation.experiments.trials import Outcome, Trial
from mosel.evaluation.experiments.workloads import POLICIES, paper_recipe

Found = Mapping[tuple[str, str], Sequence[Outcome]]
"""The outcomes over seeds of each profile and policy."""


def production(lab: Lab, policies: Sequence[str] = POLICIES) -> Found:
    """Return every policy's outcomes on the paper's workload, one a seed."""
    pairs = list(product(lab.profiles, policies))
    asked = [
        (name, Trial(policy, paper_recipe(lab, lab.profiles[name], seed)))
        for name, policy in pairs
        for seed in range(lab.seeds)
    ]
    done = lab.trials(asked)
    return {pair: done[index * lab.seeds : (index + 1) * lab.seeds] for index, pair in enumerate(pairs)}


def fig5(lab: Lab) -> Section:
    """Return throughput and violation ratio of every 4 seconds, as boxes, one picture a profile."""
    found = production(lab)
    figures, rows = [], list[tuple[Cell, ...]]()
    for name in lab.profiles:
        boxes = {policy: _windows(found[name, policy]) for policy in POLICIES}
        svg = box_pairs(boxes, "on time (requests per second)", "violation ratio")
        figures.append(Figure(name, f"{_requests(found, name)} requests a policy.", svg, wide=True))
        rows += [
            (name, policy, seed, *_numbers(each))
            for policy in POLICIES
            for seed, each in enumerate(found[name, policy])
        ]
    return Section(
        "fig5",
        "Throughput and violations on the production workload (Fig. 5)",
        "Every 4 seconds: boxes hold the middle half, lines are medians, diamonds means. The first four are "
        "the paper's policies as printed; below them full modalities with batches across jobs and dropping, "
        "the same optimisation made exact, and the joint decision.",
        Grid(NUMBERS, tuple(rows)),
        figures,
        _summary(lab, found),
    )


NUMBERS = (
    "profile",
    "policy",
    "seed",
    "requests",
    "on_time",
    "violation_ratio",
    "throughput_rps",
    "accuracy",
    "effective_accuracy",
    "jct_mean_s",
    "jct_p99_s",
)


def _numbers(each: Outcome) -> tuple[Cell, ...]:
    return (
        each.requests,
        each.on_time,
        each.violation_ratio,
        each.throughput_rps,
        each.accuracy,
        each.effective_accuracy,
        each.jct_mean_s,
        each.jct_p99_s,
    )


def fig6(lab: Lab) -> Section:
    """Return how the accuracies of jobs on time are distributed under each policy."""
    found = production(lab)
    figures, rows = [], list[tuple[Cell, ...]]()
    for name in lab.profiles:
        counted = {policy: _counts(found[name, policy]) for policy in POLICIES}
        svg = histograms(counted, "accuracy of the job; dashed: mean")
        figures.append(Figure(name, "Jobs on time, all seeds together.", svg, wide=True))
        rows += [(name, policy, *pair) for policy, pairs in counted.items() for pair in pairs]
    return Section(
        "fig6",
        "Accuracy of the jobs (Fig. 6)",
        "Expected accuracy of each job that was on time, from what was measured on held-out samples.",
        Grid(("profile", "policy", "accuracy", "jobs"), tuple(rows)),
        figures,
    )


def jct(lab: Lab) -> Section:
    """Return mean completion times, and how many times shorter they are than under `none`."""
    found = production(lab)
    rows = []
    for name, policy in product(lab.profiles, POLICIES):
        mean, p99 = (median_of(found[name, policy], key) for key in ("jct_mean_s", "jct_p99_s"))
        base = median_of(found[name, "none"], "jct_mean_s")
        rows.append((name, policy, mean, p99, base / mean if mean else None))
    return Section(
        "jct",
        "Job completion time",
        "From arrival to the last answer of a job, late jobs included, dropped ones not; medians over seeds.",
        Grid(("profile", "policy", "jct_mean_s", "jct_p99_s", "times_shorter_than_none"), tuple(rows)),
        shown=Grid(
            ("profile", "policy", "mean", "99th percentile", "times shorter than none"),
            tuple(
                (a, b, *(f"{each:.3f} s" if each else "–" for each in (c, d)), f"{e:.1f}" if e else "–")
                for a, b, c, d, e in rows
            ),
        ),
    )


def median_of(outcomes: Sequence[Outcome], key: str) -> float:
    """Return the median over seeds of one figure; 0 where no seed has it."""
    values = [getattr(each, key) for each in outcomes if getattr(each, key) is not None]
    return float(np.median(values)) if values else 0.0


def _windows(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    rates = [value for each in outcomes for value in each.windows_rps]
    return rates, [value for each in outcomes for value in each.windows_violations]


def _requests(found: Found, name: str) -> str:
    return f"{sum(each.requests for each in found[name, 'none']):,}"


def _counts(outcomes: Sequence[Outcome]) -> list[tuple[float, int]]:
    counts: Counter[float] = Counter()
    for each in outcomes:
        counts.update(dict(each.accuracies))
    return sorted(counts.items())


def _summary(lab: Lab, found: Found) -> Grid:
    rows = []
    for name, policy in product(lab.profiles, POLICIES):
        own = found[name, policy]
        low, high = (pick(each.violation_ratio for each in own) for pick in (min, max))
        rows.append(
            (
                name,
                policy,
                f"{median_of(own, 'throughput_rps'):.1f} / s",
                f"{median_of(own, 'violation_ratio'):.1%}"
                + (f" ({low:.1%} to {high:.1%})" if low < high else ""),
                f"{median_of(own, 'accuracy'):.4f}",
                f"{median_of(own, 'effective_accuracy'):.4f}",
            )
        )
    columns = ("profile", "policy", "on time", "violations (seeds)", "accuracy", "effective accuracy")
    return Grid(columns, tuple(rows))
