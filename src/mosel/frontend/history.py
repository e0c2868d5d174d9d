"""The last minutes of a server, second by second, and its last decisions: what the dashboard shows.

It is bounded: `SECONDS` rows and `DECISIONS` receipts, however long the server runs and however many modes
there are. Nothing here runs by a timer: a second is begun by the first thing that happens in it, or by being
looked at.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mosel.core.clock import NS_PER_S, to_ms
from mosel.core.states import OUTCOMES, State
from mosel.core.types import Job, Receipt
from mosel.frontend.best import Choice

SECONDS = 300
DECISIONS = 20


@dataclass(slots=True)
class Second:
    """What happened in one second of the server's clock, in requests where nothing else is said.

    Attributes:
        at_s: which second.
        queued: the most jobs without an outcome at a time.
        arrived: of jobs that came.
        ended: by outcome, when it was told.
        ran: of jobs that ended, by mode.
        accuracy: sum over requests that were on time.
        slo: the sum of the accuracy SLOs of the same.
        slack_ms: sum over the requests of jobs that have an answer.
        least_slack_ms: of any of these; None where there are none.
    """

    at_s: int
    queued: int = 0
    arrived: int = 0
    ended: dict[State, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    ran: dict[str, int] = field(default_factory=dict)
    accuracy: float = 0.0
    slo: float = 0.0
    slack_ms: float = 0.0
    least_slack_ms: float | None = None


class Decided(NamedTuple):
    """A job that has its outcome, and why it ran in its modes."""

    receipt: Receipt
    choice: Choice


class History:
    """Takes down what jobs do.

    Args:
        now_ns: the server's clock.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._began_s = now_ns() // NS_PER_S
        self._seconds: deque[Second] = deque([Second(self._began_s)], SECONDS)
        self._decided: deque[tuple[Receipt, Choice]] = deque(maxlen=DECISIONS)
        self._live = 0
        self._arrived = 0
        self._ended = dict.fromkeys(OUTCOMES, 0)

    @property
    def began_s(self) -> int:
        """The second in which this server was made."""
        return self._began_s

    @property
    def arrived_requests(self) -> int:
        """How many requests came, ever."""
        return self._arrived

    @property
    def ended_requests(self) -> dict[str, int]:
        """How many requests came to each outcome, ever."""
        return {outcome.value: count for outcome, count in self._ended.items()}

    @property
    def decided(self) -> Iterable[Decided]:
        """The last jobs that have their outcome, the latest first."""
        return [Decided(*one) for one in reversed(self._decided)]

    def since(self, second: int) -> list[Second]:
        """Return what is kept of `second` and those after it; the last is still under way."""
        self._now()
        return [one for one in self._seconds if one.at_s >= second]

    def arrived(self, job: Job) -> None:
        """Take down a job that came."""
        now = self._now()
        self._live += 1
        self._arrived += job.requests
        now.arrived += job.requests
        now.queued = max(now.queued, self._live)

    def ended(self, receipt: Receipt, choice: Choice) -> None:
        """Take down what became of a job."""
        now, requests = self._now(), receipt.job.requests
        self._live -= 1
        self._ended[receipt.outcome] += requests
        self._decided.append((receipt, choice))
        now.ended[receipt.outcome] += requests
        for mode, count in receipt.modes:
            now.ran[mode] = now.ran.get(mode, 0) + count
        if receipt.outcome is State.SERVED:
            now.accuracy += (receipt.accuracy or 0.0) * requests
            now.slo += receipt.job.accuracy_slo * requests
        if receipt.finish_ns is not None:
            slack_ms = to_ms(receipt.job.deadline_ns - receipt.finish_ns)
            now.slack_ms += slack_ms * requests
            least = now.least_slack_ms
            now.least_slack_ms = slack_ms if least is None else min(least, slack_ms)

    def _now(self) -> Second:
        """Return the second under way; fill in those in which nothing happened."""
        at_s = self._now_ns() // NS_PER_S
        last = self._seconds[-1]
        last_s = last.at_s
        if at_s <= last_s:
            return last
        for missing_s in range(max(last_s + 1, at_s - SECONDS + 1), at_s + 1):
            self._seconds.append(Second(missing_s, self._live))
        return self._seconds[-1]
