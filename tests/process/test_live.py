import importlib
from pathlib import Path

import msgspec
import pytest

from mosel.cli import run
from mosel.core.tables import read_profile, write_profile
from mosel.runtime.device import describe

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


def test_live_and_simulated_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server is started and sent the workload; its numbers stand beside simulated ones, on stdout as well."""
    monkeypatch.setattr(importlib.import_module("mosel.evaluation.experiments.live"), "COMPARED", ("joint",))
    made = read_profile(ROOT / "profiles" / "av-digits-cpu.json").profile
    write_profile(msgspec.structs.replace(made, device=describe("cpu")), tmp_path / "here.json")
    words = [
        "--profile",
        str(tmp_path / "here.json"),
        "--quick",
        "--duration",
        "4",
        "-o",
        str(tmp_path / "out"),
    ]
    assert run(["reproduce", "live", *words, "--quiet"]) == 0
    header, row = (tmp_path / "out" / "wall-live.csv").read_text().splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert (found["profile"], found["policy"], found["seed"]) == ("here", "joint", "0")
    assert int(found["requests"]) > 100
    assert 0 <= float(found["live_violation_ratio"]) <= 1
    assert float(found["measured_throughput_rps"]) > 0
    assert "sought: 1 / 1 / 0.2" in capsys.readouterr().out
