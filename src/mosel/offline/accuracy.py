"""Accuracy of every mode from labelled samples, with a one-sided 95% lower bound (§4.2).

Samples run in batches, in that mode, on the device that serves. All modes go over the same samples, chunk by
chunk, so that each sample is prepared once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mosel.core.errors import FileError, ModelError
from mosel.core.files import read_bytes
from mosel.core.types import mode_name
from mosel.models.base import Model, Samples, metric_of
from mosel.offline.journal import Journal, Scored
from mosel.offline.samples import Parts, prepared
from mosel.offline.settings import Column
from mosel.runtime.padding import join
from mosel.runtime.runner import ModelFailedError, Ran

Run = Callable[[Column, Parts], Ran]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A mode's mean score, the lower end of its one-sided 95% interval, on how many samples, and what else."""

    mean: float
    low: float
    samples: int
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a mode made of samples.

    Attributes:
        scores: how right each answer is, see `Model.score`.
        confidence: how sure the model was of each, of shape (samples,); None if it does not say.
        problem: why it does not.
        facts: what further metrics need to know of each, of shape (samples, facts), where there are any.
    """

    scores: NDArray[np.float64]
    confidence: NDArray[np.float64] | None = None
    problem: str = ""
    facts: NDArray[np.float64] | None = None


def lower_bound(scores: NDArray[np.float64]) -> float:
    """Return the lower end of a one-sided 95% interval of the mean of scores on 0..1.

    Exact (Clopper-Pearson) where every score is 0 or 1, by Student's t otherwise. Of scores of shape
    (samples, 2) it is the bound of the sum of the first over the sum of the second.
    """
    if scores.ndim == 2:
        return _ratio_bound(scores[:, 0], scores[:, 1])
    count, mean = len(scores), float(scores.mean())
    if np.isin(scores, (0.0, 1.0)).all():
        hits = round(float(scores.sum()))
        return float(special.betaincinv(hits, count - hits + 1, 1 - CONFIDENCE)) if hits else 0.0
    if count < 2:
        return 0.0
    margin = special.stdtrit(count - 1, CONFIDENCE) * scores.std(ddof=1) / np.sqrt(count)
    return float(max(0.0, mean - margin))


def served_bound(scores: NDArray[np.float64], promises: int = 1) -> float:
    """Return what the mean over as many requests as there are scores will reach, in 95% of cases at least.

    It allows for what is not known of the true mean, and for which requests will come: the lower end of a
    one-sided prediction interval. With several `promises` all of them hold together in so many cases
    (Bonferroni). Scores are as of `lower_bound`.
    """
    count, accuracy = len(scores), metric_of(scores)
    if count < 2:
        return 0.0
    sure = 1 - (1 - CONFIDENCE) / promises
    if scores.ndim == 1 and np.isin(scores, (0.0, 1.0)).all():
        hits = round(float(scores.sum()))
        return float(stats.betabinom.ppf(1 - sure, count, hits, count - hits + 1)) / count if hits else 0.0
    wider = np.sqrt(2) * special.stdtrit(count - 1, sure) / special.stdtrit(count - 1, CONFIDENCE)
    return float(max(0.0, accuracy - wider * (accuracy - lower_bound(scores))))


def _ratio_bound(right: NDArray[np.float64], of: NDArray[np.float64]) -> float:
    # A ratio of means varies as the mean of what each sample is beyond its share (the delta method).
    count, ratio = len(right), float(right.sum() / of.sum())
    if count < 2:
        return 0.0
    beyond = (right - ratio * of) / of.mean()
    margin = special.stdtrit(count - 1, CONFIDENCE) * beyond.std(ddof=1) / np.sqrt(count)
    return float(np.clip(ratio - margin, 0.0, 1.0))


def summary_of(model: Model, judged: Judged) -> Accuracy:
    """Return the accuracy that samples so judged show."""
    further = model.further.metrics(judged.facts) if model.further and judged.facts is not None else {}
    return Accuracy(metric_of(judged.scores), lower_bound(judged.scores), len(judged.scores), further)


def judge(
    model: Model,
    samples: Samples,
    chosen: NDArray[np.int64],
    largest: Mapping[Column, int],
    run: Run,
    journal: Journal,
    tick: Callable[[int], None],
    split: str = "",
) -> dict[Column, Judged]:
    """Return what each column of `largest` made of the samples; it says in batches of what size each runs.

    `split` names the samples in the journal, `chosen` are their indices; `tick` is told after each batch how
    many samples it held. What an interrupted run left in the journal is not run again.

    Raises:
        ModelError: the model's score is not one number from 0 to 1 for each sample.
        ModelFailedError: the model raised on a single sample.
    """
    scores = _recalled(journal, largest, split)
    chunk = max(largest.values(), default=1)
    for start in range(0, len(chosen), chunk):
        indices = chosen[start : start + chunk]
        missing = [column for column in largest if start not in scores[column]]
        names = {name for column in missing for name in column.modalities}
        parts = {name: prepared(model, samples, name, indices.tolist()) for name in names}
        for column in missing:
            inputs = {tensor: arrays for name in column.modalities for tensor, arrays in parts[name].items()}
            outputs = _outputs(model, column, inputs, largest[column], run)
            found = Judged(
                _checked(model, column, outputs, samples.labels[indices]),
                *_confidence(model, outputs, len(indices)),
                _facts(model, outputs, samples.labels[indices]),
            )
            scores[column][start] = found
            journal.add(_entry(column, start, found, split))
            tick(len(indices))
    return {column: _joined([s[at] for at in sorted(s)]) for column, s in scores.items()}


def read_accuracies(path: Path, model: Model) -> dict[tuple[str, ...], Accuracy]:
    """Return accuracies that were found elsewhere, by combination of modalities.

    The file is one JSON object from mode names (`audio+video`) to accuracies from 0 to 1, one for each mode.

    Raises:
        FileError: naming the file and what is wrong with it.
    """
    try:
        given = msgspec.json.decode(read_bytes(path), type=dict[str, float])
    except msgspec.DecodeError as error:
        raise FileError(f'{path}: {error}; expected an object like {{"audio": 0.9}}') from error
    modes = {mode_name(combination): combination for combination in model.combinations()}
    if set(given) != set(modes):
        differ = ", ".join(sorted(set(given) ^ set(modes)))
        raise FileError(f"{path}: expected one accuracy for each of {', '.join(modes)}; differs in {differ}")
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise FileError(f"{path}: key `{name}` is {value}; expected a number from 0 to 1")
    return {modes[name]: Accuracy(value, value, 0) for name, value in given.items()}


def _recalled(journal: Journal, columns: Mapping[Column, int], split: str) -> dict[Column, dict[int, Judged]]:
    names = {str(column): column for column in columns}
    scores: dict[Column, dict[int, Judged]] = {column: {} for column in columns}
    for entry in journal.entries:
        if isinstance(entry, Scored) and entry.column in names and entry.split == split:
            scored = entry.scores if entry.of is None else np.transpose([entry.scores, entry.of])
            confidence = None if entry.confidence is None else np.asarray(entry.confidence, np.float64)
            facts = None if entry.facts is None else np.asarray(entry.facts, np.float64)
            found = Judged(np.asarray(scored, np.float64), confidence, entry.problem, facts)
            scores[names[entry.column]][entry.start] = found
    return scores


def _entry(column: Column, start: int, found: Judged, split: str) -> Scored:
    scores, of = found.scores, None
    if scores.ndim > 1:
        scores, of = scores[:, 0], scores[:, 1].tolist()
    confidence = None if found.confidence is None else found.confidence.tolist()
    facts = None if found.facts is None else found.facts.tolist()
    return Scored(str(column), start, scores.tolist(), of, split, confidence, found.problem, facts)


def _joined(chunks: Sequence[Judged]) -> Judged:
    scores = np.concatenate([chunk.scores for chunk in chunks])
    problem = next((chunk.problem for chunk in chunks if chunk.problem), "")
    rows = [chunk.facts for chunk in chunks if chunk.facts is not None]
    facts = np.concatenate(rows) if rows else None
    if problem:
        return Judged(scores, None, problem, facts)
    return Judged(
        scores, np.concatenate([c.confidence for c in chunks if c.confidence is not None]), facts=facts
    )


def _confidence(
    model: Model, outputs: Mapping[str, NDArray[Any]], count: int
) -> tuple[NDArray[np.float64] | None, str]:
    """The model's confidence in each answer, or why there is none."""
    if model.confidence_of is None:
        return None, "the model returns no confidence"
    try:
        found = np.asarray(model.confidence_of(outputs), np.float64)
    except Exception as error:  # the edge to a function that is not ours
        return None, f"its confidence raised {type(error).__name__}: {error}"
    if found.shape != (count,):
        return None, f"its confidence has shape {found.shape}; expected {(count,)}, one a sample"
    if not np.isfinite(found).all():
        return None, f"its confidence is {found[~np.isfinite(found)][0]}; expected numbers"
    return found, ""


def _facts(
    model: Model, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]
) -> NDArray[np.float64] | None:
    if model.further is None:
        return None
    facts = np.asarray(model.further.facts(outputs, labels), np.float64)
    if facts.ndim != 2 or len(facts) != len(labels):
        raise ModelError(
            f"model {model.name!r}: its further metrics take facts of shape {facts.shape}; "
            f"expected ({len(labels)}, …), a row a sample"
        )
    return facts


def _outputs(model: Model, column: Column, inputs: Parts, largest: int, run: Run) -> dict[str, NDArray[Any]]:
    batches = [_slice(inputs, start, start + largest) for start in range(0, _count(inputs), largest)]
    ran = [outputs for batch in batches for outputs in _run_halving(column, batch, run)]
    return {tensor.name: join(tensor, [outputs[tensor.name] for outputs in ran]) for tensor in model.outputs}


def _run_halving(column: Column, inputs: Parts, run: Run) -> list[dict[str, NDArray[Any]]]:
    # Samples longer than those that were timed may not fit at the largest batch: halve it, down to one sample.
    count = _count(inputs)
    try:
        return [run(column, inputs).outputs]
    except ModelFailedError:
        if count == 1:
            raise
    half = count // 2
    return _run_halving(column, _slice(inputs, 0, half), run) + _run_halving(
        column, _slice(inputs, half, count), run
    )


def _count(inputs: Parts) -> int:
    return sum(map(len, next(iter(inputs.values()))))


def _slice(inputs: Parts, start: int, end: int) -> Parts:
    # Parts are one array of all requests, or one array for each (`samples.prepared`).
    return {
        name: [parts[0][start:end]] if len(parts) == 1 else parts[start:end] for name, parts in inputs.items()
    }


def _checked(
    model: Model, column: Column, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]
) -> NDArray[np.float64]:
    where = f"model {model.name!r} in mode {mode_name(column.modalities)}"
    try:
        scores = np.asarray(model.score(outputs, labels), dtype=np.float64)
    except Exception as error:
        raise ModelError(f"{where}: its score raised {type(error).__name__}: {error}") from error
    if scores.shape == (len(labels), 2):
        return _checked_shares(where, scores)
    if scores.shape != (len(labels),):
        raise ModelError(
            f"{where}: its score has shape {scores.shape}; expected {(len(labels),)}, one a sample, or "
            f"{(len(labels), 2)}, how much is right and how much there is"
        )
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if len(wrong):
        raise ModelError(f"{where}: its score gave {wrong[0]}; expected numbers from 0 to 1, higher is better")
    return scores


def _checked_shares(where: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    right, of = scores.T
    if not (np.isfinite(scores).all() and (of > 0).all() and (right <= of).all()):
        wrong = next(row for row in scores if not (np.isfinite(row).all() and row[1] > 0 and row[0] <= row[1]))
        raise ModelError(
            f"{where}: its score says that {wrong[0]} of {wrong[1]} are right; expected a positive number, and "
            "no more than that"
        )
    return scores
