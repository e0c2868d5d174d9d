"""Every policy in worlds of every kind: the independent check of what it wrote finds nothing to object to."""

from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.tables import write_profile
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from mosel.online.policies import POLICIES
from tests.online.driver import profile

MODES = {
    "text": (0.6, 3.0, 1.0),
    "audio": (0.8, 4.0, 3.0),
    "text+audio": (0.85, 5.0, 4.0),
    "text+video": (0.95, 9.0, 8.0),
}
PROFILES = ("m.json", "n.json")
WORLDS: dict[str, tuple[str, ...]] = {
    "one worker": (),
    "three workers": ("--workers", "3"),
    "outages": ("--workers", "2", "--outage", "0:0.3:0.7", "--outage", "1:0.5:1.1"),
    "all away": ("--outage", "0:0.2:0.9"),
    "noise": ("--noise", "0.3"),
    "slow": ("--latency-scale", "1.7", "--latency-scale", "audio=0.4"),
}
EXACT = ("one worker", "three workers", "outages", "all away")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, one with length buckets, and jobs of both: of all sizes, some lacking modalities."""
    monkeypatch.chdir(tmp_path)
    write_profile(profile(MODES, sizes=(1, 2, 4, 8), buckets=(1.0, 2.0)), Path("m.json"))
    write_profile(profile({"audio": (0.7, 2, 1), "audio+video": (0.9, 5, 4)}, model="n"), Path("n.json"))
    lines = ["job,arrival_s,requests,accuracy_slo,latency_slo_s,model,modalities,length"]
    for i in range(160):
        model = "mn"[i % 3 == 2]
        has = "audio" if i % 5 == 0 else ""
        slo = 0.5 + i * 11 % 46 / 100
        length = (0.5, 1.0, 2.0)[i % 3] if model == "m" else ""
        at, within = i // 8 * 0.06 + i % 8 * 0.003, (0.03, 0.1, 0.3, 1)[i % 4]
        lines.append(f"j{i},{at:.4f},{1 + i * 7 % 19},{slo:.2f},{within},{model},{has},{length}")
    Path("w.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_breaks_a_law_in_any_world(policy: str) -> None:
    """No overlap, no start before arrival, latencies as profiled, SLOs kept, one outcome a job."""
    for world, words in WORLDS.items():
        assert run(["simulate", *PROFILES, "w.csv", "--policy", policy, *words, "-o", "run", "--quiet"]) == 0
        paths = [Path(name) for name in PROFILES]
        found = check_run(Path("run"), paths, Path("w.csv"), profiled=world in EXACT)
        assert found == [], world
        outcomes = {job.outcome for job in read_run(Path("run")).jobs}
        assert {"served", "rejected"} <= outcomes, world
