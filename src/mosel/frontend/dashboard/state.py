"""What the page asks for every second: one small JSON object; only seconds that it does not have yet."""

from collections.abc import Mapping, Sequence

from mosel import __version__
from mosel.core.clock import NS_PER_S, to_ms
from mosel.core.states import OUTCOMES, State
from mosel.frontend.history import Decided, History, Second
from mosel.frontend.standing import Entry
from mosel.online.engine import Snapshot

SECOND_COLUMNS = (
    "at_s", "queued", "arrived", *(outcome.value for outcome in OUTCOMES), "accuracy", "slo", "slack_ms",
    "least_slack_ms", "ran",
)  # fmt: skip
"""What the lists in `seconds` hold, in this order; means where `Second` has sums, null where there are none."""


def state(
    history: History,
    snapshot: Snapshot,
    *,
    ready: bool,
    settings: Mapping[str, str | int],
    modes: Mapping[str, Sequence[str]],
    profiles: Mapping[str, Sequence[Entry]],
    reliability: Mapping[str, Sequence[Mapping[str, object]]],
    since_s: int,
) -> dict[str, object]:
    """Return the state of a server.

    Args:
        history: of its jobs.
        snapshot: its engine's counters.
        ready: whether it takes jobs.
        settings: its policy, say.
        modes: by model, the least accurate first.
        profiles: by model, what its profile says of each mode beside what is seen.
        reliability: by model, what cascades promise beside what is seen, see `reliability.py`.
        since_s: the first second, on the server's clock, that is asked for.
    """
    seconds = history.since(since_s)
    now_s = seconds[-1].at_s if seconds else since_s
    return {
        "version": __version__,
        "ready": ready,
        "settings": settings,
        "modes": modes,
        "profiles": profiles,
        "reliability": {model: bins for model, bins in reliability.items() if bins},
        "up_s": now_s - history.began_s,
        "workers": snapshot.workers,
        "queued": snapshot.queued_jobs,
        "decision_ms": {"p50": snapshot.decisions.p50_us / 1e3, "p99": snapshot.decisions.p99_us / 1e3},
        "arrived": history.arrived_requests,
        "ended": history.ended_requests,
        "columns": SECOND_COLUMNS,
        "seconds": [_row(second) for second in seconds],
        "decisions": [_decision(decided, now_s) for decided in history.decided],
    }


def _row(second: Second) -> list[object]:
    on_time = second.ended[State.SERVED]
    answered = on_time + second.ended[State.LATE]
    return [
        second.at_s,
        second.queued,
        second.arrived,
        *second.ended.values(),
        _mean(second.accuracy, on_time),
        _mean(second.slo, on_time),
        _mean(second.slack_ms, answered),
        second.least_slack_ms,
        second.ran,
    ]


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 6) if count else None


def _decision(decided: Decided, now_s: int) -> dict[str, object]:
    receipt, job = decided.receipt, decided.receipt.job
    return {
        "ago_s": max(0, now_s - receipt.decided_ns // NS_PER_S),
        "job": job.id,
        "model": job.model,
        "requests": job.requests,
        "slo": job.accuracy_slo,
        "latency_slo_ms": to_ms(job.deadline_ns - job.arrival_ns),
        "outcome": receipt.outcome.value,
        "reason": receipt.reason.value,
        "decision": decided.choice.value,
        "accuracy": receipt.accuracy,
        "modes": dict(receipt.modes),
        "slack_ms": None if receipt.finish_ns is None else to_ms(job.deadline_ns - receipt.finish_ns),
    }
