"""The life of a job as one literal table.

Rules:
1. A job that was accepted ends in exactly one outcome, and its client is told.
2. An outcome is final: nothing leads out of it.
3. A running job whose batch was lost stays `running`; its requests wait again.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands. The last five are outcomes."""

    ARRIVED = "arrived"
    QUEUED = "queued"
    RUNNING = "running"
    SERVED = "served"
    LATE = "late"
    DROPPED = "dropped"
    REJECTED = "rejected"
    FAILED = "failed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.ARRIVED: frozenset({State.REJECTED, State.QUEUED}),
    State.QUEUED: frozenset({State.RUNNING, State.DROPPED, State.FAILED}),
    State.RUNNING: frozenset({State.SERVED, State.LATE, State.DROPPED, State.FAILED}),
    State.SERVED: frozenset(),
    State.LATE: frozenset(),
    State.DROPPED: frozenset(),
    State.REJECTED: frozenset(),
    State.FAILED: frozenset(),
}

OUTCOMES: tuple[State, ...] = tuple(state for state, after in TRANSITIONS.items() if not after)


class Reason(StrEnum):
    """Why a job ended as it did; receipts carry one, and `docs/how-it-works.md` explains each."""

    ON_TIME = "on_time"
    """Every request ran and the job finished by its deadline."""
    AFTER_DEADLINE = "after_deadline"
    """Every request ran, but the job finished after its deadline."""
    ACCURACY_UNREACHABLE = "accuracy_unreachable"
    """No mode of the job's modalities reaches its accuracy SLO."""
    LATENCY_UNREACHABLE = "latency_unreachable"
    """Even alone, in the cheapest mode that meets its accuracy SLO, the job would be late."""
    NO_TIME_LEFT = "no_time_left"
    """Behind the jobs due before it, the job could no longer meet its deadline."""
    WORKER_LOST = "worker_lost"
    """A worker died under the job and it could not be run again in time."""
    MODEL_FAILED = "model_failed"
    """The model raised an error on the job's requests, twice."""
    SERVER_FAILED = "server_failed"
    """The server itself failed on the job; its log says why."""
    BAD_INPUT = "bad_input"
    """A modality could not be decoded and no other mode meets the accuracy SLO."""
    NOT_UPLOADED = "not_uploaded"
    """The tensors of an offer did not come while its place was held."""
    CANCELLED = "cancelled"
    """The client went away."""
    SHUTDOWN = "shutdown"
    """The server stopped before the job could finish."""
