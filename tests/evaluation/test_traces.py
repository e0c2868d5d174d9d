from pathlib import Path

import numpy as np
import pytest

from mosel.cli import run
from mosel.core.errors import FileError, UsageError
from mosel.core.tables import write_profile
from mosel.evaluation.arrivals import Recipe, generate, mapped
from mosel.evaluation.traces import read_counts
from mosel.evaluation.workload import read_workload

from .stand_ins import profile

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
MULTIMODAL = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 4\n1 0\n2 5\n", [4, 0, 5]),
        ("7,4\n8,3\n10,5\n", [4, 3, 0, 5]),
        ("0 4\n10 6\n20 1\n", [4] * 10 + [6] * 10 + [1] * 10),
        ("3 1 4 1 5\n", [3, 1, 4, 1, 5]),
        ("3\n1\n4\n", [3, 1, 4]),
        ("second_of_day,created,deleted,total\n9,2,1,3\n10,4,0,4\n", [3, 4]),
        (AZURE + "2023-11-16 18:17:04.9,1,1\n2023-11-16 18:17:06.2000000,1,1\n", [2, 0, 1]),
        (MULTIMODAL + "2024-10-15 00:00:00.5,2,9,9\n2024-10-15 00:00:01.6+00:00,0,9,9\n", [1, 1]),
        (
            BURST + "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,API log\n",
            [1] + [0] * 39 + [1],
        ),
    ],
)
def test_every_form_is_read_as_requests_in_each_second(tmp_path: Path, text: str, expected: list[int]) -> None:
    """Columns, counts alone and one row a request give the same thing: requests of each second."""
    (tmp_path / "trace").write_text(text)
    assert read_counts(tmp_path / "trace").tolist() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("minute,day,requests\n0,0,1\n", "column 'minute' is unknown"),
        ("0 4\n1 x\n", "line 2: 'x'"),
        ("0 4\n0 5\n", "do not ascend"),
        ("0 1\n1\n", "line 2: '1'"),
        ("0 0\n1 0\n", "no request"),
        ("0 1\n99999999 1\n99999999999 1\n", "whole number"),
        (BURST + "nan,x\n", "line 2: 'nan'"),
        (BURST, "no rows"),
        (AZURE + "yesterday,1,1\n", "line 3: 'yesterday'"),
        ("0 1\n900000000 1\n", "expected less than"),
        (BURST + "1,m,1,1,2,x\n1e300,m,1,1,2,x\n", "expected less than"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, text: str, said: str) -> None:
    """An error names the line and what was expected there."""
    (tmp_path / "trace").write_text(text)
    with pytest.raises(FileError, match=said):
        read_counts(tmp_path / "trace")


def test_packed_files_are_told(tmp_path: Path) -> None:
    """A compressed file is not taken for text."""
    (tmp_path / "trace.bz2").write_bytes(b"BZh91AY\xd8\xff")
    with pytest.raises(FileError, match="unpack"):
        read_counts(tmp_path / "trace.bz2")


def test_a_trace_is_mapped_onto_least_and_greatest_rate() -> None:
    """The least count becomes the least rate and the greatest the greatest, all others in between (§7.1)."""
    recipe = Recipe("trace", 3, least_rps=5, most_rps=25)
    assert mapped(recipe, np.array([10, 20, 30])).tolist() == [5, 15, 25]


def test_a_trace_is_scaled_to_a_mean_and_loses_nothing() -> None:
    """With a mean rate the counts are multiplied, parts carried over; with none they are kept."""
    series = np.array([1, 2, 3, 2] * 50)
    assert mapped(Recipe("trace", 200), series).tolist() == series.tolist()
    assert mapped(Recipe("trace", 200, rate_rps=0.5), series).sum() == 100


def test_requests_of_a_trace_arrive_in_its_seconds() -> None:
    """Each second of the workload has exactly the requests of the trace's second."""
    series = np.array([3, 0, 8, 1])
    made = generate(Recipe("trace", 4, seed=2), profile(), series)
    found = [sum(job.requests for job in made.jobs if job.arrival_ns // 10**9 == second) for second in range(4)]
    assert found == series.tolist()


def test_a_trace_can_be_too_short() -> None:
    """A duration beyond the trace's end is refused."""
    with pytest.raises(UsageError, match="at most the 2 s"):
        mapped(Recipe("trace", 3), np.array([1, 2]))


def test_the_command_replays_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mosel workload trace` starts where it is told, runs faster if asked, and takes the whole trace."""
    write_profile(profile(), tmp_path / "profile.json")
    (tmp_path / "trace").write_text("100 100 1 2 3 4 5")
    words = [
        "workload",
        "trace",
        "--profile",
        str(tmp_path / "profile.json"),
        "--trace",
        str(tmp_path / "trace"),
    ]
    out = tmp_path / "w.csv"
    assert run([*words, "--start", "2", "--speed", "2", "-o", str(out), "--quiet"]) == 0
    assert read_workload(out).requests == 1 + 2 + 3 + 4
    assert run([*words, "--start", "7", "-o", str(out)]) == 2
    assert "nothing of the trace is left" in capsys.readouterr().err
    assert run(["workload", "poisson", *words[2:], "--rate", "1"]) == 2
    assert "belong together" in capsys.readouterr().err
    assert run([*words[:4], "--rate", "1"]) == 2
    assert "belong together" in capsys.readouterr().err
    assert run([*words, "--min-rate", "1"]) == 2
    assert "both ends" in capsys.readouterr().err
