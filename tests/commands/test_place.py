"""`mosel place`, and what `mosel simulate` makes of it."""

import json
from pathlib import Path

import msgspec
import pytest

from mosel.cli import run
from mosel.core.tables import Device, Profile, write_profile
from mosel.evaluation.check import check_run
from tests.online.driver import profile

GIB = 1 << 30


def on(table: Profile, device: str, gib: float) -> Profile:
    """A profile of another device, on which each mode takes so much memory."""
    modes = tuple(
        msgspec.structs.replace(m, memory_bytes=[int(gib * GIB)] * len(m.memory_bytes)) for m in table.modes
    )
    return msgspec.structs.replace(table, device=Device(device, "cuda"), modes=modes)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models on two kinds of devices, and a workload of both, entered."""
    monkeypatch.chdir(tmp_path)
    for device, scale in (("big", 0.1), ("small", 0.3)):
        for model in ("m", "n"):
            write_profile(on(profile(model=model, scale=scale), device, 3), Path(f"{model}-{device}.json"))
    lines = ["job,arrival_s,requests,accuracy_slo,latency_slo_s,model"]
    lines += [f"j{i},{i / 100},{1 + i % 3},0.7,0.5,{'mn'[i % 4 == 0]}" for i in range(300)]
    Path("w.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


PROFILES = ("m-big.json", "m-small.json", "n-big.json", "n-small.json")
DEVICES = ("--device", "big=1:8", "--device", "small=2:4")


def test_what_is_placed_can_be_simulated(folder: Path) -> None:
    """Memory is kept, both models live somewhere, and the workers that follow serve the workload."""
    assert run(["place", *PROFILES, "w.csv", *DEVICES, "-o", "placed"]) == 0
    found = json.loads((folder / "placed" / "placement.json").read_text())
    assert found["format"] == "mosel.placement/1"
    holds = [worker["variants"] for worker in found["workers"]]
    assert holds[0] == ["m@float32", "n@float32"]
    assert all(len(own) == 1 for own in holds[1:])
    assert 0.7 <= found["effective_accuracy"] <= 0.8 + 1e-9
    own = [[Path("placed", name) for name in worker["profiles"]] for worker in found["workers"]]
    words = [word for paths in own for word in ("--worker", ",".join(map(str, paths)))]
    assert run(["simulate", "w.csv", *words, "-o", "run", "--quiet"]) == 0
    assert check_run(Path("run"), sorted({p for paths in own for p in paths}), Path("w.csv"), workers=own) == []
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["on_time"] == 1
    assert summary["effective_accuracy"] == pytest.approx(found["effective_accuracy"], abs=0.03)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--device", "big"), "expected NAME=COUNT:GIB"),
        (("--device", "big=0:8"), "expected NAME=COUNT:GIB"),
        (("--device", "big=1:8"), "the profile of m is of device 'small'"),
        ((*DEVICES, "--device", "other=1:8"), "no profile is of device 'other'"),
        (("--device", "big=1:2", "--device", "small=1:2"), "fits on no device"),
        ((*DEVICES, "--room", "0"), "room 0.0; expected a part"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what was given and what is expected."""
    assert run(["place", *PROFILES, "w.csv", *words, "-o", "placed"]) == 2
    assert says in capsys.readouterr().err
