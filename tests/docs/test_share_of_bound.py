import importlib
import json
from types import ModuleType

import pytest

from mosel.core.tables import check_profile
from tests.docs.blocks import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module, its neighbours importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("share_of_bound")


def test_the_page_shows_the_committed_results(benchmark: ModuleType) -> None:
    """The table and the plots of the page are what the benchmark writes from its results, nothing by hand."""
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert results["format"] == benchmark.FORMAT
    assert benchmark.with_block(page, results) == page, "run benchmarks/share_of_bound.py --redraw"
    for name, svg in benchmark.figures(results).items():
        assert (ROOT / "docs" / "assets" / name).read_text(encoding="utf-8") == svg
        assert f"(assets/{name})" in page


def test_every_policy_is_measured_against_the_bound(benchmark: ModuleType) -> None:
    """A workload's results are the same when made again, one a policy, and none above the bound."""
    setting = benchmark.Setting("tvlt", 3.0, 1, 2.0, "5x")
    found = benchmark.measured(setting)
    assert found == benchmark.measured(setting)
    bound, requests, served = found
    assert set(served) == set(benchmark.POLICIES)
    assert 0 < bound <= 1
    assert requests > 0
    assert all(0 <= each.share <= 1 + 1e-9 for each in served.values())


def test_made_up_profiles_are_valid(benchmark: ModuleType) -> None:
    """The five shapes are profiles as they are read from files."""
    assert len(benchmark.SHAPES) == 5
    for name, profile in benchmark.SHAPES.items():
        check_profile(profile, name)
