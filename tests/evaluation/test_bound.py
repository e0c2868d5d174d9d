import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from mosel.cli import run
from mosel.core.clock import NS_PER_MS, NS_PER_S
from mosel.core.errors import UsageError
from mosel.core.tables import Mode, Profile, write_profile
from mosel.core.types import Job
from mosel.evaluation.bound import clairvoyant_bound
from mosel.evaluation.check import check_run
from mosel.evaluation.recorded import read_run
from mosel.evaluation.results import Run, summarise
from mosel.evaluation.simulate import Conditions, Outage, simulate
from mosel.evaluation.summary import Named, summary_rows
from mosel.evaluation.workload import Workload, write_workload
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler

from .stand_ins import job, profile, workload

MODALITIES = (("audio",), ("video",), ("audio", "video"))


def bound(jobs: Sequence[Job], table: Profile | None = None, **world: object) -> float:
    """The bound of some jobs on one profile."""
    conditions = dataclasses.replace(Conditions(), **world)  # type: ignore[arg-type]
    return clairvoyant_bound({"m": table or profile()}, Workload(tuple(jobs)), conditions)


def shaped(modes: Sequence[tuple[tuple[str, ...], float, Sequence[float]]], **more: object) -> Profile:
    """A profile with these modalities, accuracies and latencies in ms by batch size."""
    found = []
    for names, accuracy, latency_ms in modes:
        latency_s = tuple(ms / 1000 for ms in latency_ms)
        found.append(Mode(names, accuracy, accuracy, 1, latency_s, latency_s, (1,) * len(latency_s)))
    sizes = tuple(range(1, len(modes[0][2]) + 1))
    return _with(profile(), modes=tuple(found), batch_sizes=sizes, **more)


def _with(table: Profile, **changes: object) -> Profile:
    fields = {name: getattr(table, name) for name in table.__struct_fields__}
    return Profile(**{**fields, **changes})


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """One to three modes with up to four batch sizes, their latencies not even ascending."""
    sizes = draw(st.integers(1, 4))
    latency = st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.0, 7.0, 20.0]), min_size=sizes, max_size=sizes)
    chosen = draw(st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3, unique=True))
    return shaped([(names, draw(st.sampled_from([0.3, 0.6, 0.75, 0.9])), draw(latency)) for names in chosen])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Profile, Workload, Conditions]:
    """A profile, up to fifteen jobs that crowd, some lacking a modality, and one or two workers."""
    one = st.builds(
        job,
        st.just(""),
        at_ms=st.integers(0, 40),
        requests=st.integers(1, 6),
        slo=st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]),
        within_ms=st.sampled_from([1e-6, 1, 4, 8, 15, 40, 100]),
    )
    jobs = sorted(draw(st.lists(one, min_size=1, max_size=15)), key=lambda each: each.arrival_ns)
    named = [
        structs.replace(each, id=f"j{i}", modalities=draw(st.sampled_from([(), ("audio",), ("video",)])))
        for i, each in enumerate(jobs)
    ]
    outages = draw(st.sampled_from([(), (Outage(0, 5 * NS_PER_MS, 20 * NS_PER_MS),)]))
    scale = draw(st.sampled_from([1.0, 0.5, 1.7]))
    return draw(profiles()), workload(*named), Conditions(draw(st.integers(1, 2)), 0, scale, outages=outages)


@given(worlds(), st.sampled_from(sorted(POLICIES)))
@settings(max_examples=150, deadline=None)
def test_no_policy_exceeds_the_bound(world: tuple[Profile, Workload, Conditions], policy: str) -> None:
    """Whatever the profile, the jobs and the world, no policy serves a larger share on time."""
    table, jobs, conditions = world
    at_most = clairvoyant_bound({"m": table}, jobs, conditions)
    scheduler = Scheduler({"m": table}, workers=conditions.workers, policy=policy, seed=1)
    done = simulate(scheduler, {"m": table}, jobs, conditions)
    found = summarise(Run(policy, conditions.workers, 0, done.jobs, done.batches))
    assert 0 <= found.on_time <= at_most + 1e-12 <= 1 + 1e-12


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_more_workers_never_lower_the_bound(world: tuple[Profile, Workload, Conditions]) -> None:
    """With one worker more the bound is at least as high."""
    table, jobs, conditions = world
    more = dataclasses.replace(conditions, workers=conditions.workers + 1)
    assert (
        clairvoyant_bound({"m": table}, jobs, more) >= clairvoyant_bound({"m": table}, jobs, conditions) - 1e-12
    )


@given(worlds(), profiles(), st.lists(st.booleans(), min_size=15, max_size=15))
@settings(max_examples=80, deadline=None)
def test_no_split_among_different_workers_exceeds_their_bound(
    world: tuple[Profile, Workload, Conditions], other: Profile, side: list[bool]
) -> None:
    """However the jobs are split between two workers of different profiles, together they serve no more."""
    table, jobs, _ = world
    on_time = 0.0
    for own, chosen in ((table, False), (other, True)):
        part = Workload(tuple(job for job, its in zip(jobs.jobs, side, strict=False) if its is chosen))
        if part.jobs:
            done = simulate(Scheduler({"m": own}, policy="joint"), {"m": own}, part, Conditions())
            on_time += summarise(Run("joint", 1, 0, done.jobs, done.batches)).on_time * part.requests
    at_most = clairvoyant_bound({}, jobs, Conditions(2), crew=[{"m": table}, {"m": other}])
    assert on_time / jobs.requests <= at_most + 1e-12


def test_workers_of_one_profile_are_a_crew_of_one_kind() -> None:
    """Profiles given worker by worker, all the same, are as good as a number of workers."""
    jobs = workload(*(job(f"j{i}", at_ms=i, requests=5, slo=0.7, within_ms=40) for i in range(9)))
    crew = [{"m": profile()}, {"m": profile()}]
    found = clairvoyant_bound({}, jobs, Conditions(2), crew=crew)
    assert found == clairvoyant_bound({"m": profile()}, jobs, Conditions(2)) < 1


def test_work_goes_where_it_is_least() -> None:
    """Two workers, each ten times as quick as the other at one mode, do 20 requests of each in 20 ms."""
    first, second = profile(cheap_ms=1.0, full_ms=10.0), profile(cheap_ms=10.0, full_ms=1.0)
    crew = [{"m": first}, {"m": second}]
    full = structs.replace(job("b", requests=20, slo=0.9, within_ms=20))
    cheap = [structs.replace(job(f"c{i}", requests=1, slo=0.6, within_ms=20)) for i in range(20)]
    assert clairvoyant_bound({}, workload(full, *cheap), Conditions(2), crew=crew) == 1.0
    assert clairvoyant_bound({"m": first}, workload(full, *cheap), Conditions(2)) == 0.5
    beside = clairvoyant_bound({}, workload(full, structs.replace(full, id="d")), Conditions(2), crew=crew)
    assert 22 / 40 <= beside < 0.6


def test_a_worker_without_a_model_or_mode_does_not_run_it() -> None:
    """A worker helps only with the models and modes that it has a profile of."""
    full = job("a", requests=2, slo=0.9, within_ms=10)
    cheap_only = _with(profile(), modes=profile().modes[:1])
    for other in ({"n": profile("n")}, {"m": cheap_only}):
        assert clairvoyant_bound({}, workload(full), Conditions(2), crew=[{"m": profile()}, other]) < 0.6
    assert clairvoyant_bound({}, workload(full), Conditions(2), crew=[{"m": profile()}] * 2) == 1.0


def test_an_outage_takes_its_own_worker_away() -> None:
    """A slow worker's outage costs less than a fast one's."""
    crew = [{"m": profile(cheap_ms=1.0)}, {"m": profile(cheap_ms=4.0)}]
    jobs = workload(*(job(f"j{i}", requests=1, slo=0.6, within_ms=20) for i in range(30)))
    shares = [
        clairvoyant_bound({}, jobs, Conditions(2, outages=(Outage(lost, 0, 20 * NS_PER_MS),)), crew=crew)
        for lost in (0, 1)
    ]
    assert shares == [pytest.approx(5 / 30, abs=1e-3), pytest.approx(20 / 30, abs=1e-3)]


def test_a_crew_that_does_not_fit_is_an_error() -> None:
    """Too few workers, a model without a profile, and profiles of different models under one name."""
    jobs = workload(job("a"))
    for crew, said in (
        ([{"m": profile()}], "profiles of 1 workers; expected those of 2"),
        ([{"n": profile("n")}] * 2, "no worker has a profile of model 'm'"),
        (
            [{"m": profile()}, {"m": _with(profile(), modalities=("video", "audio"))}],
            "differ in their modalities",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            clairvoyant_bound({}, jobs, Conditions(2), crew=crew)


def test_what_fits_is_exactly_one() -> None:
    """Jobs that do not meet are all served."""
    assert bound([job(f"j{i}", at_ms=i * 100, requests=4, slo=0.9, within_ms=50) for i in range(9)]) == 1.0


def test_no_jobs_lose_nothing() -> None:
    """Of an empty workload nothing is missed."""
    assert bound([]) == 1.0


def test_cheap_jobs_go_first_and_the_next_in_part() -> None:
    """In 20 ms a worker does the ten cheap requests (10 ms) and one of three full ones (10 ms each)."""
    cheap = job("a", requests=10, slo=0.6, within_ms=20)
    full = job("b", requests=1, slo=0.9, within_ms=20)
    assert bound([cheap, full, structs.replace(full, id="c"), structs.replace(full, id="d")]) == 11 / 13
    assert bound([cheap, job("e", requests=2, slo=0.9, within_ms=20)]) == pytest.approx((10 + 1) / 12)


def test_modes_are_mixed_in_whole_requests() -> None:
    """Two requests at 0.65 need one in the full mode: 11 ms; four at 0.65 need one too, 13 ms."""
    pair = job("a", requests=2, slo=0.65, within_ms=11)
    assert bound([pair]) == 1.0
    assert bound([structs.replace(pair, deadline_ns=11 * NS_PER_MS - 1)]) == 0.0
    assert bound([job("b", requests=4, slo=0.65, within_ms=13)]) == 1.0
    assert bound([job("b", requests=4, slo=0.65, within_ms=12.9)]) == 0.0


def test_a_job_is_charged_its_share_of_the_best_batch_within_its_slo() -> None:
    """In a batch of four a request costs 1 ms; a job due within 3 ms pays 1.5 ms, in batches of two."""
    table = shaped([(("audio",), 0.6, (2.0, 3.0, 3.5, 4.0))])
    quick = [job(f"j{i}", requests=2, within_ms=3) for i in range(2)]
    assert bound(quick, table) == 0.5
    slow = [job(f"j{i}", requests=2, within_ms=4) for i in range(2)]
    assert bound(slow, table) == 1.0


def test_a_job_too_long_even_alone_counts_for_nothing() -> None:
    """One request alone takes 2 ms in a batch; that others could share it does not make it quicker."""
    table = shaped([(("audio",), 0.6, (2.0, 2.0, 2.0, 2.0))])
    assert bound([job("a", requests=1, within_ms=1.9)], table) == 0.0
    assert bound([job("a", requests=1, within_ms=2)], table) == 1.0
    assert bound([job("a", requests=5, within_ms=2)], table, workers=2) == 1.0
    assert bound([job("a", requests=5, within_ms=2)], table) == 0.0


def test_a_larger_batch_may_be_the_quicker() -> None:
    """Where a batch of two is quicker than one of one, a lone request may ride in another job's."""
    table = shaped([(("audio",), 0.6, (5.0, 1.0))])
    assert bound([job("a", within_ms=1), job("b", within_ms=1)], table) == 1.0


def test_jobs_that_cannot_be_served_count_in_the_whole() -> None:
    """An SLO above the best mode, or the best of the job's modalities; a length beyond all buckets."""
    fine = job("a")
    lacking = structs.replace(job("b", slo=0.7), modalities=("audio",))
    assert bound([fine, lacking, job("c", slo=0.95)]) == pytest.approx(1 / 3)
    no_mode = structs.replace(job("d"), modalities=("video",))
    assert bound([fine, no_mode]) == 0.5
    table = shaped([(("audio",), 0.9, (1.0,))])
    longer = _with(table, length_buckets=(10.0,), modes=tuple(_bucketed(mode) for mode in table.modes))
    assert bound([fine, structs.replace(job("e"), length=11.0)], longer) == 0.5


def _bucketed(mode: Mode) -> Mode:
    latency_s = (mode.latency_s, tuple(10 * value for value in mode.latency_s))[:1]
    return Mode(mode.modalities, mode.accuracy, mode.accuracy_low, 1, latency_s, latency_s, ((1,),))


def test_a_length_pays_for_its_bucket() -> None:
    """A job costs what the profile says for its bucket; one that names no length is in the longest."""
    latency_s = ((0.001,), (0.01,))
    mode = Mode(("audio",), 0.9, 0.9, 1, latency_s, latency_s, ((1,), (1,)))
    table = _with(profile(), modes=(mode,), batch_sizes=(1,), length_buckets=(5.0, 10.0))
    short = structs.replace(job("a", requests=5, within_ms=5), length=5.0)
    assert bound([short], table) == 1.0
    for length in (5.5, None):
        assert bound([structs.replace(short, length=length)], table) == 0.0


def test_large_jobs_are_bounded_too() -> None:
    """A job of many batches is served if its work fits, and not if it exceeds the whole window."""
    large = job("a", requests=500, slo=0.75, within_ms=2750)
    assert bound([large]) == 1.0
    assert bound([structs.replace(large, deadline_ns=2740 * NS_PER_MS)]) == 0.0
    assert bound([structs.replace(large, deadline_ns=1375 * NS_PER_MS)], workers=2) == 1.0


def test_modes_without_latency_cost_nothing() -> None:
    """A mode that takes no time serves any number of requests, even with no time left."""
    table = shaped([(("audio",), 0.6, (0.0, 0.0))])
    assert bound([job("a", requests=1000, within_ms=0)], table) == 1.0


def test_scaled_latencies_and_outages_count() -> None:
    """The bound is of the world as it is: latencies scaled, for all modes or one, and workers away."""
    jobs = [job("a", requests=10, slo=0.6, within_ms=10)]
    assert bound(jobs) == 1.0
    assert bound(jobs, scale=1.01) == 0.0
    assert bound(jobs, scale=2.0, mode_scale={"audio": 0.5}) == 1.0
    away = Outage(0, 2 * NS_PER_MS, 3 * NS_PER_MS)
    assert bound(jobs, outages=(away,)) == 0.0
    assert bound(jobs, workers=2, outages=(away,)) == 1.0
    assert bound([structs.replace(jobs[0], deadline_ns=11 * NS_PER_MS)], outages=(away,)) == 1.0


def test_models_share_the_workers() -> None:
    """Jobs of two models compete for the same time, each at its own model's cost."""
    two = {"m": profile(), "n": profile("n", cheap_ms=4.0)}
    jobs = [
        job("a", requests=4, slo=0.6, within_ms=12),
        structs.replace(job("b", 0, 3, 0.6, 12), model="n"),
    ]
    assert clairvoyant_bound(two, workload(*jobs)) == pytest.approx((4 + 2) / 7)


def test_noise_and_endless_workloads_have_no_bound() -> None:
    """Latencies drawn at random, and times that cannot be counted, are errors that say so."""
    with pytest.raises(UsageError, match="noise"):
        bound([job("a")], noise_cv=0.1)
    far = structs.replace(job("a"), arrival_ns=1 << 60, deadline_ns=(1 << 60) + NS_PER_S)
    with pytest.raises(UsageError, match="split it"):
        bound([far])


def test_a_deadline_in_the_far_future_is_no_obstacle() -> None:
    """A latency SLO of a hundred years, with a thousand workers, is as good as a day's."""
    patient = structs.replace(job("a"), deadline_ns=100 * 365 * 86_400 * NS_PER_S)
    assert bound([patient, job("b")], workers=1000) == 1.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a profile and a workload of which 11 in 13 requests can be served, entered."""
    monkeypatch.chdir(tmp_path)
    write_profile(profile(), tmp_path / "p.json")
    jobs = [job("a", requests=10, slo=0.6, within_ms=20), *(job(n, slo=0.9, within_ms=20) for n in "bcd")]
    write_workload(workload(*jobs), tmp_path / "w.csv")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_command_prints_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is one JSON object and nothing else."""
    assert run(["bound", "p.json", "w.csv"]) == 0
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"bound": 11 / 13}, "")
    assert run(["bound", "p.json", "w.csv", "--workers", "2", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bound": 1.0}
    assert run(["bound", "p.json", "w.csv", "--worker", "p.json", "--worker", "p.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bound": 1.0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p.json"], "bound PROFILE… WORKLOAD"),
        (["p.json", "p.json", "w.csv"], "has a profile already"),
        (["p.json", "none.csv"], "none.csv: cannot be read"),
        (["p.json", "w.csv", "--workers", "0"], "0 workers; expected at least 1"),
        (["p.json", "w.csv", "--workers", "1", "--worker", "p.json"], "give --worker once for each worker"),
        (["p.json", "w.csv", "--worker", "p.json,p.json"], "has a profile already"),
        (["p.json", "empty.csv"], "has no jobs"),
        (["p.json", "other.csv"], "column 'model' is 'x'; expected one of m"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """A mistake is status 2 and one line on stderr; nothing goes to stdout."""
    header = "job,arrival_s,requests,accuracy_slo,latency_slo_s,model\n"
    (folder / "empty.csv").write_text(header)
    (folder / "other.csv").write_text(header + "a,0,1,0.5,1,x\n")
    assert run(["bound", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.splitlines()) == 1


def test_a_simulation_keeps_its_bound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate --bound` writes the bound and shows it with the share of it; without, it is null and unseen."""
    assert run(["simulate", "p.json", "w.csv", "--policy", "aggressive", "--bound", "-o", "with"]) == 0
    assert "share of the bound" in capsys.readouterr().err
    assert run(["simulate", "p.json", "w.csv", "-o", "without"]) == 0
    assert "bound" not in capsys.readouterr().err
    assert json.loads((folder / "with" / "summary.json").read_text())["bound"] == 11 / 13
    assert json.loads((folder / "without" / "summary.json").read_text())["bound"] is None
    runs = [read_run(folder / name) for name in ("with", "without")]
    rows = dict(summary_rows([Named("", each.summary, each.jobs) for each in runs]))
    assert rows["at most on time"] == ["84.6%", "–"]
    assert run(["simulate", "p.json", "w.csv", "--bound", "--noise", "0.1", "-o", "no"]) == 2


def test_a_run_above_its_bound_cannot_be_true(folder: Path) -> None:
    """The check of a run directory names an on-time share above the bound."""
    assert run(["simulate", "p.json", "w.csv", "--bound", "-o", "run", "--quiet"]) == 0
    assert check_run(folder / "run", folder / "p.json", folder / "w.csv") == []
    path = folder / "run" / "summary.json"
    path.write_text(path.read_text().replace(f'"bound": {11 / 13}', '"bound": 0.25'))
    (problem,) = check_run(folder / "run", folder / "p.json", folder / "w.csv")
    assert "above the bound of 0.25" in problem
