import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mosel.cli import run
from mosel.core.clock import to_s
from mosel.core.errors import UsageError
from mosel.core.tables import Profile, write_profile
from mosel.evaluation.arrivals import Recipe, full_latency_s, generate
from mosel.evaluation.lengths import parse_lengths, with_lengths
from mosel.evaluation.tenants import Tenant, with_tenants
from mosel.evaluation.workload import read_workload

from .stand_ins import profile

LIMITS = (50.0, 100.0, 200.0)


def bucketed() -> Profile:
    """The profile of two modes, a clip twice as long taking twice as long."""
    plain = profile()

    def rows(values: Any) -> list[list[float]]:
        return [[value * limit / 50 for value in values] for limit in LIMITS]

    modes = tuple(
        replace(
            mode,
            latency_s=rows(mode.latency_s),
            latency_p99_s=rows(mode.latency_p99_s),
            memory_bytes=[mode.memory_bytes] * 3,
        )
        for mode in plain.modes
    )
    return replace(plain, modes=modes, length_buckets=LIMITS)


TABLE = bucketed()
JOBS = generate(Recipe("poisson", 40.0, 0, rate_rps=100, latency_slo_s=None, latency_factor=5.0), TABLE)


def test_each_job_is_as_long_as_its_bucket_allows() -> None:
    """Jobs are drawn by shares; a relative latency SLO is that of the job's own length; the rest stays."""
    made = with_lengths(JOBS, (2, 1, 1), TABLE, 5.0, seed=0)
    counts = Counter(job.length for job in made.jobs)
    assert [counts[limit] / len(made.jobs) for limit in LIMITS] == pytest.approx([0.5, 0.25, 0.25], abs=0.06)
    assert made.columns == ("length",)
    for before, job in zip(JOBS.jobs, made.jobs, strict=True):
        own_s = full_latency_s(TABLE, job.requests, job.length)
        assert to_s(job.deadline_ns - job.arrival_ns) == pytest.approx(5 * own_s)
        assert (before.id, before.arrival_ns, before.requests) == (job.id, job.arrival_ns, job.requests)
    shortest = next(job for job in made.jobs if job.length == LIMITS[0])
    assert full_latency_s(TABLE, shortest.requests) == 4 * full_latency_s(TABLE, shortest.requests, LIMITS[0])


def test_a_tenant_with_a_relative_slo_has_that_of_the_jobs_length() -> None:
    """Lengths are drawn first."""
    made = with_tenants(
        with_lengths(JOBS, (1, 0, 0), TABLE, 5.0, seed=0), (Tenant("t", 1, None, 3.0),), TABLE, 0
    )
    for job in made.jobs:
        own_s = full_latency_s(TABLE, job.requests, LIMITS[0])
        assert to_s(job.deadline_ns - job.arrival_ns) == pytest.approx(3 * own_s)
    assert made.columns == ("tenant", "length")


def test_the_seed_decides_how_long_a_job_is() -> None:
    """The same seed draws the same lengths, another seed others."""
    first, again, other = (with_lengths(JOBS, (1, 1, 1), TABLE, 5.0, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("text", ["", "a,b", "1,-1,1", "0,0,0", "nan,1,1"])
def test_what_are_no_shares_is_refused(text: str) -> None:
    """The message shows what shares look like."""
    with pytest.raises(UsageError, match="expected the shares of length buckets, as in 2,1,1"):
        parse_lengths(text)


def test_other_buckets_than_the_profile_has_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few, or no model whose latency depends on a length."""
    with pytest.raises(UsageError, match="2 shares; the profile of 'm' has 3 length buckets, up to 50, 100"):
        with_lengths(JOBS, (1, 1), TABLE, None, 0)
    write_profile(profile(), tmp_path / "p.json")
    assert run(["workload", "poisson", "--profile", str(tmp_path / "p.json"), "--lengths", "1,1"]) == 2
    assert "no profile has length buckets" in capsys.readouterr().err


def test_the_command_writes_lengths_that_the_simulator_keeps_apart(tmp_path: Path) -> None:
    """Of two models the one that has length buckets; batches are of one bucket each, and all three are run."""
    paths = [str(tmp_path / name) for name in ("m.json", "n.json", "w.csv", "run")]
    write_profile(TABLE, Path(paths[0]))
    write_profile(profile("n"), Path(paths[1]))
    words = ["workload", "poisson", "--profile", paths[0], "--profile", paths[1], "--rate", "20"]
    words += ["--duration", "5", "--lengths", "1,1,1", "--latency-slo", "5x", "--quiet"]
    assert run([*words, "-o", paths[2]]) == 0
    found = {(job.model, job.length) for job in read_workload(Path(paths[2])).jobs}
    assert found == {*(("m", limit) for limit in LIMITS), ("n", None)}
    assert run(["simulate", *paths[:3], "-o", paths[3]]) == 0
    rows = csv.DictReader((Path(paths[3]) / "batches.csv").read_text().splitlines())
    assert {(row["model"], row["bucket"]) for row in rows} == {("m", "0"), ("m", "1"), ("m", "2"), ("n", "")}
