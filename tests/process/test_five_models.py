"""The paper's five models, small, from one server with one worker."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.tables import Mode, Profile, write_profile
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from mosel.models.base import Model
from mosel.models.registry import find
from mosel.runtime.device import describe

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

NAMES = ("tvlt-small", "avhubert-small", "tbn-small", "selfmm-small", "vilt-small")
GUESSED_S = 0.04
"""Of one request in any mode, roughly: the server finds out what it really is."""


def guessed(model: Model) -> Profile:
    """Return a profile whose latencies are guesses; more modalities promise more."""
    buckets = len(model.length_buckets)
    row = (GUESSED_S, 1.5 * GUESSED_S)
    latency_s, memory_bytes = (row,) * buckets or row, ((1, 1),) * buckets or (1, 1)
    return Profile(
        format="mosel.profile/1",
        model=model.name,
        modalities=model.modality_names,
        metric=model.metric,
        batch_sizes=(1, 2),
        modes=tuple(
            Mode(mode, 0.2 * len(mode), 0.2 * len(mode), 100, latency_s, latency_s, memory_bytes)
            for mode in model.combinations()
        ),
        device=describe("cpu"),
        precision="float32",
        software={},
        measured_at="2026-11-25T00:00:00Z",
        length_buckets=model.length_buckets or None,
        extra={"version": model.version},
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of all five, ready, their profiles beside it."""
    monkeypatch.chdir(tmp_path)
    words = []
    for name in NAMES:
        write_profile(guessed(find(name)), tmp_path / f"{name}.json")
        words += ["--profile", f"{name}.json"]
    command = [sys.executable, "-c", "from mosel.cli import main; main()", "serve", *NAMES, *words]
    with subprocess.Popen(
        [*command, "--http", "127.0.0.1:0", "--device", "cpu"],
        cwd=tmp_path,
        env={**os.environ, "MOSEL_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"^serving .* (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(told))
        yield found[1]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_replay_for_five_models_ends_with_every_job_in_one_outcome(server: str, tmp_path: Path) -> None:
    """One queue, one device: batches of all models take turns, and every job's receipt is accounted for."""
    words = [word for name in NAMES for word in ("--profile", f"{name}.json")]
    made = ["workload", "poisson", *words, "--rate", "15", "--duration", "4", "--latency-slo", "2.0"]
    assert run([*made, "-o", "w.csv", "--quiet"]) == 0
    also = [word for name in NAMES[1:] for word in ("--also", name)]
    assert run(["replay", server, NAMES[0], "w.csv", *also, "-o", "run", "--quiet"]) == 0
    profiles = [tmp_path / f"{name}.json" for name in NAMES]
    found = read_run(tmp_path / "run")
    problems = check_run(
        tmp_path / "run", profiles, tmp_path / "w.csv", profiled=False, arrival_tolerance_s=10.0
    )
    assert problems == []
    assert {row.job.model for row in found.jobs} == set(NAMES)
    assert len(found.jobs) == len((tmp_path / "w.csv").read_text().splitlines()) - 1
    assert {batch.worker for batch in found.batches} == {0}
    assert len({batch.model for batch in found.batches}) > 1
    assert found.summary.extra["client"]["answered_requests"] > 0


def test_a_model_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same model again as a further one is an error that says so, before anything is sent."""
    words = ["replay", "http://127.0.0.1:1", "vilt-small", "w.csv", "--also", "vilt-small", "-o"]
    assert run([*words, str(tmp_path / "run")]) == 2
    assert "expected each model once" in capsys.readouterr().err
