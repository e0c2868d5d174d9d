"""A cascade: requests run in a cheap mode, and again in a dearer one where the model is unsure of the answer.

The part of 𝒟 that says so (`docs/cascades.md`). Who decides what runs is not known here.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

LEAST_KNOTS = 2


class Cascade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Two modes, one within the other, and the confidence below which the second is asked for.

    Attributes:
        name: `first>last@threshold`.
        stages: the names of the two modes.
        threshold: requests with a lower confidence are unsure.
        escalated: the share of requests that is.
        accuracy: over all requests, each by its last stage.
        accuracy_low: the lower end of a one-sided 95% interval of that.
        samples: how many labelled samples these three are of.
        latency_s: for each stage, the latencies of its mode.
        calibration: for unsure requests (confidence, expected accuracy of the answer that is there, expected
            accuracy once escalated), ascending in confidence; between two of these in proportion.
        resumed_s: latencies of the last stage where features of the first are kept, in the form of its mode's;
            None if the model keeps none.
    """

    name: str
    stages: tuple[str, str]
    threshold: float
    escalated: float
    accuracy: float
    accuracy_low: float
    samples: int
    latency_s: tuple[Any, Any]
    calibration: tuple[tuple[float, float, float], ...]
    resumed_s: Any = None


def cascade_name(first: str, last: str, threshold: float) -> str:
    """Return a cascade's name."""
    return (
        f"{first}>{last}@{threshold:.2f}"
        if round(threshold, 2) == threshold
        else f"{first}>{last}@{threshold:g}"
    )


def cascade_problems(cascade: Cascade, modes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a cascade, `key` and what was expected; `modes` are the profile's, by name."""
    missing = [name for name in cascade.stages if name not in modes]
    if missing:
        yield f"stages` names {missing[0]!r}; expected two of {', '.join(modes)}"
        return
    first, last = (modes[name] for name in cascade.stages)
    if not set(first.modalities) < set(last.modalities):
        yield f"stages` is {list(cascade.stages)}; expected a mode and one that has all its modalities and more"
    for key in ("escalated", "accuracy", "accuracy_low"):
        if not 0 <= getattr(cascade, key) <= 1:
            yield f"{key}` is {getattr(cascade, key)}; expected a number from 0 to 1"
    if not math.isfinite(cascade.threshold):
        yield f"threshold` is {cascade.threshold}; expected a number"
    if cascade.samples < 1:
        yield f"samples` is {cascade.samples}; expected 1 or more"
    for stage, mode in enumerate((first, last)):
        if cascade.latency_s[stage] != mode.latency_s:
            yield f"latency_s[{stage}]` differs; expected the latency_s of mode {cascade.stages[stage]}"
    yield from _resumption_problems(cascade, last.latency_s)
    yield from _calibration_problems(cascade)


def _resumption_problems(cascade: Cascade, whole_s: Any) -> Iterator[str]:
    if cascade.resumed_s is None:
        return
    given, expected = _flat(cascade.resumed_s), _flat(whole_s)
    if _lengths(cascade.resumed_s) != _lengths(whole_s):
        yield f"resumed_s` has {len(given)} entries; expected {len(expected)}, as the mode of the last stage"
    for value in given:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            yield f"resumed_s` has {value}; expected seconds ≥ 0"
            return


def _lengths(rows: Any) -> Any:
    """How many numbers there are, or in each list."""
    nested = isinstance(rows, list | tuple) and rows and isinstance(rows[0], list | tuple)
    return [len(row) for row in rows] if nested else len(_flat(rows))


def _flat(rows: Any) -> list[Any]:
    found: list[Any] = []
    for row in rows if isinstance(rows, list | tuple) else [rows]:
        found += row if isinstance(row, list | tuple) else [row]
    return found


def _calibration_problems(cascade: Cascade) -> Iterator[str]:
    knots = cascade.calibration
    ascending = all(before[0] < after[0] for before, after in pairwise(knots))
    if len(knots) < LEAST_KNOTS or not ascending or not all(math.isfinite(knot[0]) for knot in knots):
        yield f"calibration` is {len(knots)} entries; expected two or more, ascending in confidence"
    if not all(0 <= value <= 1 for knot in knots for value in knot[1:]):
        yield "calibration`: expected accuracies from 0 to 1"
