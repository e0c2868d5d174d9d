import importlib
from typing import Any

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that writes the page."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("_peer_page")


def test_the_page_shows_the_committed_results(page: Any) -> None:
    """The page's tables, and the CSV file and the plot, are what the scripts write from their results."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text) == text, "run benchmarks/peers.py --redraw"
    if results := page.committed(page.PEERS):
        assert page.csv_text(results) == page.CSV.read_text(encoding="utf-8")
        assert page.figure(results["cells"], page.LOADS) == page.PLOT.read_text(encoding="utf-8")


def test_tables_and_plot_say_what_was_measured(page: Any) -> None:
    """A row a server and a column a load; what had no answer has no completion time."""
    cells = [
        {
            "system": name,
            "load": load,
            "requests": 10,
            **dict.fromkeys(page.MEASURES, 0.25),
            "jct_mean_s": None if name == "Triton" else 0.0625,
        }
        for name in ("mosel, joint", "Triton")
        for load in page.LOADS
    ]
    settings = {"capacity_rps": 99.6, "slo_s": 0.5, "duration_s": 15.0}
    machine = {"device": "CPU", "cores": 2, "date": "2026-01-01", "software": {"torch": "2"}}
    text = page.peers_block({"settings": settings, "cells": cells, **machine})
    assert "| mosel, joint | 25.0% | 25.0% | 25.0% | 25.0% |" in text
    assert "| mosel, joint | 62 ms | 62 ms | 62 ms | 62 ms |" in text
    assert "| Triton | – | – | – | – |" in text
    assert "A load of 1 is 100 requests a second; latency SLO 500 ms" in text
    assert page.figure(cells, page.LOADS).count("<polyline") == 3 * 8
    assert len(page.csv_text({"cells": cells}).splitlines()) == 1 + len(cells)
