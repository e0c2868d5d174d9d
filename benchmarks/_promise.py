"""What cascades promise against what answers turn out to be, on held-out samples that no profile has seen.

A model judges fresh samples once in every mode. Each of many sets draws from these with replacement, as many
as the profile was measured on, and is served by `joint` in simulation: the model's own confidence in each
sample decides what is escalated, and its answer in the last stage that ran is right or wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.states import State
from mosel.core.tables import Profile
from mosel.core.types import Batch, mode_name
from mosel.evaluation.arrivals import Recipe, capacity_rps, generate
from mosel.evaluation.simulate import Conditions, simulate
from mosel.models.base import Model, Samples
from mosel.offline.samples import prepared
from mosel.online.execution import judge
from mosel.online.scheduler import Scheduler
from mosel.runtime.runner import Runner

Floats = NDArray[np.float64]

CHUNK = 16
LATENCY_SLO_S = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """By mode, how right the answer to each sample is, and how sure the model was of it."""

    scores: Mapping[str, Floats]
    confidence: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))


@dataclass(frozen=True, slots=True)
class Kept:
    """One set: the mean of the receipts' accuracies, its lower bound, and how right the answers were."""

    promised: float
    promised_low: float
    reached: float
    requests: int


def judged(model: Model, samples: Samples, precision: str = "float32") -> Judged:
    """Run every sample in every mode, each once."""
    runner = Runner(model, "cpu", (precision,), 1)
    scores: dict[str, list[Floats]] = {mode_name(each): [] for each in model.combinations()}
    confidence: dict[str, list[Floats]] = {name: [] for name in scores}
    for start in range(0, len(samples), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(samples)))
        parts = {name: prepared(model, samples, name, indices.tolist()) for name in model.modality_names}
        for each in model.combinations():
            inputs = {tensor: arrays for name in each for tensor, arrays in parts[name].items()}
            outputs = runner.run(each, precision, inputs).outputs
            scores[mode_name(each)].append(model.score(outputs, samples.labels[indices]))
            confidence[mode_name(each)].append(np.array(judge(model, outputs)))
    return Judged(*({mode: np.concatenate(found) for mode, found in of.items()} for of in (scores, confidence)))


def alone(profile: Profile, found: Judged, sets: int, seed: int) -> dict[str, float]:
    """Return for each cascade the share of sets in which it reaches its lower bound, run by itself."""
    rng = np.random.default_rng(seed)
    kept: dict[str, float] = {}
    for cascade in profile.cascades:
        first, last = cascade.stages
        right = np.where(found.confidence[first] < cascade.threshold, found.scores[last], found.scores[first])
        means = right[rng.integers(0, len(right), (sets, cascade.samples))].mean(axis=1)
        kept[cascade.name] = float((means >= cascade.accuracy_low).mean())
    return kept


def served(profile: Profile, found: Judged, load: float, seed: int) -> Kept:
    """Serve one set at a multiple of the full mode's capacity."""
    size = max(cascade.samples for cascade in profile.cascades)
    rate = load * capacity_rps(profile)
    jobs = generate(Recipe("bursty", size / rate, seed, rate_rps=rate, latency_slo_s=LATENCY_SLO_S), profile)
    rng = np.random.default_rng([seed, 1])
    drawn = {job.id: rng.integers(0, len(found), job.requests) for job in jobs.jobs}
    ran = _Ran(found, drawn)
    profiles = {profile.model: profile}
    done = simulate(Scheduler(profiles, policy="joint"), profiles, jobs, Conditions(seed=seed), ran.sure)
    rows = [row for row in done.jobs if row.outcome is State.SERVED]
    reached = [ran.right(row.job.id, request) for row in rows for request in range(row.job.requests)]
    spread = [ran.margin(profile, row.job.id, request) for row in rows for request in range(row.job.requests)]
    promised = sum((row.accuracy or 0.0) * row.job.requests for row in rows) / len(reached)
    return Kept(promised, promised - float(np.mean(spread)), float(np.mean(reached)), len(reached))


class _Ran:
    """What ran, by (job, request): the last mode, and the mode that was judged, if one was."""

    def __init__(self, found: Judged, drawn: Mapping[str, NDArray[np.int64]]) -> None:
        self._found, self._drawn = found, drawn
        self._last: dict[tuple[str, int], str] = {}
        self._judged: dict[tuple[str, int], str] = {}

    def sure(self, batch: Batch) -> tuple[float, ...]:
        """The model's confidence in each request of a batch, which has run."""
        every = [(part.job, request) for part in batch.parts for request in part.requests]
        self._last.update(dict.fromkeys(every, batch.mode))
        if not batch.judged:
            return ()
        self._judged.update(dict.fromkeys(every, batch.mode))
        return tuple(float(self._found.confidence[batch.mode][self._drawn[job][at]]) for job, at in every)

    def right(self, job: str, request: int) -> float:
        """How right the answer is."""
        return float(self._found.scores[self._last[job, request]][self._drawn[job][request]])

    def margin(self, profile: Profile, job: str, request: int) -> float:
        """How far below its accuracy the lower bound lies of what the request was sent in.

        Of the cascades that begin alike, the one with the least margin is taken.
        """
        first = self._judged.get((job, request))
        if first is None:
            mode = profile.mode_named(self._last[job, request])
            return mode.accuracy - mode.accuracy_low
        own = [cascade for cascade in profile.cascades if cascade.stages[0] == first]
        return min(cascade.accuracy - cascade.accuracy_low for cascade in own)


def promise(profile: Profile, found: Judged, sets: int, load: float) -> dict[str, Any]:
    """Return how often what was promised was kept, over so many sets."""
    every = [served(profile, found, load, seed) for seed in range(sets)]
    return {
        "sets": sets,
        "load": load,
        "held_out": len(found),
        "requests": float(np.mean([each.requests for each in every])),
        "kept": float(np.mean([each.reached >= each.promised_low for each in every])),
        "promised": float(np.mean([each.promised for each in every])),
        "promised_low": float(np.mean([each.promised_low for each in every])),
        "reached": float(np.mean([each.reached for each in every])),
        "alone": alone(profile, found, sets, seed=0),
    }
