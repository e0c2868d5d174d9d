import json
from pathlib import Path

import pytest

from mosel.core.clock import NS_PER_MS
from mosel.core.errors import FileError
from mosel.core.states import State
from mosel.core.types import Job
from mosel.evaluation.recorded import read_run
from mosel.evaluation.results import BatchResult, JobResult, Run, modes_run, summarise, write_run

from .stand_ins import CHEAP, FULL, job

MS = NS_PER_MS


def example() -> Run:
    """A run with one job of every outcome."""
    a, b, c, d, e = (job(name, at_ms=10 * i, requests=i + 1) for i, name in enumerate("abcde"))
    jobs = [
        JobResult(a, State.SERVED, 20 * MS, 20 * MS, 0.9, ((FULL, 1),)),
        JobResult(b, State.LATE, 1110 * MS, 1110 * MS, 0.6, ((CHEAP, 2),)),
        JobResult(c, State.DROPPED, 500 * MS, modes=((CHEAP, 1),)),
        JobResult(d, State.REJECTED, 30 * MS),
        JobResult(e, State.FAILED, 600 * MS),
    ]
    batches = [
        BatchResult(0, 0, 10 * MS, 20 * MS, FULL, 1, (("a", 1),)),
        BatchResult(1, 0, 20 * MS, 25 * MS, CHEAP, 5, (("e", 5),), done=False),
        BatchResult(2, 0, 1107 * MS, 1110 * MS, CHEAP, 3, (("b", 2), ("c", 1))),
    ]
    return Run("none", 1, 7, jobs, batches, extra={"load": 2.0}, decisions_ns=[1000, 3000])


def test_the_files_are_as_documented(tmp_path: Path) -> None:
    """`jobs.csv` and `batches.csv` have the documented columns, empty cells and status words."""
    write_run(example(), tmp_path)
    assert (tmp_path / "jobs.csv").read_text().splitlines() == [
        "job,arrival_s,requests,accuracy_slo,deadline_s,outcome,decided_s,finish_s,accuracy,modes",
        "a,0.0,1,0.5,1.0,served,0.02,0.02,0.9,audio+video:1",
        "b,0.01,2,0.5,1.01,late,1.11,1.11,0.6,audio:2",
        "c,0.02,3,0.5,1.02,dropped,0.5,,,audio:1",
        "d,0.03,4,0.5,1.03,rejected,0.03,,,",
        "e,0.04,5,0.5,1.04,failed,0.6,,,",
    ]
    assert (tmp_path / "batches.csv").read_text().splitlines() == [
        "batch,worker,start_s,finish_s,mode,size,jobs,status",
        "0,0,0.01,0.02,audio+video,1,a:1,done",
        "1,0,0.02,0.025,audio,5,e:5,failed",
        "2,0,1.107,1.11,audio,3,b:2;c:1,done",
    ]
    assert json.loads((tmp_path / "timing.json").read_text()) == {
        "decision_us": {"mean": 2.0, "p50": 2.0, "p99": 2.98, "max": 3.0}
    }


def test_the_summary_is_as_documented(tmp_path: Path) -> None:
    """Shares are of requests, every job not served is a violation, completion times count late jobs too."""
    write_run(example(), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    jct = found.pop("jct_s")
    assert jct["mean"] == pytest.approx((0.02 + 1.1) / 2)
    assert (jct["p50"], jct["p99"]) == pytest.approx((0.56, 0.02 + 0.99 * 1.08))
    assert list(jct) == ["mean", "p50", "p90", "p99"]
    assert found == {
        "format": "mosel.run/1",
        "policy": "none",
        "workers": 1,
        "seed": 7,
        "requests": 15,
        "on_time": 1 / 15,
        "late": 2 / 15,
        "dropped": 3 / 15,
        "rejected": 4 / 15,
        "failed": 5 / 15,
        "accuracy": 0.9,
        "effective_accuracy": 0.9 / 15,
        "throughput_rps": 1 / 1.11,
        "violation_ratio": 14 / 15,
        "bound": None,
        "extra": {"load": 2.0},
    }


def test_a_run_in_which_nothing_was_served_has_nulls() -> None:
    """Without an answer there is no accuracy and no completion time; shares and throughput are numbers."""
    row = JobResult(job("a"), State.REJECTED, 0)
    summary = summarise(Run("none", 1, 0, [row], []))
    assert (summary.accuracy, summary.jct_s.mean, summary.jct_s.p99) == (None, None, None)
    assert (summary.throughput_rps, summary.violation_ratio, summary.effective_accuracy) == (0, 1, 0)


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    """A run directory survives its files, optional columns of the workload and of the batches included."""
    told = Job("a", "m", 2, 0.5, 1, 10**9 + 1, ("audio",), 3.0, "me", 4.5)
    batches = [
        BatchResult(0, 1, 1, 2, CHEAP, 2, (("a", 2),), model="m", bucket=1),
        BatchResult(1, 1, 2, 3, FULL, 1, (("b", 1),), model="n", resumed=((CHEAP, 1),)),
    ]
    rows = [JobResult(told, State.SERVED, 2, 2, 0.6, ((CHEAP, 2),))]
    columns = ("weight", "model", "tenant", "modalities", "length")
    summary = write_run(Run("paper", 2, 0, rows, batches, columns), tmp_path)
    found = read_run(tmp_path)
    assert found.jobs == tuple(rows)
    assert found.batches == tuple(batches)
    assert found.summary == summary


def test_modes_count_only_batches_that_are_done() -> None:
    """A failed batch's requests did not run."""
    assert modes_run(example().batches) == {"a": {FULL: 1}, "b": {CHEAP: 2}, "c": {CHEAP: 1}}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("jobs.csv", "served", "serv", "line 2: column 'outcome' is 'serv'; expected one of served"),
        ("jobs.csv", "0.02,0.02", "0.02,x", "column 'finish_s' is 'x'"),
        ("jobs.csv", "modes", "mood", "column 'mood' is unknown"),
        ("batches.csv", "done", "did", "column 'status' is 'did'; expected done or failed"),
        ("batches.csv", "a:1", "a", "column 'jobs' is 'a'; expected name:count"),
        ("batches.csv", "0,0,", "x,0,", "column 'batch' is 'x'"),
        ("summary.json", '"seed"', '"sead"', "sead"),
        ("summary.json", "mosel.run/1", "mosel.run/9", "key `format` is 'mosel.run/9'"),
        ("timing.json", "{", "[", "timing.json"),
    ],
)
def test_edited_files_are_refused(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    """What does not read as a run names its file and what was expected."""
    write_run(example(), tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FileError) as caught:
        read_run(tmp_path)
    assert said in str(caught.value)
    assert file in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """A missing folder and an empty one are file errors."""
    with pytest.raises(FileError, match="is no folder"):
        read_run(tmp_path / "none")
    with pytest.raises(FileError, match=r"summary\.json"):
        read_run(tmp_path)
