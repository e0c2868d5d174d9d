"""The Grafana dashboard that ships, `docs/assets/grafana.json`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mosel.core.errors import RefusedError
from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Batch, Job, Part, Receipt
from mosel.frontend.best import Best
from mosel.frontend.feedback import Estimate
from mosel.frontend.metrics import Metrics
from mosel.online.decisions import Decisions
from mosel.online.engine import Snapshot

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "assets" / "grafana.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
TARGETS: list[dict[str, Any]] = [target for panel in PANELS for target in panel["targets"]]
UNITS = {"reqps", "ops", "percentunit", "s", "short"}
JOB = Job("j", "m", 2, 0.5, 0, 10)


@pytest.fixture
def samples(profile: Profile) -> dict[str, set[str]]:
    """What `/metrics` shows once everything has happened: each sample's name, and its labels."""
    ratios = {("m", "text"): 1.0}
    snapshot = Snapshot(0, 0, 0, 0, ("ready",), Decisions(), latency_ratios=ratios)
    seen = {("m", "text"): Estimate(0.8, 0.7, 0.9, 100)}
    metrics = Metrics(("m",), lambda: snapshot, Best([profile]), lambda: seen, lambda: seen)
    metrics.arrived(JOB)
    metrics.answered(Receipt(JOB, State.SERVED, Reason.ON_TIME, "", 5, 5, 0.8, (("text", 2),)))
    metrics.ran(Batch(1, 0, "m", "text", 0, (Part("j", (0, 1)),), 100), 90)
    metrics.refused(RefusedError("no"))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target["expr"]))
def test_panels_ask_for_what_there_is(target: dict[str, Any], samples: dict[str, set[str]]) -> None:
    """Each metric is exposed by the server, with the labels that are asked for; legends name what is left."""
    names = re.findall(r"\b(mosel_\w+)", target["expr"])
    assert names
    assert set(names) <= set(samples)
    there = set.intersection(*(samples[name] for name in names))
    groups = re.findall(r"by \(([^)]*)\)", target["expr"])
    grouped = {label for group in groups for label in group.split(", ")}
    assert grouped | set(re.findall(r'(\w+)(?:=~|!=|=)"', target["expr"])) <= there
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= (grouped if groups else there)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_panels_explain_themselves(panel: dict[str, Any]) -> None:
    """A panel says what it shows and in which unit."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


def test_panels_stand_side_by_side() -> None:
    """No two panels share an id or a place on the grid of 24 columns."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_it_is_bound_to_no_data_source() -> None:
    """It asks the data source and the models that its user picks, so that it can be imported anywhere."""
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert {one["datasource"]["uid"] for one in (*PANELS, *TARGETS)} == {"${datasource}"}
    assert all(f"${name}" in json.dumps(PANELS) or f"${{{name}}}" in json.dumps(PANELS) for name in variables)
