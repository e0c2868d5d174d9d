"""Chaos against a real server, a handful of seeds; `mosel chaos --seeds 200` is the long form."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

MAIN = "from mosel.cli import main; main()"


@pytest.mark.timeout(300)
def test_every_fault_is_survived_and_every_job_accounted_for(tmp_path: Path) -> None:
    """Six seeds bring every fault once or twice: the tally comes out even, and each is noticed."""
    command = [sys.executable, "-c", MAIN, "chaos", "--seeds", "6", "-o", "chaos.json", "--quiet"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads((tmp_path / "chaos.json").read_text())
    assert told["sent"] == sum(told["outcomes"].values()) > 100
    assert told["problems"] == []
    assert len(told["injected"]) == 11
    assert all(told["observed"][name] for name in told["injected"])


@pytest.mark.timeout(300)
def test_faults_on_ray_are_survived_and_every_job_accounted_for(tmp_path: Path) -> None:
    """Two seeds on actors: the tally comes out even, and each fault is noticed."""
    words = ["chaos", "--engine", "ray", "--seeds", "2", "-o", "chaos.json", "--quiet"]
    command = [sys.executable, "-c", MAIN, *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads((tmp_path / "chaos.json").read_text())
    assert told["sent"] == sum(told["outcomes"].values()) > 0
    assert told["problems"] == []
    assert all(told["observed"][name] for name in told["injected"])


@pytest.mark.timeout(300)
def test_groups_and_front_doors_that_are_killed_lose_no_job_unseen(tmp_path: Path) -> None:
    """Three seeds kill a group, a door, both at once, and a worker: what doors counted is what clients saw."""
    words = ["chaos", "--groups", "2", "--front-doors", "2", "--seeds", "3", "-o", "chaos.json", "--quiet"]
    command = [sys.executable, "-c", MAIN, *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads((tmp_path / "chaos.json").read_text())
    assert told["sent"] == sum(told["outcomes"].values()) > 0
    assert told["problems"] == []
    assert {"group_killed", "door_killed", "group_and_door_killed", "worker_killed"} < set(told["injected"])
    assert told["observed"] == told["injected"]


def test_a_disk_that_is_full_leaves_no_half_file(tmp_path: Path) -> None:
    """Results are written whole or not at all, with one line that names the file."""
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full += f"resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY})); "
    profile = str(Path(__file__).parents[2] / "profiles" / "av-digits-cpu.json")
    words = ["workload", "--profile", profile, "--duration", "60", "--rate", "20", "-o", "jobs.csv", "--quiet"]
    command = [sys.executable, "-c", full + MAIN, *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == "mosel: jobs.csv: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []
