import importlib
import json
from types import ModuleType

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module, its neighbours importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scaling")


def test_the_page_shows_the_committed_results(benchmark: ModuleType) -> None:
    """The tables and the plots of the page are what the benchmark writes from its results, nothing by hand."""
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert results["format"] == benchmark.FORMAT
    for name, block in benchmark.blocks(results).items():
        assert benchmark.with_block(page, name, block) == page, "run benchmarks/scaling.py --redraw"
    for name, svg in benchmark.figures(results).items():
        assert (ROOT / "docs" / "assets" / name).read_text(encoding="utf-8") == svg
        assert f"(assets/{name})" in page


def test_a_thousand_workers_serve_as_much_as_one(benchmark: ModuleType) -> None:
    """In the committed results a thousand workers are within 2 points of one, at each load."""
    rows = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))["workers"]
    for load in benchmark.LOADS:
        share = {row["workers"]: row["groups"]["share"] for row in rows if row["load"] == load}
        assert share[1000] >= share[1] - 0.02


def test_what_a_door_carries_is_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of real calls is what its benchmark writes from the committed results."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    door = importlib.import_module("front_door")
    results = json.loads(door.RESULTS.read_text(encoding="utf-8"))
    assert results["format"] == door.FORMAT
    page = door.PAGE.read_text(encoding="utf-8")
    assert door.with_block(page, "door-calls", door.block(results)) == page, (
        "run benchmarks/front_door.py --redraw"
    )
