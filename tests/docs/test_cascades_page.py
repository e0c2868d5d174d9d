import importlib
import json
from types import ModuleType

import numpy as np
import pytest

from tests.docs.blocks import ROOT
from tests.online.cascaded import FULL, cascaded


def module(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A part of the benchmark, its neighbours importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def test_the_page_shows_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the page are what the benchmark writes from its results, nothing by hand."""
    benchmark = module(monkeypatch, "cascades")
    results = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert results["format"] == benchmark.FORMAT
    assert benchmark.with_block(page, results) == page, "run benchmarks/cascades.py --redraw"


def test_the_committed_results_reach_their_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost, promise and deadlines are what the page says that cascades are for."""
    results = json.loads(module(monkeypatch, "cascades").RESULTS.read_text(encoding="utf-8"))
    ways = {name: way["live"] for name, way in results["live"]["ways"].items()}
    full, cascade, mix = ways["all modalities"], ways["cascade"], ways["cheapest mix"]
    assert cascade["accuracy"] >= full["accuracy"] - 0.002
    assert cascade["cost_s"] <= min(0.5 * full["cost_s"], 0.67 * mix["cost_s"])
    assert min(results["promise"]["kept"], *results["promise"]["alone"].values()) >= 0.95
    assert sum(row["on_time_lower"] for row in results["loads"]) == 0
    assert all(more > less for less, more in (row["effective_accuracy"] for row in results["loads"]))


def test_right_answers_are_counted_by_the_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose last stage is always right, and whose first is where it is sure, is never wrong."""
    benchmark = module(monkeypatch, "_promise")
    profile = cascaded()
    sure = np.linspace(0, 1, 500)
    scores = {mode: (sure >= 0.5).astype(float) for mode in profile.mode_names} | {FULL: np.ones(500)}
    found = benchmark.Judged(scores, dict.fromkeys(profile.mode_names, sure))
    assert benchmark.alone(profile, found, sets=5, seed=0)[profile.cascades[2].name] == 1
    kept = benchmark.served(profile, found, load=1.0, seed=1)
    assert kept.requests > 100
    assert 0.5 < kept.reached <= 1
    assert kept.promised_low < kept.promised
    wrong = benchmark.Judged(dict.fromkeys(scores, np.zeros(500)), found.confidence)
    assert benchmark.served(profile, wrong, load=1.0, seed=1).reached == 0
