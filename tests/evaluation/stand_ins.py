"""Profiles, workloads and scripted schedulers for the tests of this folder."""

from collections.abc import Callable, Iterable, Sequence

from mosel.core.clock import NS_PER_MS
from mosel.core.states import Reason, State
from mosel.core.tables import Device, Mode, Profile
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.evaluation.workload import Workload
from mosel.online.events import Action, Complete, Dispatch, Event

CHEAP, FULL = "audio", "audio+video"


def profile(model: str = "m", sizes: int = 4, cheap_ms: float = 1.0, full_ms: float = 10.0) -> Profile:
    """A profile of two modes whose latency is proportional to the batch size."""
    return Profile(
        format="mosel.profile/1",
        model=model,
        modalities=("audio", "video"),
        metric="accuracy",
        batch_sizes=tuple(range(1, sizes + 1)),
        modes=(_mode(("audio",), 0.6, sizes, cheap_ms), _mode(("audio", "video"), 0.9, sizes, full_ms)),
        device=Device("none", "host"),
        precision="float32",
        software={},
        measured_at="2026-01-01T00:00:00Z",
    )


def job(name: str, at_ms: float = 0, requests: int = 1, slo: float = 0.5, within_ms: float = 1000) -> Job:
    """A job of model `m`."""
    arrival_ns = round(at_ms * NS_PER_MS)
    return Job(name, "m", requests, slo, arrival_ns, arrival_ns + round(within_ms * NS_PER_MS))


def workload(*jobs: Job) -> Workload:
    """A workload without optional columns."""
    return Workload(jobs)


def batch(number: int, *parts: tuple[str, int], worker: int = 0, mode: str = CHEAP) -> Batch:
    """A batch with so many requests of each job."""
    held = tuple(Part(name, tuple(range(count))) for name, count in parts)
    return Batch(number, worker, "m", mode, 0, held, 0)


def served(what: Job, finish_ns: int, accuracy: float = 0.6) -> Complete:
    """The receipt of a job that ran: served or late."""
    in_time = finish_ns <= what.deadline_ns
    outcome, reason = (State.SERVED, Reason.ON_TIME) if in_time else (State.LATE, Reason.AFTER_DEADLINE)
    return Complete(Receipt(what, outcome, reason, "", finish_ns, finish_ns, accuracy))


def dropped(what: Job, now_ns: int) -> Complete:
    """The receipt of a job that was given up."""
    return Complete(Receipt(what, State.DROPPED, Reason.NO_TIME_LEFT, "", now_ns))


class Scripted:
    """A scheduler that answers with what `react` returns and keeps what it was told, and when."""

    def __init__(self, react: Callable[[Sequence[Event], int], Iterable[Action]]) -> None:
        self.told: list[tuple[int, list[Event]]] = []
        self._react = react

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Record and react."""
        self.told.append((now_ns, list(events)))
        return list(self._react(events, now_ns))


def dispatch(*batches: Batch) -> list[Action]:
    """Dispatch these batches."""
    return [Dispatch(each) for each in batches]


def _mode(modalities: tuple[str, ...], accuracy: float, sizes: int, step_ms: float) -> Mode:
    latency_s = tuple(step_ms * size / 1000 for size in range(1, sizes + 1))
    return Mode(modalities, accuracy, accuracy, 100, latency_s, latency_s, (1,) * sizes)
