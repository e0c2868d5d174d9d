import importlib
import json

import pytest

from tests.docs.blocks import ROOT


def test_the_page_shows_the_committed_latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the page is what the benchmark writes from its results, nothing by hand."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("zoo_latency")
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert results["format"] == benchmark.FORMAT
    shown = {row["model"] for row in results["rows"]}
    assert [(row["model"], row["mode"]) for row in results["rows"]] == [
        (case.title, mode) for case in benchmark.CASES if case.title in shown for mode in case.sketch_ms
    ]
    assert benchmark.with_block(page, "latencies", benchmark.block(results)) == page, (
        "run benchmarks/zoo_latency.py --redraw"
    )
