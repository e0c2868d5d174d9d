"""Cascades of 𝒟: thresholds chosen on a calibration split, what they promise measured on another.

Of every mode and every other that has all its modalities and more, some thresholds are tried. Those stay that
no mode, mix of modes or other cascade beats in accuracy at their cost, as far as the calibration split tells.
The expected accuracy at each confidence is an isotonic regression on that split. Where a score is a share, such
as micro-F1, a sample weighs as much as it is out of. `docs/cascades.md` says how they are used.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from mosel.core.cascades import Cascade, cascade_name
from mosel.core.tables import Mode
from mosel.models.base import metric_of
from mosel.offline.accuracy import Judged, served_bound

Floats = NDArray[np.float64]
Stages = tuple[str, str]

LEAST_SAMPLES = 200
"""From how many labelled samples on thresholds are chosen."""

LEAST_UNSURE = 20
"""How many of these have to be on either side of a threshold."""

SHARES = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65)
"""The shares of requests that are escalated, as far as they are tried."""

RATIO = 1.1
"""How many times as many errors a cheaper cascade has to make to be kept beside; more where many would be."""

PART = 0.8
"""At what part of the cost of a mix of modes a cascade has to be as accurate. Costs are those of full batches,
and the second stage's are not always full: one that saves less would cost what it saves.
"""

MOST = 8
"""How many cascades are kept."""

KNOTS = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A mode, with what it made of both splits."""

    mode: Mode
    calibration: Judged
    test: Judged

    @property
    def cost(self) -> float:
        """The least share of a batch that a request takes, in seconds."""
        return _cost(self.mode)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cascade as the calibration split has it."""

    first: str
    last: str
    threshold: float
    cost: float
    accuracy: float


def likely(subjects: Mapping[str, Subject]) -> list[Stages]:
    """Return stages that may be worth keeping if of the last one only what the first lacks has to run."""
    if next(_problems(subjects), ""):
        return []
    rest = {
        (first, last): max(0.0, dear.cost - cheap.cost)
        for (first, cheap), (last, dear) in permutations(subjects.items(), 2)
    }
    return [(one.first, one.last) for one in _chosen(subjects, rest)]


def find_cascades(
    subjects: Mapping[str, Subject], resumed: Mapping[Stages, Any] | None = None
) -> tuple[tuple[Cascade, ...], str]:
    """Return the cascades that are worth keeping, cheapest first; if there is none, why in one line.

    Args:
        subjects: by the modes' names.
        resumed: latencies of last stages where features of the first are kept, by the stages' names.
    """
    if problem := next(_problems(subjects), ""):
        return (), problem
    resumed = resumed or {}
    found = _chosen(subjects, {stages: _least(rest_s) for stages, rest_s in resumed.items()})
    measured = [_measured(one, subjects, resumed.get((one.first, one.last))) for one in found]
    tested = {name: (one.cost, metric_of(one.test.scores)) for name, one in subjects.items()}
    paying = [cascade for cascade in measured if cascade and _pays(cascade, tested)]
    kept = tuple(structs.replace(one, accuracy_low=_served_low(one, subjects, len(paying))) for one in paying)
    return kept, "" if kept else f"no cascade is as accurate as a mix of modes at {PART:g} of its cost"


def pays(cascade: Cascade, modes: Mapping[str, Mode]) -> bool:
    """Return whether a cascade is worth keeping at what these modes, by name, cost and reach."""
    static = {name: (_cost(mode), mode.accuracy) for name, mode in modes.items()}
    return _pays(cascade, static)


def _chosen(subjects: Mapping[str, Subject], rest: Mapping[Stages, float]) -> list[Candidate]:
    """The candidates that pay on the calibration split; `rest` is what last stages cost that resume."""
    static = [(subject.cost, metric_of(subject.calibration.scores)) for subject in subjects.values()]
    every = _candidates(subjects, rest)
    return thinned([one for one in every if one.accuracy > _mixed(static, one.cost / PART)])


def thinned(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return at most `MOST` that no other beats, cheapest first, with clearly more errors than the next."""
    ratio = RATIO
    while True:
        found: list[Candidate] = []
        for one in sorted(candidates, key=lambda one: (-one.accuracy, one.cost)):
            if not found or (
                one.cost < found[-1].cost and 1 - one.accuracy >= (1 - found[-1].accuracy) * ratio
            ):
                found.append(one)
        if len(found) <= MOST:
            return found[::-1]
        ratio *= 1.1


def _problems(subjects: Mapping[str, Subject]) -> Iterator[str]:
    for name, subject in subjects.items():
        for judged in (subject.calibration, subject.test):
            if judged.confidence is None:
                yield f"in mode {name}, {judged.problem}"
            elif not judged.confidence.std() > 0:
                yield f"in mode {name}, its confidence is the same for all samples"
    fewest = min(
        (len(judged.scores) for one in subjects.values() for judged in (one.calibration, one.test)), default=0
    )
    if fewest < LEAST_SAMPLES:
        yield f"{fewest} labelled samples are too few to calibrate; {LEAST_SAMPLES} are needed in either split"


def _candidates(subjects: Mapping[str, Subject], rest: Mapping[Stages, float]) -> Iterator[Candidate]:
    for (first, cheap), (last, dear) in permutations(subjects.items(), 2):
        if not set(cheap.mode.modalities) < set(dear.mode.modalities) or cheap.cost >= dear.cost:
            continue
        assert cheap.calibration.confidence is not None
        for threshold in _thresholds(cheap.calibration.confidence):
            unsure = cheap.calibration.confidence < threshold
            accuracy = metric_of(_either(unsure, dear.calibration.scores, cheap.calibration.scores))
            cost = cheap.cost + unsure.mean() * rest.get((first, last), dear.cost)
            yield Candidate(first, last, threshold, cost, accuracy)


def _thresholds(confidence: Floats) -> list[float]:
    found = {float(f"{np.quantile(confidence, share):.4g}") for share in SHARES}
    counts = {threshold: int((confidence < threshold).sum()) for threshold in found}
    most = len(confidence) - LEAST_UNSURE
    return sorted(threshold for threshold, count in counts.items() if LEAST_UNSURE <= count <= most)


def _mixed(points: Sequence[tuple[float, float]], cost: float) -> float:
    """The highest accuracy of a mix of two modes at a mean cost of at most `cost`."""
    best = max((accuracy for own, accuracy in points if own <= cost), default=0.0)
    for low, less in points:
        for high, more in points:
            if low <= cost < high:
                best = max(best, less + (more - less) * (cost - low) / (high - low))
    return best


def _measured(one: Candidate, subjects: Mapping[str, Subject], resumed_s: Any) -> Cascade | None:
    """A candidate with what it reaches on the test split; None if its calibration has no two confidences."""
    first, last = subjects[one.first], subjects[one.last]
    knots = _knots(first.calibration, last.calibration, one.threshold)
    if len(knots) < 2:
        return None
    unsure, scores = _tested(first, last, one.threshold)
    return Cascade(
        name=cascade_name(one.first, one.last, one.threshold),
        stages=(one.first, one.last),
        threshold=one.threshold,
        escalated=float(unsure.mean()),
        accuracy=metric_of(scores),
        accuracy_low=served_bound(scores),
        samples=len(scores),
        latency_s=(first.mode.latency_s, last.mode.latency_s),
        calibration=knots,
        resumed_s=resumed_s,
    )


def _served_low(cascade: Cascade, subjects: Mapping[str, Subject], promises: int) -> float:
    first, last = (subjects[name] for name in cascade.stages)
    return served_bound(_tested(first, last, cascade.threshold)[1], promises)


def _tested(first: Subject, last: Subject, threshold: float) -> tuple[NDArray[np.bool_], Floats]:
    """Which samples of the test split are unsure, and what each scores in its last stage."""
    assert first.test.confidence is not None
    unsure = first.test.confidence < threshold
    return unsure, _either(unsure, last.test.scores, first.test.scores)


def _pays(cascade: Cascade, static: Mapping[str, tuple[float, float]]) -> bool:
    """Whether it holds on the test split what it was chosen for; `static` has cost and accuracy of each mode.

    It counts no more than its last stage, as where it is used.
    """
    (first, _), (last, most) = (static[name] for name in cascade.stages)
    rest = last if cascade.resumed_s is None else _least(cascade.resumed_s)
    cost, reached = first + cascade.escalated * rest, min(cascade.accuracy, most)
    return 0 < cascade.escalated < 1 and reached > _mixed(list(static.values()), cost / PART)


def _cost(mode: Mode) -> float:
    return _least(mode.latency_s)


def _least(latency_s: Any) -> float:
    """A request's share of the best batch, in the mean over length buckets."""
    rows = latency_s if isinstance(latency_s[0], list | tuple) else [latency_s]
    return float(np.mean([min(took / size for size, took in enumerate(row, start=1)) for row in rows]))


def _knots(first: Judged, last: Judged, threshold: float) -> tuple[tuple[float, float, float], ...]:
    """Of unsure samples: confidence, and the expected accuracy as it is and once escalated, in groups."""
    assert first.confidence is not None
    unsure = np.flatnonzero(first.confidence < threshold)
    order = unsure[np.argsort(first.confidence[unsure], kind="stable")]
    groups = np.array_split(np.arange(len(order)), min(KNOTS, len(order)))
    confidence = first.confidence[order]
    now, after = (_isotonic(judged.scores[order], groups) for judged in (first, last))
    means = [float(confidence[group].mean()) for group in groups]
    return tuple({knot[0]: knot for knot in zip(means, now, after, strict=True)}.values())


def _isotonic(scores: Floats, groups: Sequence[NDArray[np.int64]]) -> list[float]:
    """Return the mean of each group of the regression; what counts for more weighs more."""
    right, of = (scores, np.ones(len(scores))) if scores.ndim == 1 else scores.T
    found: Floats = isotonic_regression(right / of, weights=of).x.clip(0, 1)
    return [float(np.average(found[group], weights=of[group])) for group in groups]


def _either(which: NDArray[np.bool_], these: Floats, others: Floats) -> Floats:
    """Return of each sample what it scores in `these` where `which` says so, else in `others`."""
    return np.where(which if these.ndim == 1 else which[:, None], these, others)
