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
    soak = told.get("soak", {"processes": []})
    for name, least in (("chaos", 20), ("chaos_doors", 1), ("chaos_ray", 1)):
        chaos = told.get(name, {"problems": [], "injected": {}, "observed": {}})
        assert chaos["problems"] == []
        assert min((chaos["observed"][fault] for fault in chaos["injected"]), default=least) >= least
    assert [one["problems"] for one in soak["processes"]] == [[]] * len(soak["processes"])
