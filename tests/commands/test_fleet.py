"""`--worker` and `--workers`, through `mosel simulate` and `mosel bound`."""

import json
from pathlib import Path

import msgspec
import pytest

from mosel.cli import run
from mosel.core.tables import Mode, Profile, write_profile
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from tests.online.driver import profile

MODES = {"audio": (0.66, 4, 3), "video": (0.70, 6, 5), "audio+video": (0.8, 10, 8)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles of a model on workers of three kinds and of another model, and a workload of each, entered."""
    monkeypatch.chdir(tmp_path)
    fast = profile(MODES, sizes=(1, 2, 4, 8))
    write_profile(fast, Path("fast.json"))
    write_profile(profile(MODES, sizes=(1, 2, 4, 8), scale=3), Path("slow.json"))
    write_profile(_sharp(fast), Path("sharp.json"))
    write_profile(profile({"text": (0.5, 2, 1), "text+audio": (0.9, 5, 4)}, model="n"), Path("other.json"))
    write_profile(profile(MODES, sizes=(1, 2, 4), model="n"), Path("second.json"))
    Path("w.csv").write_text(workload("m"))
    Path("both.csv").write_text(workload("m", "n"))
    return tmp_path


def _sharp(table: Profile) -> Profile:
    """The same at higher accuracies, as another precision may have, without the mode `video`."""
    modes: list[Mode] = [
        msgspec.structs.replace(mode, accuracy=mode.accuracy + 0.1)
        for mode in table.modes
        if "audio" in mode.modalities
    ]
    return msgspec.structs.replace(table, modes=tuple(modes))


def workload(*models: str) -> str:
    """Bursts of jobs, each of the next model; every seventh is out of reach but for sharp workers."""
    lines = ["job,arrival_s,requests,accuracy_slo,latency_slo_s,model"]
    for i in range(150):
        slo = 0.85 if i % 7 == 6 else 0.5 + (i * 11 % 16) / 100
        within = (0.06, 0.15, 0.4)[i % 3]
        at = i // 10 * 0.12 + i % 10 * 0.004
        lines.append(f"j{i},{at:.4f},{1 + i * 5 % 9},{slo},{within},{models[i % len(models)]}")
    return "\n".join(lines) + "\n"


def simulated(
    workload_file: str, *workers: str, policy: str = "joint", more: tuple[str, ...] = ()
) -> list[str]:
    """Simulate these workers, and return what cannot be true about the run."""
    words = ["simulate", workload_file, "--policy", policy, "-o", "run", "--quiet", *more]
    assert run([*words, *(word for worker in workers for word in ("--worker", worker))]) == 0
    own = [[Path(name) for name in worker.split(",")] for worker in workers]
    exact = not {"--noise", "--latency-scale"} & set(more)
    return check_run(Path("run"), [], Path(workload_file), workers=own, profiled=exact)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "policy", ["none", "none+batching", "random", "aggressive", "paper", "optimized", "joint"]
)
def test_every_policy_keeps_its_promises_on_unlike_workers(policy: str) -> None:
    """Each batch takes what its own worker's profile says, in a mode and at an accuracy of that worker."""
    for workers in (("slow.json", "fast.json"), ("fast.json", "sharp.json", "slow.json")):
        assert simulated("w.csv", *workers, policy=policy) == []
        found = read_run(Path("run"))
        assert {batch.worker for batch in found.batches} == set(range(len(workers)))
        assert policy == "none" or found.summary.late == 0
        assert found.summary.extra["worker_profiles"] == list(workers)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("policy", ["none+batching", "optimized", "joint"])
def test_a_worker_never_runs_a_model_that_it_lacks(policy: str) -> None:
    """Where each worker has other models, its batches are of these."""
    assert simulated("both.csv", "fast.json", "other.json,slow.json", "other.json", policy=policy) == []
    models = {(batch.worker, batch.model) for batch in read_run(Path("run")).batches}
    assert models == {(0, "m"), (1, "m"), (1, "n"), (2, "n")}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "more",
    [
        ("--noise", "0.3"),
        ("--latency-scale", "0.5", "--latency-scale", "audio=3"),
        ("--outage", "1:0.2:0.5", "--outage", "0:0.6:0.9", "--outage", "2:0:1"),
        ("--charge-decisions",),
    ],
)
def test_worlds_that_depart_from_the_profiles(more: tuple[str, ...]) -> None:
    """Noise, other latencies, outages and charged decisions on unlike workers: every law holds."""
    assert simulated("both.csv", "sharp.json,other.json", "slow.json", "fast.json,other.json", more=more) == []


@pytest.mark.usefixtures("folder")
def test_a_sharper_worker_serves_what_others_cannot() -> None:
    """Jobs above the reach of one kind are served by another, and refused where there is none."""
    assert simulated("w.csv", "fast.json") == []
    refused = {row.job.id for row in read_run(Path("run")).jobs if row.outcome == "rejected"}
    assert {f"j{i}" for i in range(6, 150, 7)} <= refused
    assert simulated("w.csv", "fast.json", "sharp.json") == []
    served = {row.job.id for row in read_run(Path("run")).jobs if row.outcome == "served"}
    assert served & refused


@pytest.mark.usefixtures("folder")
def test_faster_workers_serve_more() -> None:
    """One fast and one slow worker lie between two slow and two fast ones."""
    shares = []
    for workers in (("slow.json", "slow.json"), ("slow.json", "fast.json"), ("fast.json", "fast.json")):
        assert simulated("w.csv", *workers) == []
        shares.append(read_run(Path("run")).summary.on_time)
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.usefixtures("folder")
def test_equal_workers_are_the_same_given_either_way() -> None:
    """Three times `--worker` is `--workers 3`, byte by byte but for the note of how it was given."""
    assert run(["simulate", "fast.json", "w.csv", "--workers", "3", "-o", "number", "--quiet"]) == 0
    assert simulated("w.csv", "fast.json", "fast.json", "fast.json") == []
    for name in ("jobs.csv", "batches.csv"):
        assert Path("number", name).read_bytes() == Path("run", name).read_bytes()


@pytest.mark.usefixtures("folder")
def test_a_profile_that_no_job_needs_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no error, since fleets outlive workloads, but one line on stderr says so."""
    words = ["simulate", "w.csv", "--worker", "fast.json", "--worker", "fast.json,other.json", "-o", "run"]
    assert run(words) == 0
    assert "note: no job is of model n, of which a profile is given" in capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("folder")
def test_the_bound_of_a_fleet_needs_no_other_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    """As for a simulation, the workers' own profiles are enough, and no policy exceeds it."""
    assert run(["bound", "w.csv", "--worker", "fast.json", "--worker", "slow.json", "--quiet"]) == 0
    bound = json.loads(capsys.readouterr().out)["bound"]
    assert simulated("w.csv", "fast.json", "slow.json", more=("--bound",)) == []
    summary = read_run(Path("run")).summary
    assert summary.bound == bound
    assert 0 < summary.on_time <= bound < 1


@pytest.mark.parametrize("command", ["simulate", "bound"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["fast.json", "w.csv", "--workers", "2", "--worker", "fast.json"],
            "--workers and --worker contradict",
        ),
        (["w.csv", "--worker", "gone.json"], "gone.json: cannot be read"),
        (
            ["w.csv", "--worker", "fast.json,slow.json"],
            "--worker fast.json,slow.json: slow.json: model 'm' has",
        ),
        (["w.csv", "--worker", "fast.json,fast.json"], "fast.json: model 'm' has a profile already"),
        (["w.csv", "--worker", "fast.json,"], "expected PROFILE or PROFILE,PROFILE"),
        (["w.csv", "--worker", ""], "expected PROFILE or PROFILE,PROFILE"),
        (["other.json", "fast.json", "both.csv", "--worker", "fast.json"], "model 'n' runs on no worker"),
        (["both.csv", "--worker", "fast.json"], "column 'model' is 'n'; expected one of m"),
        (["both.csv", "--worker", "fast.json,other.json", "--worker", "second.json"], "modalities"),
        (["w.csv"], "PROFILE… WORKLOAD"),
        (["fast.json", "w.csv", "--workers", "0"], "0 workers; expected at least 1"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes_about_workers_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], command: str, words: list[str], said: str
) -> None:
    """Status 2 and one line that says what was expected."""
    assert run([command, *words, *(("-o", "run") if command == "simulate" else ())]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("more", [(), ("--charge-decisions",)])
def test_groups_of_unlike_workers_behind_front_doors(folder: Path, more: tuple[str, ...]) -> None:
    """The run holds against each worker's own profiles, and says how the fleet was divided."""
    crew = ("fast.json", "fast.json", "slow.json", "sharp.json")
    assert simulated("w.csv", *crew, more=("--groups", "2", "--front-doors", "3", *more)) == []
    extra = json.loads((folder / "run" / "summary.json").read_text())["extra"]
    assert (extra["groups"], extra["front_doors"]) == (2, 3)
    assert {batch.worker for batch in read_run(folder / "run").batches} >= {0, 1, 3}


def test_more_groups_than_workers_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names both numbers."""
    assert run(["simulate", "fast.json", "w.csv", "--groups", "2", "-o", "run"]) == 2
    assert "2 groups of 1 workers; expected at least one worker a group" in capsys.readouterr().err
    assert folder.is_dir()
