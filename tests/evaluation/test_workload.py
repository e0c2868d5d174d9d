from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosel.core.errors import FileError
from mosel.core.types import Job
from mosel.evaluation.workload import (
    Workload,
    format_workload,
    merged,
    read_workload,
    write_workload,
)

HEADER = "job,arrival_s,requests,accuracy_slo,latency_slo_s"
MODELS: dict[str, tuple[str, ...]] = {"m": ("audio", "video")}


def read(tmp_path: Path, *lines: str, models: dict[str, tuple[str, ...]] | None = None) -> Workload:
    """Read a workload that has these lines."""
    path = tmp_path / "workload.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_workload(path, models)


def test_rows_become_jobs(tmp_path: Path) -> None:
    """Seconds become nanoseconds, and the deadline is arrival plus latency SLO."""
    found = read(tmp_path, HEADER, "a,0.5,3,0.75,1.25")
    assert found.jobs == (Job("a", "", 3, 0.75, 500_000_000, 1_750_000_000),)
    assert found.columns == ()
    assert found.requests == 3


def test_what_a_spreadsheet_writes_before_the_header_is_passed_over(tmp_path: Path) -> None:
    """Some write a byte order mark."""
    assert read(tmp_path, "\ufeff" + HEADER, "a,0.5,3,0.75,1.25").requests == 3


def test_optional_columns_are_read_and_remembered(tmp_path: Path) -> None:
    """Every optional column reaches the job; empty cells take the column's default."""
    header = HEADER + ",weight,modalities,model,tenant,length"
    full, empty = read(tmp_path, header, "a,0,1,0,1,2.5,video,m,me,7", "b,0,1,0,1,,,,,").jobs
    assert full == Job("a", "m", 1, 0, 0, 10**9, ("video",), 2.5, "me", 7)
    assert empty == Job("b", "", 1, 0, 0, 10**9)


def test_the_only_model_is_the_default_and_orders_modalities(tmp_path: Path) -> None:
    """Without a model column a job belongs to the only model, its modalities in that model's order."""
    (job,) = read(tmp_path, HEADER + ",modalities", "a,0,1,0.5,1,video+audio", models=MODELS).jobs
    assert (job.model, job.modalities) == ("m", ("audio", "video"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((HEADER + ",colour", "a,0,1,0.5,1,red"), "line 1: column 'colour' is unknown"),
        (("job,arrival_s", "a,0"), "column 'requests' is missing"),
        ((HEADER + ",job", "a,0,1,0.5,1,a"), "stands twice"),
        ((HEADER,), "no jobs"),
        (("",), "is missing"),
        ((HEADER, "a,0,1,0.5"), "line 2: 4 cells; expected 5"),
        ((HEADER, "a,nan,1,0.5,1"), "line 2: column 'arrival_s' is 'nan'; expected seconds ≥ 0"),
        ((HEADER, "a,-1,1,0.5,1"), "column 'arrival_s' is '-1'"),
        ((HEADER, "a,1,1,0.5,1", "b,0.5,1,0.5,1"), "line 3: column 'arrival_s' is 0.5, after 1.0"),
        ((HEADER, "a,0,0,0.5,1"), "column 'requests' is '0'; expected a whole number from 1"),
        ((HEADER, "a,1_0,1,0.5,1"), "column 'arrival_s' is '1_0'"),
        ((HEADER, "a,0,1.5,0.5,1"), "column 'requests' is '1.5'"),
        ((HEADER, "a,0,99999999999999999999,0.5,1"), "expected a whole number from 1 to 1,000,000"),
        ((HEADER, f"a,0,{'9' * 5000},0.5,1"), "expected a whole number from 1 to 1,000,000"),
        ((HEADER, "a,1e300,1,0.5,1"), "column 'arrival_s' is '1e300'; expected seconds ≥ 0, at most 1e+09"),
        ((HEADER, "a,0,1,0.5,1e300"), "column 'latency_slo_s' is '1e300'; expected seconds > 0, at most 1e+09"),
        ((HEADER, "a,0,1,1.01,1"), "column 'accuracy_slo' is '1.01'; expected a number from 0 to 1"),
        ((HEADER, "a,0,1,inf,1"), "column 'accuracy_slo' is 'inf'"),
        ((HEADER, "a,0,1,0.5,0"), "column 'latency_slo_s' is '0'; expected seconds > 0"),
        ((HEADER, "a,0,1,0.5,x"), "column 'latency_slo_s' is 'x'"),
        ((HEADER, "a;b,0,1,0.5,1"), "column 'job' is 'a;b'"),
        ((HEADER, "a,0,1,0.5,1", "a,1,1,0.5,1"), "line 3: column 'job' is 'a', which an earlier line has"),
        ((HEADER + ",weight", "a,0,1,0.5,1,0"), "column 'weight' is '0'; expected a number > 0"),
        ((HEADER + ",length", "a,0,1,0.5,1,-3"), "column 'length' is '-3'"),
        ((HEADER + ",modalities", "a,0,1,0.5,1,audio+"), "column 'modalities' is 'audio+'"),
        ((HEADER + ",modalities", "a,0,1,0.5,1,smell"), "line 2: column 'modalities' has 'smell'"),
        ((HEADER + ",model", "a,0,1,0.5,1,other"), "line 2: column 'model' is 'other'; expected one of m"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    """A faulty file is refused with file, line, column and what was expected."""
    with pytest.raises(FileError) as caught:
        read(tmp_path, *lines, models=MODELS)
    assert said in str(caught.value)
    assert "workload.csv" in str(caught.value)


def test_a_missing_model_is_ambiguous_among_several(tmp_path: Path) -> None:
    """With two models a job has to name its own."""
    with pytest.raises(FileError, match="expected one of m, n"):
        read(tmp_path, HEADER, "a,0,1,0.5,1", models={**MODELS, "n": ("text",)})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no UTF-8 are file errors."""
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"job\xff\xfe\x00")
    for path in (tmp_path / "none.csv", tmp_path, binary):
        with pytest.raises(FileError, match=path.name):
            read_workload(path)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**15),
            st.integers(1, 10**6),
            st.floats(0, 1),
            st.integers(1, 10**13),
            st.floats(1e-300, 1e300),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_writing_and_reading_give_the_same_jobs(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, float, int, float]]
) -> None:
    """A workload survives its file to the nanosecond and to the last bit."""
    rows = sorted(rows)
    jobs = tuple(
        Job(f"j{i}", "m", requests, slo, at_ns, at_ns + slo_ns, weight=weight)
        for i, (at_ns, requests, slo, slo_ns, weight) in enumerate(rows)
    )
    path = tmp_path_factory.mktemp("w") / "workload.csv"
    write_workload(Workload(jobs, ("weight",)), path)
    assert read_workload(path, MODELS) == Workload(jobs, ("weight",))


def test_the_text_is_plain_csv() -> None:
    """A written workload has the documented header and unrounded numbers."""
    text = format_workload(Workload((Job("a", "m", 2, 0.1 + 0.2, 1, 2_500_000_001),)))
    assert text == f"{HEADER}\na,1e-09,2,0.30000000000000004,2.5\n"


def test_workloads_of_several_models_are_merged_by_arrival(tmp_path: Path) -> None:
    """Jobs are named after their models, which a column of their own tells; what is written reads back."""
    first = Workload((Job("j0", "a", 1, 0.5, 0, 9), Job("j1", "a", 2, 0.5, 7, 16)))
    second = Workload((Job("j0", "b", 3, 0.5, 4, 13, ("audio",)),), ("modalities",))
    both = merged([first, second])
    assert [job.id for job in both.jobs] == ["a-j0", "b-j0", "a-j1"]
    assert both.columns == ("modalities", "model")
    write_workload(both, tmp_path / "w.csv")
    names = ("audio", "video")
    assert read_workload(tmp_path / "w.csv", {"a": names, "b": names}) == both
