"""A profile with cascades, for tests of whatever has to do with them."""

from typing import Any

from msgspec.structs import replace

from mosel.core.cascades import Cascade, cascade_name
from mosel.core.tables import Profile
from mosel.online.policies.base import BatchChoice, Decision, View
from tests.online.driver import profile

CHEAP, MIDDLE, FULL = "text", "text+audio", "text+audio+video"

MODES = {CHEAP: (0.7, 2, 1), MIDDLE: (0.9, 3, 2), FULL: (0.99, 6, 9)}
"""Per mode its accuracy, and the fixed and per-request part of its latency in ms."""

LAST, COLUMN = 2, 5
"""The most accurate mode, and the most accurate cascade."""

KNOTS = ((0.1, 0.3, 0.8), (0.4, 0.5, 0.9))


def cascade(
    found: Profile, first: str, last: str, threshold: float, escalated: float, accuracy: float
) -> Cascade:
    """A cascade between two modes of a profile."""
    latency_s = found.mode_named(first).latency_s, found.mode_named(last).latency_s
    name = cascade_name(first, last, threshold)
    return Cascade(name, (first, last), threshold, escalated, accuracy, accuracy - 0.01, 500, latency_s, KNOTS)


def cascaded(
    sizes: tuple[int, ...] = (1, 2, 4),
    buckets: tuple[float, ...] = (),
    slope_ms: float = 9,
    fixed_ms: float = 6,
    resumed: float | None = None,
) -> Profile:
    """Three modes that nest, two cascades from the second to the third, and one from the first.

    A batch takes `fixed_ms` in the third, and `slope_ms` for each request. What is escalated takes this part of
    that, if any is `resumed`.
    """
    found = profile({**MODES, FULL: (0.99, fixed_ms, slope_ms)}, sizes=sizes, buckets=buckets)
    cascades = (
        cascade(found, CHEAP, MIDDLE, 0.6, 0.35, 0.85),
        cascade(found, MIDDLE, FULL, 0.5, 0.15, 0.96),
        cascade(found, MIDDLE, FULL, 0.75, 0.3, 0.985),
    )
    if resumed is not None:
        rest = [replace(one, resumed_s=_part_of(one.latency_s[1], resumed)) for one in cascades]
        return replace(found, cascades=tuple(rest))
    return replace(found, cascades=cascades)


def _part_of(latency_s: Any, part: float) -> Any:
    if isinstance(latency_s, list | tuple):
        return [_part_of(each, part) for each in latency_s]
    return part * latency_s


def escalate(view: View) -> Decision:
    """The first job in line runs in the cascade, or once more if it is unsure."""
    live = view.queue.jobs[0]
    column = LAST if live.escalates else COLUMN
    return Decision(batch=BatchChoice(live.table, column, 0, ((0, len(live.waiting)),)))


def hesitate(view: View) -> Decision:
    """As `escalate`, but what is unsure is kept waiting."""
    return Decision() if view.queue.jobs[0].escalates else escalate(view)
