import importlib
import json

import pytest

from tests.docs.blocks import ROOT


def test_the_page_shows_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables are what the script writes from results, and these are of runs that found nothing wrong."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("operations_page")
    assert script.page() == script.PAGE.read_text(encoding="utf-8"), "run scripts/operations_page.py"
    told = {path.stem: json.loads(path.read_text()) for path in script.RESULTS.glob("*.json")}
    chaos, soak = told["chaos"], told.get("soak", {"processes": []})
    assert chaos["problems"] == []
    assert min(chaos["observed"].values()) >= 20
    assert [one["problems"] for one in soak["processes"]] == [[]] * len(soak["processes"])
