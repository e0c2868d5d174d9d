from collections import Counter
from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.clock import NS_PER_MS, to_s
from mosel.core.errors import UsageError
from mosel.core.tables import write_profile
from mosel.evaluation.arrivals import Recipe, full_latency_s, generate
from mosel.evaluation.tenants import Tenant, parse_tenant, with_tenants
from mosel.evaluation.workload import read_workload

from .stand_ins import profile

PHONE, BATCH = Tenant("phone", 3, 0.2), Tenant("batch", 1, None, 5.0, weight=0.5)
JOBS = generate(Recipe("poisson", 40.0, 0, rate_rps=100), profile())


def test_each_job_has_the_slo_and_the_weight_of_its_tenant() -> None:
    """Jobs are drawn by shares; arrivals, sizes and accuracy SLOs stay as they were."""
    made = with_tenants(JOBS, (PHONE, BATCH), profile(), seed=0)
    counts = Counter(job.tenant for job in made.jobs)
    assert counts["phone"] / len(made.jobs) == pytest.approx(0.75, abs=0.05)
    assert made.columns == ("tenant", "weight")
    for before, job in zip(JOBS.jobs, made.jobs, strict=True):
        slo_ns = job.deadline_ns - job.arrival_ns
        if job.tenant == "phone":
            assert (slo_ns, job.weight) == (200 * NS_PER_MS, 1.0)
        else:
            assert to_s(slo_ns) == pytest.approx(5 * full_latency_s(profile(), job.requests))
            assert job.weight == 0.5
        same = (before.id, before.arrival_ns, before.requests, before.accuracy_slo)
        assert same == (job.id, job.arrival_ns, job.requests, job.accuracy_slo)


def test_the_seed_decides_whose_a_job_is() -> None:
    """The same seed draws the same tenants, another seed others."""
    first, again, other = (with_tenants(JOBS, (PHONE, BATCH), profile(), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "text", ["", "a", "a:1", "a:b:c", ":1:1", "a:0:1", "a:1:-1", "a:1:nan", "a:1:1:1:1", "a:1:1:x"]
)
def test_what_is_no_tenant_is_refused(text: str) -> None:
    """A word that lacks a part or has a number that is none is refused with what was expected."""
    with pytest.raises(UsageError, match="expected NAME:SHARE:SLO"):
        parse_tenant(text)


def test_a_name_is_given_once() -> None:
    """Two tenants of one name are refused."""
    with pytest.raises(UsageError, match="each name once"):
        with_tenants(JOBS, (PHONE, PHONE), profile(), seed=0)


def test_the_command_writes_a_mixture(tmp_path: Path) -> None:
    """`mosel workload --tenant` gives a file whose column says whose each job is."""
    write_profile(profile(), tmp_path / "p.json")
    words = ["--profile", str(tmp_path / "p.json"), "--rate", "50", "--duration", "5", "--quiet"]
    mixture = ["--tenant", "phone:0.5:0.2", "--tenant", "batch:0.5:4x:2"]
    assert run(["workload", "poisson", *words, *mixture, "-o", str(tmp_path / "w.csv")]) == 0
    jobs = read_workload(tmp_path / "w.csv", {"m": ("audio", "video")}).jobs
    assert {(job.tenant, job.weight) for job in jobs} == {("phone", 1.0), ("batch", 2.0)}
    assert run(["workload", "poisson", *words, "--tenant", "phone", "-o", str(tmp_path / "x.csv")]) == 2
