from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from mosel import Modality, Samples, Tensor
from mosel.core.errors import ExecutionError, MoselError, UsageError
from mosel.core.tables import Profile, read_profile
from mosel.models.base import classification_score
from mosel.offline import session
from mosel.offline.accuracy import Accuracy
from mosel.offline.journal import journal_path
from mosel.offline.profiler import make_profile, refresh
from mosel.offline.settings import Settings
from mosel.runtime.runner import CorruptInputError, WrongOutputError
from tests.offline.stand_ins import CLASSES, answer, model, samples, scripted

QUICK = Settings(repeats=1)
HALF = Accuracy(0.5, 0.5, 0)


def steps(modalities: tuple[str, ...], size: int) -> float:
    """Latencies as of a device: a base, a slope, and a step where the size passes a multiple of 8."""
    return 0.002 * len(modalities) + 0.001 * size + 0.0005 * (-(-size // 8))


def curve(modalities: tuple[str, ...], size: int) -> float:
    """Latencies that grow faster than the size."""
    return 0.004 * len(modalities) + 0.0003 * float(size**1.3)


def errors(smart: Profile, full: Profile) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The relative error of every cell's latency."""
    pairs = zip(smart.modes, full.modes, strict=True)
    return np.concatenate([np.abs(np.divide(a.latency_s, b.latency_s) - 1) for a, b in pairs])


@pytest.mark.parametrize("latency", [steps, curve])
@pytest.mark.parametrize("batch", [16, 64])
def test_smart_sampling_is_near_the_whole_table_for_a_third_of_the_time(
    latency: Callable[[tuple[str, ...], int], float], batch: int
) -> None:
    """Over all cells the error is under 3% (median) and 8% (worst), for at most 35% of the device time."""
    rng = np.random.default_rng(0)

    def noisy(modalities: tuple[str, ...], size: int) -> float:
        return latency(modalities, size) * (1 + 0.01 * rng.exponential())

    unscored = model(max_batch=batch)
    given = dict.fromkeys(unscored.combinations(), HALF)
    with scripted(noisy) as ran_smart:
        smart = make_profile(unscored, Settings(), given=given)
    with scripted(noisy) as ran_full:
        full = make_profile(unscored, Settings(exhaustive=True), given=given)
    error = errors(smart, full)
    assert np.median(error) < 0.03
    assert error.max() < 0.08
    assert sum(ns for _, _, ns in ran_smart) <= 0.35 * sum(ns for _, _, ns in ran_full)
    assert all(all(mode.measured) for mode in full.modes)
    assert not any(all(mode.measured) for mode in smart.modes)


def test_what_was_measured_is_the_median_and_percentile_of_the_timings(tmp_path: Path) -> None:
    """Measured cells hold the timings' own statistics, the 99th percentile never below the median."""
    lone = model(allowed=lambda names: names == ("ear",), max_batch=2)
    with scripted(lambda _, size: size / 1000) as ran:
        mode = make_profile(lone, QUICK, tmp_path / "p.json").modes[0]
    assert mode.latency_s == [0.001, 0.002]
    assert mode.latency_p99_s == [0.001, 0.002]
    assert mode.measured == [True, True]
    assert {size for m, size, _ in ran if m == ("ear",)} == {1, 2}


def test_every_mode_batch_size_and_precision_is_in_the_profile(tmp_path: Path) -> None:
    """The file holds every allowed combination at every precision, and all that says how it was measured."""
    many = model(precisions=("float32", "float16"), allowed=lambda names: "ear" in names, version="7")
    made = make_profile(many, QUICK, tmp_path / "p.json")
    found = read_profile(tmp_path / "p.json").profile
    assert found == structs.replace(found, modes=made.modes) == made
    assert found.mode_names == ("ear@float32", "ear+eye@float32", "ear@float16", "ear+eye@float16")
    assert found.batch_sizes == (1, 2, 3, 4)
    assert all(len(mode.latency_s) == len(mode.memory_bytes) == 4 for mode in found.modes)
    assert (found.device.kind, found.precision) == ("host", "float32")
    assert found.measured_at.endswith("Z")
    assert "torch" not in found.software
    assert (found.extra or {})["version"] == "7"
    assert (found.extra or {})["samples_source"] == "made up"


def test_preprocessing_is_timed_apart_and_only_where_there_is_some() -> None:
    """Each preprocessed modality has its seconds per request."""

    def double(arrays: Any) -> Any:
        return {"ear": arrays["ear"] * 2}

    ear = Modality("ear", (Tensor("ear", "FP32", (CLASSES,)),), preprocess=double)
    made = make_profile(model(modalities=(ear, model().modality("eye"))), QUICK)
    assert set(made.preprocess_s or {}) == {"ear"}
    assert (made.preprocess_s or {})["ear"] > 0


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 21, 31, 32, 47])
def test_a_column_that_fails_ends_below_the_failure(limit: int, exhaustive: bool) -> None:
    """The largest size that runs is found exactly, the rest of the table is whole, and a note says why."""
    told: list[str] = []

    def latency(modalities: tuple[str, ...], size: int) -> float:
        return -1 if modalities == ("ear", "eye") and size > limit else size / 1000

    with scripted(latency):
        settings = Settings(repeats=1, batch=48, exhaustive=exhaustive)
        made = make_profile(model(), settings, say=told.append)
    both = made.mode_named("ear+eye")
    assert both.batch_limit == limit == len(both.latency_s)
    assert both.latency_s == pytest.approx([size / 1000 for size in range(1, limit + 1)])
    assert made.mode_named("ear").batch_limit is None
    notes = (made.extra or {})["notes"]
    assert len(notes) == 1
    assert notes == told
    assert f"no memory for ear+eye at batch {limit + 1}; batches end at {limit} there" in notes[0]


def test_a_failure_late_in_the_run_shortens_the_column() -> None:
    """A size that ran at first and failed later is not in the profile."""
    count = 0

    def latency(modalities: tuple[str, ...], size: int) -> float:
        nonlocal count
        count += modalities == ("eye",) and size > 5
        return -1 if count > 6 and modalities == ("eye",) and size > 5 else size / 1000

    with scripted(latency):
        eye = make_profile(model(), Settings(repeats=20, batch=16)).mode_named("eye")
    assert eye.batch_limit == len(eye.latency_s) == 5


def test_a_mode_that_fails_at_batch_1_is_left_out() -> None:
    """The others stay, and a note names the mode."""
    with scripted(lambda modalities, size: -1 if modalities == ("eye",) else size / 1000):
        made = make_profile(model(), QUICK)
    assert made.mode_names == ("ear", "ear+eye")
    assert "no memory for eye at batch 1; the mode is left out" in (made.extra or {})["notes"][0]


def test_the_table_ends_where_its_longest_column_does() -> None:
    """No batch size is listed that no mode has."""
    with scripted(lambda _, size: -1 if size > 3 else size / 1000):
        made = make_profile(model(), QUICK)
    assert made.batch_sizes == (1, 2, 3)
    assert all(mode.batch_limit is None for mode in made.modes)


def test_a_model_that_runs_in_no_mode_is_an_execution_error() -> None:
    """The last failure is told."""
    with scripted(lambda *_: -1), pytest.raises(ExecutionError, match=r"runs in no mode: no memory for"):
        make_profile(model(), QUICK)


def test_a_precision_that_cannot_be_loaded_is_left_out() -> None:
    """Its modes are missing, with a note; the usual precision stays."""

    def load(_: str, precision: str) -> Any:
        if precision == "int8":
            raise RuntimeError("no int8 here")
        return answer

    made = make_profile(model(load=load, precisions=("float32", "int8")), QUICK)
    assert {made.precision_of(mode) for mode in made.modes} == {"float32"}
    assert "int8 left out" in (made.extra or {})["notes"][0]
    with pytest.raises(ExecutionError, match=r"runs in no mode: int8 left out"):
        make_profile(model(load=load, precisions=("int8",)), QUICK)


def test_an_output_other_than_declared_ends_the_run() -> None:
    """It is no failure of one batch size, so the column does not just end."""
    with pytest.raises(WrongOutputError, match="output 'scores' of shape"):
        make_profile(model(load=lambda *_: lambda **given: answer(**given)[:, :2]), QUICK)


def broken_samples(**changes: Any) -> Callable[[], Samples]:
    """The model's samples with something replaced."""
    whole = samples()
    given: dict[str, Any] = {"inputs": whole.inputs, "labels": whole.labels}
    return lambda: Samples(**given | changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.arange(0)}, "its set of labelled samples is empty"),
        ({"labels": np.arange(39)}, "40 inputs 'ear' and 39 labels; expected one label for each"),
        ({"inputs": {"ear": samples().inputs["ear"]}}, "lack modality 'eye'"),
        ({"inputs": {"ear": {}, "eye": samples().inputs["eye"]}}, "lack tensor 'ear' of modality 'ear'"),
        (
            {"inputs": {**samples().inputs, "ear": {"ear": np.zeros((40, 3), np.float32)}}},
            "input 'ear' of shape (40, 3); expected FP32 of shape (40, 4)",
        ),
        (
            {"inputs": {**samples().inputs, "eye": {"eye": [np.zeros(6, np.int64)] * 40}}},
            "input 'eye' of shape (1, 6); expected variable lengths of at most (5,)",
        ),
        (
            {"inputs": {**samples().inputs, "ear": {"ear": np.zeros((40, 4))}}},
            "input 'ear' of type float64; expected FP32",
        ),
    ],
)
def test_samples_that_do_not_fit_the_model_are_an_error(change: dict[str, Any], words: str) -> None:
    """One line says what was given and what was expected, before anything is measured."""
    with scripted(lambda *_: 0.001) as ran, pytest.raises(UsageError) as caught:
        make_profile(model(samples=broken_samples(**change)), QUICK)
    assert words in str(caught.value)
    assert ran == []


def test_samples_that_cannot_be_loaded_are_an_error() -> None:
    """What the model's own loader raises is told in one line."""
    with pytest.raises(UsageError, match="its samples cannot be loaded: OSError: disk on fire"):
        make_profile(model(samples=_raise(OSError("disk on fire"))), QUICK)


def test_a_model_without_samples_says_how_to_give_accuracies() -> None:
    """The way out is in the message."""
    with pytest.raises(UsageError, match="--accuracy FILE"):
        make_profile(model(samples=None), QUICK)


def test_a_sample_that_cannot_be_prepared_is_an_error() -> None:
    """A labelled set must be sound."""
    ear = Modality("ear", (Tensor("ear", "FP32", (CLASSES,)),), preprocess=_raise(ValueError("static")))
    with pytest.raises(CorruptInputError, match="modality 'ear' cannot be decoded: ValueError: static"):
        make_profile(model(modalities=(ear, model().modality("eye"))), QUICK)


def _raise(error: Exception) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


class _InterruptedAfter:
    """A latency, or a score, that is interrupted at its nth call."""

    def __init__(self, calls: int, function: Callable[..., Any]) -> None:
        self.calls, self._function = calls, function

    def __call__(self, *given: Any) -> Any:
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt
        return self._function(*given)


def test_a_run_interrupted_while_timing_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was timed is not timed again, the journal goes when the run is complete, and a note says so."""
    path = tmp_path / "p.json"
    told: list[str] = []
    with scripted(lambda *_: 1.5) as whole:
        make_profile(model(), Settings(), tmp_path / "whole.json")
    with scripted(_InterruptedAfter(60, lambda *_: 1.5)) as before, pytest.raises(KeyboardInterrupt):
        make_profile(model(), Settings(), path)
    assert journal_path(path).exists()
    with scripted(lambda *_: 1.5) as after:
        make_profile(model(), Settings(), path, say=told.append)
    warm_ups = 3 * 5
    assert len(after) <= len(whole) - len(before) + warm_ups + 1
    assert told[0] == "going on from where an earlier run was interrupted"
    assert path.exists()
    assert not journal_path(path).exists()


def test_a_run_interrupted_while_scoring_goes_on_where_it_was(tmp_path: Path) -> None:
    """Chunks of samples that were scored are not scored again, and the accuracies are the same."""
    path = tmp_path / "p.json"
    with pytest.raises(KeyboardInterrupt):
        make_profile(model(score=_InterruptedAfter(15, classification_score)), QUICK, path)
    again = _InterruptedAfter(1000, classification_score)
    made = make_profile(model(score=again), QUICK, path)
    assert 1000 - again.calls == 3 * 10 - 14
    assert made.mode_named("ear").accuracy == 0.75
    assert made.mode_named("ear").samples == 40


def test_a_journal_of_another_version_is_not_used(tmp_path: Path) -> None:
    """New weights start afresh."""
    path = tmp_path / "p.json"
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        make_profile(model(score=_InterruptedAfter(5, classification_score)), QUICK, path)
    make_profile(model(version="2"), QUICK, path, say=told.append)
    assert "going on from where an earlier run was interrupted" not in told


@pytest.mark.parametrize(
    ("changes", "settings", "kept"),
    [
        ({}, {}, True),
        ({}, {"batch": 3}, True),
        ({"version": "2"}, {}, False),
        ({}, {"fresh": True}, False),
        ({}, {"exhaustive": True}, False),
        ({}, {"samples": 30}, False),
        ({}, {"seed": 5}, True),
    ],
)
def test_accuracies_are_taken_over_only_while_they_hold(
    changes: dict[str, Any], settings: dict[str, Any], kept: bool
) -> None:
    """Same model, version, samples and software: kept, and told. Anything else, or on demand: measured."""
    scored = _InterruptedAfter(1000, classification_score)
    told: list[str] = []
    previous = make_profile(model(), QUICK)
    altered = structs.replace(
        previous, modes=tuple(structs.replace(m, accuracy=0.6, accuracy_low=0.5) for m in previous.modes)
    )
    made = make_profile(
        model(score=scored, **changes), Settings(repeats=1, **settings), previous=altered, say=told.append
    )
    assert (made.modes[0].accuracy == 0.6) is kept
    assert (scored.calls == 1000) is kept
    assert any("accuracies are kept" in text for text in told) is kept


class _Shown:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, float, float]] = []

    def show(self, doing: str, done_s: float, total_s: float) -> None:
        self.shown.append((doing, done_s, total_s))


def test_progress_foresees_the_work_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halfway the total that is told is near what the run comes to, and it ends at the total."""
    monkeypatch.setattr(session, "SHOW_EVERY_NS", 0)
    meter = _Shown()
    with scripted(lambda _, size: 0.01 + size / 1000) as ran:
        make_profile(model(), Settings(batch=16), meter=meter)
    device_s = sum(ns for _, _, ns in ran) / 1e9
    assert [doing for doing, _ in groupby(doing for doing, _, _ in meter.shown)] == ["timing", "accuracy"]
    assert all(done_s <= total_s for _, done_s, total_s in meter.shown)
    halfway = next(total_s for _, done_s, total_s in meter.shown if done_s > device_s / 2)
    assert halfway == pytest.approx(device_s, rel=0.1)
    assert meter.shown[-1][1:] == pytest.approx((device_s, device_s))


def test_a_noisy_machine_is_told() -> None:
    """The warning stands in the profile, too; a steady machine gets none."""
    rng = np.random.default_rng(0)
    for spread, noted in ((0.0, 0), (4.0, 1)):
        with scripted(lambda *_, spread=spread: 0.01 * (1 + spread * rng.random())):
            made = make_profile(model(), Settings())
        assert len((made.extra or {})["notes"]) == noted
        assert all("too noisy to trust" in note for note in (made.extra or {})["notes"])


def test_requests_that_differ_are_no_noise() -> None:
    """Where one and the same request always takes as long, timings that scatter are the requests' own."""
    classes = [0]

    def noting(**inputs: Any) -> NDArray[np.float32]:
        scores = answer(**inputs)
        classes[0] = int(scores.argmax())
        return scores

    with scripted(lambda *_: 0.001 * 4 ** classes[0]) as ran:
        made = make_profile(model(load=lambda *_: noting), Settings(batch=1))
    assert len({took for _, _, took in ran}) > 1
    assert (made.extra or {})["notes"] == []


def test_a_refresh_measures_only_what_moved(tmp_path: Path) -> None:
    """The column that moved has new latencies, the others are kept, accuracies included; nothing is scored."""
    path = tmp_path / "p.json"
    told: list[str] = []
    with scripted(lambda _, size: size / 1000):
        old = make_profile(model(), Settings(batch=16), path)
    scored = _InterruptedAfter(1000, classification_score)
    with scripted(lambda m, size: size / 1000 * (1.5 if m == ("eye",) else 1.01)) as ran:
        new = refresh(old, model(score=scored), Settings(), path, say=told.append)
    assert new.mode_named("ear") == old.mode_named("ear")
    assert new.mode_named("ear+eye") == old.mode_named("ear+eye")
    assert new.mode_named("eye").latency_s == pytest.approx([size * 0.0015 for size in range(1, 17)])
    assert new.mode_named("eye").accuracy == old.mode_named("eye").accuracy
    assert new.batch_sizes == old.batch_sizes
    assert read_profile(path).profile == new
    assert not journal_path(path).exists()
    assert scored.calls == 1000
    assert {size for m, size, _ in ran if m == ("ear",)} == {1, 8, 16}
    assert told == ["eye@float32 moved to 1.50 times what it was: measuring it anew"]


def test_a_refresh_of_new_weights_scores_again_and_keeps_latencies_that_hold() -> None:
    """Another version of the model has other accuracies."""
    with scripted(lambda _, size: size / 1000):
        old = make_profile(model(), Settings())
        new = refresh(old, model(version="2", score=lambda _, labels: np.ones(len(labels))), Settings())
    assert [mode.accuracy for mode in new.modes] == [1.0] * 3
    assert [mode.latency_s for mode in new.modes] == [mode.latency_s for mode in old.modes]
    assert (new.extra or {})["version"] == "2"


def test_a_refresh_finds_modes_that_are_new() -> None:
    """A combination that is allowed now is measured and scored."""
    with scripted(lambda _, size: size / 1000):
        old = make_profile(model(allowed=lambda names: names != ("eye",)), Settings())
        new = refresh(old, model(), Settings())
    assert new.mode_names == ("ear", "eye", "ear+eye")
    assert new.mode_named("eye").accuracy == 0.5


def test_a_refresh_of_another_devices_profile_is_an_error() -> None:
    """It would mix two devices in one table."""
    old = make_profile(model(), QUICK)
    elsewhere = structs.replace(old, device=structs.replace(old.device, name="Other CPU"))
    with pytest.raises(UsageError, match="measured on Other CPU"):
        refresh(elsewhere, model(), QUICK)


@pytest.mark.parametrize("name", ["batch", "threads", "samples", "repeats"])
def test_settings_below_one_are_usage_errors(name: str) -> None:
    """The message names the option."""
    with pytest.raises(MoselError, match=f"--{name} 0: expected a whole number from 1"):
        Settings(**{name: 0})  # type: ignore[arg-type]


def test_a_batch_larger_than_a_profile_may_hold_is_refused_before_anything_is_timed() -> None:
    """The message names the option that sets it."""
    with pytest.raises(UsageError, match="largest batch 2000: expected 1,024 at most; give --batch"):
        make_profile(model(), Settings(batch=2000))
