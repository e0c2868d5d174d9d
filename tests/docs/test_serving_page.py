import importlib
import json

import pytest

from tests.docs.blocks import ROOT


@pytest.mark.parametrize("name", ["serving", "overload"])
def test_the_page_shows_the_committed_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table of the page is what the benchmark writes from its results; without any it says so."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module(name)
    page = benchmark.PAGE.read_text(encoding="utf-8")
    if not benchmark.RESULTS.exists():
        nothing = "No run on an idle machine is committed yet; the command above makes this table."
        assert benchmark.with_block(page, name, nothing) == page
        return
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    assert results["format"] == benchmark.FORMAT
    assert benchmark.with_block(page, name, benchmark.block(results)) == page, (
        f"run benchmarks/{name}.py --redraw"
    )
