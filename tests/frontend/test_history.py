from msgspec.structs import replace

from mosel.core.clock import NS_PER_MS, NS_PER_S
from mosel.core.states import Reason, State
from mosel.core.types import Job, Receipt
from mosel.frontend.best import Choice
from mosel.frontend.dashboard.state import SECOND_COLUMNS, state
from mosel.frontend.history import DECISIONS, SECONDS, History
from mosel.online.decisions import Decisions
from mosel.online.engine import Snapshot

JOB = Job("j", "m", 2, 0.5, 0, 100 * NS_PER_MS)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> int:
        """Return the time."""
        return int(self.s * NS_PER_S)


def served(job: Job = JOB, accuracy: float = 0.8, finish_ns: int = 40 * NS_PER_MS) -> Receipt:
    """Return what serves a job."""
    return Receipt(job, State.SERVED, Reason.ON_TIME, "", finish_ns, finish_ns, accuracy, (("a", 1), ("b", 1)))


def test_a_second_sums_its_jobs() -> None:
    """Arrivals, outcomes, modes, accuracy, SLO and slack are those of the second's jobs, by requests."""
    history = History(Clock())
    for job in (JOB, replace(JOB, requests=1), JOB):
        history.arrived(job)
    history.ended(served(), Choice.MOST_ACCURATE)
    history.ended(Receipt(JOB, State.DROPPED, Reason.NO_TIME_LEFT, "", 0), Choice.NOT_RUN)
    (second,) = history.since(0)
    assert (second.arrived, second.queued) == (5, 3)
    assert (second.ended[State.SERVED], second.ended[State.DROPPED]) == (2, 2)
    assert second.ran == {"a": 1, "b": 1}
    assert (second.accuracy, second.slo, second.slack_ms, second.least_slack_ms) == (1.6, 1.0, 120.0, 60.0)
    assert history.arrived_requests == 5
    assert history.ended_requests["served"] == 2


def test_quiet_seconds_are_there_too() -> None:
    """A second in which nothing happened stands with the queue as it was; `since` leaves out what is known."""
    clock = Clock()
    history = History(clock)
    history.arrived(JOB)
    clock.s += 3
    assert [(one.at_s, one.arrived, one.queued) for one in history.since(1001)] == [
        (1001, 0, 1),
        (1002, 0, 1),
        (1003, 0, 1),
    ]
    history.ended(served(), Choice.MOST_ACCURATE)
    clock.s += 1
    assert history.since(1004)[0].queued == 0


def test_it_is_bounded() -> None:
    """However long a server runs, so many seconds and decisions are kept."""
    clock = Clock()
    history = History(clock)
    for _ in range(DECISIONS + 5):
        history.arrived(JOB)
        history.ended(served(), Choice.MOST_ACCURATE)
    clock.s += 10 * SECONDS
    history.arrived(JOB)
    kept = history.since(0)
    assert [one.at_s for one in kept] == list(range(kept[-1].at_s - SECONDS + 1, kept[-1].at_s + 1))
    assert len(list(history.decided)) == DECISIONS


def test_the_state_holds_means() -> None:
    """What the page gets are means over requests, null where there were none, and the decisions' codes."""
    history = History(Clock())
    history.arrived(JOB)
    empty = Snapshot(1, 0, 0, 0, ("ready",), Decisions())
    told = {
        "ready": True,
        "settings": {"policy": "joint"},
        "modes": {"m": ("a", "b")},
        "profiles": {},
        "reliability": {"m": []},
    }
    (row,) = _rows(state(history, empty, since_s=0, **told))  # type: ignore[arg-type]
    assert row["accuracy"] is row["slo"] is row["slack_ms"] is row["least_slack_ms"] is None
    history.ended(served(), Choice.CHEAPER_FOR_DEADLINES)
    found = state(history, empty, since_s=0, **told)  # type: ignore[arg-type]
    (row,) = _rows(found)
    assert (row["accuracy"], row["slo"], row["slack_ms"], row["served"]) == (0.8, 0.5, 60.0, 2)
    decisions: list[dict[str, object]] = found["decisions"]  # type: ignore[assignment]
    (decision,) = decisions
    assert decision["decision"] == "cheaper_for_deadlines"
    assert decision["modes"] == {"a": 1, "b": 1}
    assert decision["latency_slo_ms"] == 100


def _rows(found: dict[str, object]) -> list[dict[str, object]]:
    seconds: list[list[object]] = found["seconds"]  # type: ignore[assignment]
    return [dict(zip(SECOND_COLUMNS, row, strict=True)) for row in seconds]
