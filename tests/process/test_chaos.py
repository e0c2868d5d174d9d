"""Chaos against a real server, a handful of seeds; `mosel chaos --seeds 200` is the long form."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

MAIN = "from mosel.cli import main; main()"


def told_by(folder: Path, *words: str) -> dict[str, Any]:
    """Run `mosel chaos` to its end and return its results, in which the tally is even and nothing wrong."""
    command = [sys.executable, "-c", MAIN, "chaos", *words, "-o", "chaos.json", "--quiet"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    told: dict[str, Any] = json.loads((folder / "chaos.json").read_text())
    assert told["sent"] == sum(told["outcomes"].values()) > 0
    assert told["problems"] == []
    return told


@pytest.mark.timeout(300)
def test_every_fault_is_survived_and_every_job_accounted_for(tmp_path: Path) -> None:
    """Six seeds bring every fault once or twice: the tally comes out even, and each is noticed."""
    told = told_by(tmp_path, "--seeds", "6")
    assert told["sent"] > 100
    assert len(told["injected"]) == 11
    assert all(told["observed"][name] for name in told["injected"])


@pytest.mark.timeout(300)
def test_faults_on_ray_are_survived_and_every_job_accounted_for(tmp_path: Path) -> None:
    """Two seeds on actors: the tally comes out even, and each fault is noticed."""
    told = told_by(tmp_path, "--engine", "ray", "--seeds", "2")
    assert all(told["observed"][name] for name in told["injected"])


@pytest.mark.timeout(300)
def test_groups_and_front_doors_that_are_killed_lose_no_job_unseen(tmp_path: Path) -> None:
    """Three seeds kill a group, a door, both at once, and a worker: what doors counted is what clients saw."""
    told = told_by(tmp_path, "--groups", "2", "--front-doors", "2", "--seeds", "3")
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
