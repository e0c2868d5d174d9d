"""One answer out of those of all groups: metrics, the dashboard's state, statistics, live accuracies.

Counts add up, means are weighted by what they are means of, and what belongs to a group says which. Groups of
one machine share its clock, so that the seconds of one are those of the others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from mosel.core.states import OUTCOMES, State
from mosel.frontend.history import DECISIONS

Told = Mapping[int, Any]
"""What groups said, by their number."""


def metrics(texts: Mapping[int, bytes], own: str) -> bytes:
    """Return the metrics of all groups, each sample with the label `group`, and the front doors' own."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for group, text in texts.items():
        name = ""
        for line in text.decode().splitlines():
            if line.startswith("#"):
                name = line.split(" ", 3)[2]
                known = heads.setdefault(name, [])
                known += [line] if line not in known else []
            elif line:
                samples.setdefault(name, []).append(_labelled(line, group))
    lines = [line for name, head in heads.items() for line in (*head, *samples.get(name, ()))]
    return ("\n".join(lines) + "\n" + own).encode()


def state(told: Told) -> bytes:
    """Return what the dashboard shows of all groups together."""
    first = next(iter(told.values()))
    decisions = sorted(
        (one for each in told.values() for one in each["decisions"]), key=lambda one: one["ago_s"]
    )
    return orjson.dumps(
        {
            **first,
            "ready": any(each["ready"] for each in told.values()),
            "settings": {
                **first["settings"],
                "workers": sum(each["settings"]["workers"] for each in told.values()),
            },
            "profiles": _by_group(told, "profiles"),
            "reliability": _by_group(told, "reliability"),
            "up_s": max(each["up_s"] for each in told.values()),
            "workers": [worker for each in told.values() for worker in each["workers"]],
            "queued": sum(each["queued"] for each in told.values()),
            "decision_ms": {
                part: max(each["decision_ms"][part] for each in told.values()) for part in first["decision_ms"]
            },
            "arrived": sum(each["arrived"] for each in told.values()),
            "ended": {name: sum(each["ended"][name] for each in told.values()) for name in first["ended"]},
            "seconds": _seconds(first["columns"], [each["seconds"] for each in told.values()]),
            "decisions": decisions[:DECISIONS],
        }
    )


def statistics(told: Told) -> bytes:
    """Return the groups' statistics added up."""
    models: dict[tuple[str, str], Any] = {}
    for each in told.values():
        for model in each["model_stats"]:
            key = model["name"], model["version"]
            models[key] = _added(models[key], model) if key in models else model
    return orjson.dumps({"model_stats": list(models.values())})


def accuracies(told: Told) -> bytes:
    """Return what every group says of its modes and cascades; each entry says whose it is."""
    first = next(iter(told.values()))
    lists = {
        key: [{"group": group, **entry} for group, each in told.items() for entry in each[key]]
        for key in ("modes", "cascades")
    }
    return orjson.dumps({**first, **lists})


GATHERED: Mapping[str, Callable[[Told], bytes]] = {
    "/dashboard/state": state,
    "/stats": statistics,
    "/accuracy": accuracies,
}
"""What is gathered, by the end of its path."""


def _labelled(line: str, group: int) -> str:
    """Return a sample with the label `group`."""
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f'{name}{{group="{group}",{rest}'
    name, _, rest = line.partition(" ")
    return f'{name}{{group="{group}"}} {rest}'


def _by_group(told: Told, key: str) -> dict[str, Any]:
    if len(told) == 1:
        return dict(next(iter(told.values()))[key])
    return {
        f"{model}, group {group}": found for group, each in told.items() for model, found in each[key].items()
    }


def _seconds(columns: Sequence[str], each: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any]]:
    rows: dict[int, list[dict[str, Any]]] = {}
    for own in each:
        for row in own:
            named = dict(zip(columns, row, strict=True))
            rows.setdefault(named["at_s"], []).append(named)
    together = [_second(rows[at_s]) for at_s in sorted(rows)]
    return [[second[column] for column in columns] for second in together]


def _second(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one second of all groups; see `dashboard/state.py` for what stands in it."""
    on_time = [row[State.SERVED] for row in rows]
    answered = [row[State.SERVED] + row[State.LATE] for row in rows]
    least = [row["least_slack_ms"] for row in rows if row["least_slack_ms"] is not None]
    ran: dict[str, int] = {}
    for row in rows:
        for mode, count in row["ran"].items():
            ran[mode] = ran.get(mode, 0) + count
    return {
        "at_s": rows[0]["at_s"],
        "ran": ran,
        **{name: sum(row[name] for row in rows) for name in ("queued", "arrived", *OUTCOMES)},
        "accuracy": _mean([row["accuracy"] for row in rows], on_time),
        "slo": _mean([row["slo"] for row in rows], on_time),
        "slack_ms": _mean([row["slack_ms"] for row in rows], answered),
        "least_slack_ms": min(least, default=None),
    }


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _added(one: Any, other: Any) -> Any:
    """Add up two groups' statistics; of times of day the later counts, of names the first."""
    if isinstance(one, dict):
        found = {key: _added(value, other[key]) for key, value in one.items() if key not in _NOT_ADDED}
        later = {"last_inference": max(one["last_inference"], other["last_inference"])} if _LAST in one else {}
        return {**one, **found, **later}
    if isinstance(one, list):
        sizes = {each["batch_size"]: each for each in one}
        for each in other:
            size = each["batch_size"]
            sizes[size] = _added(sizes[size], each) if size in sizes else each
        return [sizes[size] for size in sorted(sizes)]
    return one + other if isinstance(one, int) else one


_LAST = "last_inference"
_NOT_ADDED = (_LAST, "batch_size")
