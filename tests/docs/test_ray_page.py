import importlib
import json

import pytest

from tests.docs.blocks import ROOT


def test_the_page_shows_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the page is what the benchmark writes from its results, nothing by hand."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("ray_engine")
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert results["format"] == benchmark.FORMAT
    assert benchmark.with_block(page, "throughput", benchmark.block(results)) == page
