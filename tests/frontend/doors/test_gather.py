"""What several groups say, as one answer."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mosel.core.states import OUTCOMES
from mosel.frontend.doors import gather

COLUMNS = [
    "at_s", "queued", "arrived", *(outcome.value for outcome in OUTCOMES), "accuracy", "slo", "slack_ms",
    "least_slack_ms", "ran",
]  # fmt: skip

ONE = b"""# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{outcome="served"} 3.0
# HELP queued Jobs that wait.
# TYPE queued gauge
queued 2.0
"""
OTHER = b"""# HELP queued Jobs that wait.
# TYPE queued gauge
queued 5.0
# HELP late_total Late ones.
# TYPE late_total counter
late_total{why="a {brace} and } a space"} 1.0
"""


def test_metrics_carry_their_group() -> None:
    """Every sample has the label, each family stands together, and a parser takes all."""
    text = gather.metrics({0: ONE, 2: OTHER}, "# TYPE own_total counter\nown_total 1.0\n").decode()
    found = {
        (sample.name, sample.labels.get("group")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == {
        ("jobs_total", "0"): 3,
        ("queued", "0"): 2,
        ("queued", "2"): 5,
        ("late_total", "2"): 1,
        ("own_total", None): 1,
    }
    assert text.count("# TYPE queued gauge") == 1
    assert 'late_total{group="2",why="a {brace} and } a space"} 1.0' in text


def second(at_s: int, served: int, late: int = 0, **changes: Any) -> list[Any]:
    """One second of a group."""
    accuracy, slack_ms = (0.5 + served / 10, 10.0 * (served + late)) if served else (None, None)
    row: dict[str, Any] = {"at_s": at_s, "queued": 1, "arrived": served + late, "served": served, "late": late}
    row |= {"dropped": 0, "rejected": 0, "failed": 0, "accuracy": accuracy, "slo": accuracy}
    row |= {"slack_ms": slack_ms, "least_slack_ms": slack_ms, "ran": {"a": served} if served else {}}
    row |= changes
    return [row[column] for column in COLUMNS]


def told(seconds: list[list[Any]], ready: bool, ago_s: int) -> dict[str, Any]:
    """Return a group's state."""
    return {
        "version": "1",
        "ready": ready,
        "settings": {"policy": "joint", "workers": 2, "seed": 0},
        "modes": {"m": ["a"]},
        "profiles": {"m": [{"mode": "a"}]},
        "reliability": {},
        "up_s": ago_s,
        "workers": ["ready"],
        "queued": 3,
        "decision_ms": {"p50": ago_s, "p99": 2 * ago_s},
        "arrived": 4,
        "ended": {outcome.value: 1 for outcome in OUTCOMES},
        "columns": COLUMNS,
        "seconds": seconds,
        "decisions": [{"ago_s": ago_s, "job": f"j{ago_s}"}],
    }


def test_seconds_of_the_dashboard_add_up() -> None:
    """Counts are sums, means are weighted; of a second that one group lacks the other has all."""
    one = told([second(7, 1), second(8, 2, late=2)], ready=False, ago_s=5)
    other = told([second(8, 4), second(9, 0)], ready=True, ago_s=3)
    found = json.loads(gather.state({0: one, 1: other}))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found["seconds"]]
    assert [row["at_s"] for row in rows] == [7, 8, 9]
    assert (rows[1]["served"], rows[1]["late"], rows[1]["arrived"], rows[1]["queued"]) == (6, 2, 8, 2)
    assert rows[1]["accuracy"] == (2 * 0.7 + 4 * 0.9) / 6
    assert (rows[1]["slack_ms"], rows[1]["least_slack_ms"], rows[1]["ran"]) == (40.0, 40.0, {"a": 6})
    assert rows[2]["accuracy"] is None
    assert (found["ready"], found["queued"], found["arrived"], found["up_s"]) == (True, 6, 8, 5)
    assert found["ended"] == {outcome.value: 2 for outcome in OUTCOMES}
    assert found["settings"]["workers"] == 4
    assert found["decision_ms"] == {"p50": 5, "p99": 10}
    assert [decision["job"] for decision in found["decisions"]] == ["j3", "j5"]
    assert list(found["profiles"]) == ["m, group 0", "m, group 1"]


def statistics(count: int, last: int, *sizes: int) -> dict[str, Any]:
    """Return a group's statistics of one model."""
    batches = [{"batch_size": size, "compute_infer": {"count": count, "ns": 10}} for size in sizes]
    model = {"name": "m", "version": "1", "last_inference": last, "inference_count": count}
    return {
        "model_stats": [{**model, "inference_stats": {"queue": {"count": 1, "ns": 2}}, "batch_stats": batches}]
    }


def test_statistics_add_up() -> None:
    """By batch size too; of the last inferences the later counts."""
    found = json.loads(gather.statistics({0: statistics(3, 20, 1, 2), 1: statistics(4, 10, 2, 4)}))
    (model,) = found["model_stats"]
    assert (model["name"], model["version"], model["last_inference"], model["inference_count"]) == (
        "m",
        "1",
        20,
        7,
    )
    assert model["inference_stats"] == {"queue": {"count": 2, "ns": 4}}
    counts = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in model["batch_stats"]}
    assert counts == {1: 3, 2: 7, 4: 4}


def test_accuracies_say_whose_they_are() -> None:
    """Each entry carries its group."""
    told = {"model_name": "m", "metric": "accuracy", "modes": [{"mode": "a"}], "cascades": []}
    found = json.loads(gather.accuracies({0: told, 1: told}))
    assert found["modes"] == [{"group": 0, "mode": "a"}, {"group": 1, "mode": "a"}]
    assert found["metric"] == "accuracy"
