import json
from pathlib import Path
from typing import Any

import pytest

from mosel.core.errors import FileError
from tests.docs.blocks import ROOT
from tests.docs.test_pages import load_script

SUMMARY: dict[str, Any] = {
    "format": "mosel.run/1",
    "policy": "none",
    "workers": 1,
    "seed": 7,
    "requests": 1234,
    "on_time": 0.5,
    "violation_ratio": 0.5,
    "accuracy": 0.98765,
    "jct_s": {"mean": 0.0123, "p50": 0.01, "p90": 0.02, "p99": 0.0456},
}
JOBS = "job,arrival_s,requests,modes\na,1.0,3,text:1;text+audio:2\nb,41.0,1,text:1\nc,41.0,5,\n"


def test_table_says_what_the_runs_say(tmp_path: Path) -> None:
    """The table's row is the run's own summary, and the modes' shares are of the requests that ran."""
    script = load_script("results_table")
    text = script.block(script.collect(_profile(tmp_path), [_run(tmp_path / "none", SUMMARY)]))
    assert "| `none` | 50.0% | 50.0% | 0.988 | 12 / 46 ms | text 50.0%, text+audio 50.0% |" in text


def test_table_names_hardware_seed_and_date(tmp_path: Path) -> None:
    """Below the table stand the model, the load, the hardware, the seed and the date of the profile."""
    script = load_script("results_table")
    text = script.block(script.collect(_profile(tmp_path), [_run(tmp_path / "none", SUMMARY)]))
    for part in ("tvlt: 1,234 requests in 40 s", "NVIDIA H200 (cuda)", "seed 7", "torch 2.13.0", "2026-11-22"):
        assert part in text


def test_run_without_an_answer_has_dashes(tmp_path: Path) -> None:
    """Where no request was served there is no accuracy and no completion time to show."""
    nothing = SUMMARY | {"accuracy": None, "jct_s": dict.fromkeys(("mean", "p50", "p90", "p99"))}
    script = load_script("results_table")
    results = script.collect(
        _profile(tmp_path), [_run(tmp_path / "none", nothing, JOBS.split("a,")[0] + "c,1,5,\n")]
    )
    assert "| – | – | – |" in script.block(results)


def test_only_the_block_changes() -> None:
    """Text before and after the markers stays as it is, and writing twice changes nothing more."""
    script = load_script("results_table")
    once = script.with_block(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n", None)
    assert once == f"before\n{script.BEGIN}\n{script.NOTHING_YET}\n{script.END}\nafter\n"
    assert script.with_block(once, None) == once


def test_readme_without_markers_is_an_error() -> None:
    """A README that has lost its markers is not written over."""
    script = load_script("results_table")
    with pytest.raises(FileError, match="results:begin"):
        script.with_block("no markers", None)


def _profile(folder: Path) -> Path:
    text = (ROOT / "docs" / "formats.md").read_text().split('title="profile.json"\n')[1].split("```")[0]
    (folder / "profile.json").write_text(text)
    return folder / "profile.json"


def _run(folder: Path, summary: dict[str, Any], jobs: str = JOBS) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "jobs.csv").write_text(jobs)
    return folder
