"""Whether a profile still holds: what it promises of each mode beside what is seen of it live.

Latencies are judged as in `online/drift.py`, accuracies as in `feedback.py`; here both stand side by side, for
the model's metadata and the dashboard.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mosel.online.drift import TOLERANCE

Entry = dict[str, Any]


def standing(
    model: str, seen: Iterable[Mapping[str, Any]], ratios: Mapping[tuple[str, str], float]
) -> list[Entry]:
    """Return one entry a mode: that of its live accuracy, and how latencies compare with the profile's.

    Args:
        model: the model's name.
        seen: what `LiveAccuracy.of_model` says.
        ratios: by model and mode, seen over profiled latency, where enough batches were seen.
    """
    return [{**entry, **_latency(ratios.get((model, str(entry["mode"]))))} for entry in seen]


def drifted(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return in which modes the profile does not hold, and in what: `audio:latency;video:accuracy`."""
    return ";".join(
        f"{entry['mode']}:{what}"
        for entry in entries
        for what, holds in (
            ("accuracy", entry["holds"]),
            ("agreement", (entry.get("agreement") or {}).get("holds")),
            ("latency", entry["latency_holds"]),
        )
        if holds is False
    )


def _latency(ratio: float | None) -> Entry:
    if ratio is None:
        return {"latency_ratio": None, "latency_holds": None}
    off = max(ratio, 1 / max(ratio, 1e-9)) - 1
    return {"latency_ratio": round(ratio, 4), "latency_holds": off <= TOLERANCE}
