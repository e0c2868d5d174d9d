from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mosel.cli import run
from mosel.core.errors import UsageError
from mosel.core.tables import Device, Profile, read_profile, write_profile
from mosel.evaluation.arrivals import Recipe
from mosel.evaluation.experiments import EXPERIMENTS, Lab
from mosel.evaluation.experiments.costs import cheapest_mix, gain_of_selection
from mosel.evaluation.experiments.fig8 import lower_precision
from mosel.evaluation.experiments.fullsize import GREATEST_RPS, with_shapes
from mosel.evaluation.experiments.lab import code_digest
from mosel.evaluation.experiments.month import DAY_S, GAP_S, month, sampled_days
from mosel.evaluation.experiments.trials import (
    MOST_VIOLATIONS,
    Trial,
    is_carried,
    paper_capacity_rps,
    run_trial,
)
from mosel.evaluation.experiments.workloads import LEAST_REQUESTS, without_claims, without_fast
from tests.online.cascaded import cascaded

from .stand_ins import CHEAP, profile

ROOT = Path(__file__).parents[2]
RECIPE = Recipe("bursty", 4.0, 0, rate_rps=20)


@pytest.fixture
def lab() -> Lab:
    """A lab with one slow profile of two precisions and a minute's series, that keeps nothing."""
    return Lab(
        {"small": two_precisions()},
        {"small": "0"},
        seeds=1,
        duration_s=4.0,
        quick=True,
        keep=False,
        trace=np.arange(1, 61) % 20,
    )


def two_precisions() -> Profile:
    """A profile whose int8 modes take a third of the time."""
    made = profile(cheap_ms=20, full_ms=200)
    faster = [
        msgspec.structs.replace(
            mode,
            precision="int8",
            latency_s=tuple(value / 3 for value in mode.latency_s),
            latency_p99_s=tuple(value / 3 for value in mode.latency_p99_s),
        )
        for mode in made.modes
    ]
    return msgspec.structs.replace(made, modes=(*made.modes, *faster))


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "live"])
def test_every_experiment_gives_numbers(lab: Lab, name: str) -> None:
    """Each experiment has rows as wide as its header, and the same rows again unless they are wall times."""
    section = EXPERIMENTS[name](lab)
    assert section.name == name
    assert section.numbers.rows
    assert {len(row) for row in section.numbers.rows} == {len(section.numbers.columns)}
    assert all(figure.svg.startswith("<svg") for figure in section.figures)
    again = EXPERIMENTS[name](lab)
    assert section.wall or again == section


def test_cascades_stand_beside_modes_mixes_and_policies_without_them(lab: Lab) -> None:
    """Of a profile with cascades every mode, cascade and policy has its rows; the best cascade beats mixes."""
    both = replace(lab, profiles={"c": cascaded(), **lab.profiles}, sha256={"c": "1", **lab.sha256})
    section = EXPERIMENTS["cascade"](both)
    assert "in: small" in section.text
    rows = [row for row in section.numbers.rows if row[0] == "c"]
    assert [row[1] for row in rows].count("cascade") == len(cascaded().cascades)
    own, mix = [(float(row[5] or 0), float(row[7] or 0)) for row in rows if row[1] == "cascade"][-1]
    assert own < mix
    policies = {row[2] for row in rows if row[1] == "policy"}
    assert policies == {"optimized", "optimized, single", "joint", "joint, single"}
    assert len(section.figures) == 3


def test_a_mix_costs_the_mean_of_its_parts() -> None:
    """Half way in accuracy between two modes lies half way in cost; a mode as good and cheaper is taken."""
    modes = [("a", 0.2, 0.8), ("b", 1.0, 1.0), ("c", 0.9, 0.85)]
    assert cheapest_mix(modes, 0.9) == pytest.approx(0.6)
    assert cheapest_mix(modes, 0.8) == 0.2


def test_capacity_is_that_of_the_paper_s_job_sizes() -> None:
    """Where latency is proportional to the batch, capacity is one over the latency of one request."""
    assert paper_capacity_rps(profile(full_ms=10)) == pytest.approx(100)


def test_a_believed_latency_changes_decisions_not_the_world() -> None:
    """A scheduler that takes a batch for shorter than it is sees it take its true time nevertheless."""
    slow = profile(cheap_ms=30, full_ms=100)
    honest = run_trial(Trial("none", RECIPE), slow)
    misled = run_trial(Trial("none", RECIPE, believed=0.2), slow)
    assert misled.jct_mean_s == honest.jct_mean_s
    assert run_trial(Trial("joint", RECIPE, believed=5.0), slow) != run_trial(Trial("joint", RECIPE), slow)


def test_trials_can_be_held_to_some_modes() -> None:
    """A precision, or a number of modalities, leaves only the modes that have it."""
    made = two_precisions()
    fast = run_trial(Trial("none", RECIPE, precision="int8"), made)
    assert fast.on_time > run_trial(Trial("none", RECIPE, precision="float32"), made).on_time
    one = run_trial(Trial("none", RECIPE, modalities=1), profile())
    assert one.accuracies
    assert {accuracy for accuracy, _ in one.accuracies} == {profile().mode_named(CHEAP).accuracy}


def test_cascades_go_with_their_modes() -> None:
    """Where a committed profile has cascades, holding it to a precision or to one modality drops the others."""
    small = read_profile(ROOT / "profiles" / "tvlt-small-cpu.json").profile
    assert small.cascades
    recipe = Recipe("poisson", 1.0, 0, rate_rps=50)
    for held in ({"precision": "int8"}, {"precision": "float32"}, {"modalities": 1}):
        assert run_trial(Trial("joint", recipe, **held), small).requests


def test_the_lower_precision_is_the_fastest_that_has_all_modalities() -> None:
    """A profile of one precision has none that is lower."""
    assert lower_precision(two_precisions()) == "int8"
    assert lower_precision(profile()) == ""


def test_a_recorded_day_is_sampled_as_it_was() -> None:
    """Seconds at equal distances are taken, gaps are left out, and a rest that is too short is no day."""
    counts = np.arange(DAY_S + 5) + 1
    counts[-GAP_S - 5 : -5] = 0
    counts[10:20] = 0
    (day,) = sampled_days(counts, 100)
    assert (np.diff(day) == (DAY_S - GAP_S) // 100).all(), "ten seconds without a request are no gap"
    assert day[0] == 1
    with pytest.raises(UsageError, match="at least 100 s"):
        sampled_days(np.zeros(DAY_S, dtype=np.int64), 100)


def test_every_day_of_a_series_is_played_on_one_scale(lab: Lab) -> None:
    """The quietest and the busiest second of all days are the least and the greatest rate of all days."""
    quiet, busy = np.full(DAY_S, 10), np.full(DAY_S, 30)
    section = month(replace(lab, trace=np.concatenate([quiet, busy])))
    requests = {row[3]: row[4] for row in section.numbers.rows if row[1:3] == (2.0, "joint")}
    capacity = paper_capacity_rps(lab.profiles["small"])
    seconds = LEAST_REQUESTS / capacity
    assert requests[1] == pytest.approx(seconds * capacity / 4, abs=1)
    assert requests[2] == pytest.approx(seconds * 2 * capacity, abs=1)


def test_models_slower_than_their_slo_have_numbers_too() -> None:
    """A model that carries nothing within the latency SLO still gets requests; no ratio is made to nothing."""
    slow = Lab({"slow": profile(cheap_ms=9000, full_ms=20_000)}, {"slow": "0"}, 1, 4.0, quick=True, keep=False)
    rows = {str(row[0]): row[4:7] for row in EXPERIMENTS["headline"](slow).numbers.rows if row[3] == "slow"}
    assert rows["highest rate under 10% violations (times none)"] == (None, None, None)
    assert rows["violation ratio below none's (points)"] == (0, 0, 0)


def test_the_headline_says_what_a_profile_s_notes_say() -> None:
    """A row of a profile that claims no accuracy, or was measured on a busy machine, says so."""
    for extra, said in (
        ({"accuracy_source": "none"}, "random weights"),
        ({"notes": ["the machine was too noisy to trust these latencies"]}, "busy machine"),
    ):
        noted = msgspec.structs.replace(profile(full_ms=200), extra=extra)
        lab = Lab({"p": noted}, {"p": "0"}, 1, 4.0, quick=True, keep=False)
        assert said in str(EXPERIMENTS["headline"](lab).numbers.rows[-1][8])


def test_a_claim_that_is_not_reached_has_its_cause() -> None:
    """The row says what keeps it from more: every request is on time already, or modes are as dear as that."""
    lab = Lab({"tvlt": profile(full_ms=110)}, {"tvlt": "0"}, 1, 4.0, quick=True, keep=False)
    rows = [row for row in EXPERIMENTS["headline"](lab).numbers.rows if row[3] == "tvlt"]
    short = [str(row[8]) for row in rows if row[7] == "no"]
    assert short
    causes = ("no schedule gains more", "times less time", "a job takes")
    assert all(any(cause in why for cause in causes) for why in short)


def test_selection_gains_what_the_cheapest_mixes_save() -> None:
    """With SLOs between two modes of which one costs nothing, half of the work is saved."""
    free = profile(cheap_ms=1e-6, full_ms=100)
    assert gain_of_selection(free, free) == pytest.approx(2, rel=0.05)


def test_full_size_models_take_the_paper_s_rate_and_the_small_one_s_accuracies(lab: Lab) -> None:
    """A profile of random weights is scaled for the headline; without a small one of its kind it is not."""
    random = msgspec.structs.replace(
        profile("tvlt", sizes=1, cheap_ms=500, full_ms=3000), extra={"accuracy_source": "none"}
    )
    both = {"full": random, "small": profile("tvlt-small")}
    every = replace(lab, profiles=both, sha256={"full": "1", "small": "2"})
    made = with_shapes(lab, every)
    assert set(with_shapes(every, every).profiles) == {"full, scaled", "small"}
    found = made.profiles["full, scaled"]
    assert paper_capacity_rps(found) == pytest.approx(GREATEST_RPS["tvlt"] / 2)
    cheap, full = (mode.latency_s[0] for mode in found.modes)
    assert full / cheap == pytest.approx(6)
    assert [mode.accuracy for mode in found.modes] == [mode.accuracy for mode in both["small"].modes]
    assert with_shapes(lab, replace(lab, profiles={"full": random})).profiles == lab.profiles


def test_profiles_without_accuracies_are_left_out_where_there_are_others(lab: Lab) -> None:
    """Of a folder's profiles those of random weights are not simulated, and the reason is told."""
    random = msgspec.structs.replace(profile(full_ms=200), extra={"accuracy_source": "none"})
    found = without_claims(replace(lab, profiles={"random": random, **lab.profiles}))
    assert list(found.profiles) == ["small"]
    assert "random weights" in found.left_out["random"]


def test_profiles_of_fast_models_are_left_out_where_there_are_others(lab: Lab) -> None:
    """A model with a capacity of a thousand requests a second is not simulated beside a slower one."""
    fast = profile(full_ms=1)
    both = replace(lab, profiles={"fast": fast, **lab.profiles})
    assert list(without_fast(both).profiles) == ["small"]
    alone = replace(lab, profiles={"fast": fast})
    assert without_fast(alone) is alone


def test_the_command_says_what_it_left_out_and_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder's profiles those of fast models are not simulated but named; each part has its time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOSEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "profiles").mkdir()
    write_profile(profile(full_ms=100), tmp_path / "profiles" / "small.json")
    write_profile(profile(full_ms=1), tmp_path / "profiles" / "swift.json")
    words = ["reproduce", "jct", "fig1", "--quick", "--duration", "4", "--processes", "1", "-o"]
    assert run([*words, str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "not simulated, as so fast a model takes long: swift; give --full" in told
    assert [line.split()[0] for line in told.splitlines() if line.endswith(" s")] == ["fig1", "jct", "all"]
    assert "swift" not in (tmp_path / "out" / "jct.csv").read_text()
    assert "swift" in (tmp_path / "out" / "fig1.csv").read_text()


def test_a_month_needs_a_series(lab: Lab) -> None:
    """Without a recorded series there is no month."""
    with pytest.raises(UsageError, match="--trace"):
        month(replace(lab, trace=None))


def test_tenants_are_told_apart() -> None:
    """Two tenants' shares add up to that of all requests together."""
    hurried, patient = replace(RECIPE, latency_slo_s=0.05), replace(RECIPE, latency_slo_s=5.0, seed=1)
    found = run_trial(Trial("none+batching", hurried, other=patient), profile(full_ms=30))
    shares = dict(found.tenants)
    assert shares["first"] < found.on_time < shares["second"]


def test_outcomes_are_kept_for_the_same_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept outcome is used again for its own trial and profile, and made anew where its file is broken."""
    monkeypatch.setenv("MOSEL_CACHE", str(tmp_path))
    keeping = Lab({"p": profile()}, {"p": "a"}, keep=True)
    first = keeping.trials([("p", Trial("none", RECIPE))])
    (kept,) = (tmp_path / "reproduce").glob("*.json")
    changed = msgspec.structs.replace(first[0], on_time=0.125)
    kept.write_bytes(msgspec.json.encode(changed))
    assert keeping.trials([("p", Trial("none", RECIPE))]) == [changed]
    assert replace(keeping, sha256={"p": "b"}).trials([("p", Trial("none", RECIPE))]) == first
    kept.write_bytes(b"{")
    assert keeping.trials([("p", Trial("none", RECIPE))]) == first
    assert len(code_digest()) == 64


def test_the_command_writes_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    """`mosel reproduce` writes one HTML file without links to elsewhere, and a CSV for each experiment."""
    write_profile(profile(full_ms=100), tmp_path / "small.json")
    words = ["reproduce", "fig1", "table2", "--profile", str(tmp_path / "small.json"), "--quick", "--fresh"]
    assert run([*words, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "fig1.csv",
        "wall-table2.csv",
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What modalities cost" in page
    assert not [mark for mark in ("src=", "<script", "<link", "url(http") if mark in page]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fig9"], "fig9"),
        (["month", "--profile", "small.json"], "give both or neither"),
        (["fig1", "--profile", "small.json", "--trace", "small.json"], "give both or neither"),
        (["fig1", "--profile", "small.json", "--seeds", "0"], "--seeds 0"),
        (["fig1", "--profile", "small.json", "--quick", "--full"], "--quick and --full"),
        (["fig1", "--profile", "small.json", "--duration", "1"], "at least 4 seconds"),
        (["fig1"], "no profile"),
        (["fig1", "--profile", "small.json", "--profile", "other/small.json"], "same file name"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be reproduced is said with what was expected."""
    monkeypatch.chdir(tmp_path)
    write_profile(profile(), tmp_path / "small.json")
    assert run(["reproduce", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_live_serves_only_what_was_measured_here(lab: Lab) -> None:
    """A profile of a model that is not in the zoo, or of another device, is named with the reason."""
    other = read_profile(ROOT / "profiles" / "av-digits-cpu.json").profile
    elsewhere = msgspec.structs.replace(other, device=Device("another machine", "cpu"))
    both = replace(lab, profiles={**lab.profiles, "digits": elsewhere}, sha256={**lab.sha256, "digits": "1"})
    with pytest.raises(UsageError, match=r"small: model 'm': not in the zoo.*digits: .*another machine"):
        EXPERIMENTS["live"](both)


def test_live_belongs_to_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--live` adds it to what is named, and nothing is run where no profile can be served."""
    write_profile(profile(), tmp_path / "p.json")
    words = ["--profile", str(tmp_path / "p.json"), "--quick", "--quiet", "-o"]
    assert run(["reproduce", "fig1", *words, str(tmp_path / "without")]) == 0
    assert run(["reproduce", "fig1", "--live", *words, str(tmp_path / "with")]) == 2
    assert not (tmp_path / "with").exists()
    assert "live: no profile can be served here" in capsys.readouterr().err


def test_a_search_ends_a_simulation_where_too_much_is_violated() -> None:
    """Whether a rate is carried is what the whole run's violation ratio says, on both sides of the limit."""
    said = set()
    for rate_rps in (5, 60):
        trial = Trial("none+batching", Recipe("poisson", 4.0, 0, rate_rps=rate_rps))
        carried = run_trial(trial, profile(full_ms=50)).violation_ratio <= MOST_VIOLATIONS
        assert is_carried(trial, profile(full_ms=50)) is carried
        said.add(carried)
    assert said == {True, False}
