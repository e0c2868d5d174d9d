from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from mosel import Modality, Model, Samples, Tensor
from mosel.core.errors import ModelError, UsageError
from mosel.core.tables import ProfileFile, read_profile
from mosel.offline.accuracy import lower_bound
from mosel.offline.journal import journal_path
from mosel.offline.planner import plan
from mosel.offline.profiler import make_profile, refresh
from mosel.offline.settings import Settings
from mosel.online.tables import ModelTable
from mosel.runtime.runner import ModelFailedError, Ran, Runner

BUCKETS = (2.0, 5.0, 10.0)
RATE = 10
QUICK = Settings(repeats=1)
Parts = Mapping[str, Sequence[NDArray[Any]]]
Ran3 = tuple[tuple[str, ...], int, list[int]]


def repeat(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Prepare sound: one value a unit of length."""
    return {"heard": arrays["sound"][:, ::RATE]}


def spell(heard: NDArray[Any] | None = None, heard_lengths: Any = None, seen: Any = None) -> dict[str, Any]:
    """Answer with what was heard, or seen, as a ragged output."""
    if heard is None:
        return {"said": seen, "said_lengths": np.full(len(seen), seen.shape[1])}
    return {"said": heard, "said_lengths": heard_lengths}


def samples() -> Samples:
    """Six requests of one to six units; the sight of every second one is wrong throughout."""
    sounds = [np.repeat(np.arange(length, dtype=np.int64), RATE) for length in range(1, 7)]
    sights = [np.arange(length, dtype=np.int64) + 50 * (length % 2) for length in range(1, 7)]
    return Samples({"sound": {"sound": sounds}, "sight": {"seen": sights}}, np.arange(1, 7), "made up")


def words_right(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Score each sample by how many of its values are right, out of how many it has."""
    rows = zip(outputs["said"], outputs["said_lengths"], labels, strict=True)
    right = [float((row[:length] == np.arange(length)).sum()) for row, length, _ in rows]
    return np.array([right, labels.astype(float)]).T


def model(**changes: Any) -> Model:
    """Return a model that repeats what it hears; keyword arguments replace parts of its declaration."""
    given: dict[str, Any] = {
        "name": "parrot",
        "modalities": (
            Modality(
                "sound",
                (Tensor("sound", "INT64", (-1,), limits=(100,), per_length=RATE),),
                preprocess=repeat,
                prepared=(Tensor("heard", "INT64", (-1,), limits=(10,), lengths=True, per_length=1),),
            ),
            Modality("sight", (Tensor("seen", "INT64", (-1,), limits=(10,), per_length=1),)),
        ),
        "outputs": (
            Tensor("said", "INT64", (-1,), limits=(10,), lengths=True),
            Tensor("said_lengths", "INT64", ()),
        ),
        "load": lambda *_: spell,
        "samples": samples,
        "score": words_right,
        "framework": "numpy",
        "max_batch": 3,
        "length_buckets": BUCKETS,
    }
    return Model(**given | changes)


PARROT = model()


class Timed:
    """A runner for which a batch takes a millisecond for each unit of its longest request and each request."""

    ran: list[Ran3]
    fails_from = 99
    replays = False

    def __init__(self, *given: Any) -> None:
        self._real = Runner(*given)

    def run(self, modalities: tuple[str, ...], precision: str, inputs: Parts, **_: Any) -> Ran:
        """Run the model and note how long each request was."""
        lengths = [part.shape[1] for part in next(iter(inputs.values())) for _ in part]
        if len(lengths) * max(lengths) >= self.fails_from:
            raise ModelFailedError(f"no memory for {max(lengths)}")
        Timed.ran.append((modalities, len(lengths), lengths))
        ran = self._real.run(modalities, precision, inputs)
        return Ran(ran.outputs, max(lengths) * len(lengths) * 1_000_000)


@pytest.fixture(autouse=True)
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed.ran = []
    monkeypatch.setattr("mosel.offline.timing.Runner", Timed)


def test_each_bucket_is_timed_at_its_upper_limit(tmp_path: Path) -> None:
    """A table for each length bucket, in which every request was as long as the bucket allows."""
    profile = make_profile(model(), QUICK, tmp_path / "p.json")
    assert profile.length_buckets == BUCKETS
    assert read_profile(tmp_path / "p.json").profile == profile
    for mode in profile.modes:
        assert mode.latency_s == [[limit * size / 1000 for size in (1, 2, 3)] for limit in BUCKETS]
        assert mode.latency_p99_s == mode.latency_s
        assert np.shape(mode.measured) == np.shape(mode.memory_bytes) == (3, 3)
    assert not journal_path(tmp_path / "p.json").exists()


def test_accuracy_is_that_of_all_lengths_together() -> None:
    """The share of right words over all samples, not the mean of the samples' shares; one for all buckets."""
    profile = make_profile(model(), QUICK)
    accuracy = {mode.modalities: mode.accuracy for mode in profile.modes}
    assert accuracy["sound",] == 1
    assert accuracy["sight",] == pytest.approx((2 + 4 + 6) / 21)
    assert all(mode.accuracy_low <= mode.accuracy for mode in profile.modes)
    assert {size: lengths for m, size, lengths in Timed.ran if m == ("sight",) and len(set(lengths)) > 1}


def test_without_samples_blank_requests_of_each_length_are_timed() -> None:
    """Latencies are as they are with samples."""
    untrained = model(samples=None, trained=False)
    assert make_profile(untrained, QUICK).modes[0].latency_s[2] == [0.01, 0.02, 0.03]


def test_a_mode_ends_where_its_longest_requests_fail() -> None:
    """A batch size that fails at one length is left out at all: a mode has one limit."""

    class Small(Timed):
        fails_from = 25

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mosel.offline.timing.Runner", Small)
        profile = make_profile(model(), QUICK)
    assert profile.batch_sizes == (1, 2)
    assert [len(row) for row in profile.modes[0].latency_s] == [2, 2, 2]
    assert any(
        "no memory for 10" in note and "length bucket 2" in note for note in (profile.extra or {})["notes"]
    )


def test_a_refresh_keeps_what_holds_and_measures_the_rest_anew() -> None:
    """A mode of which one bucket moved is measured anew, in all of them; the other is kept."""
    old = make_profile(model(), QUICK)
    slow = [[2 * latency for latency in row] for row in old.modes[0].latency_s]
    moved = structs.replace(old.modes[0], latency_s=[*old.modes[0].latency_s[:2], slow[2]])
    notes: list[str] = []
    again = refresh(structs.replace(old, modes=(moved, *old.modes[1:])), model(), QUICK, say=notes.append)
    assert [mode.latency_s for mode in again.modes] == [mode.latency_s for mode in old.modes]
    assert any("sound@float32 in length bucket 2 moved to 0.50 times" in note for note in notes)
    assert not any("sight" in note for note in notes)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """What was timed and scored before is not run again."""
    output = tmp_path / "p.json"

    def stop(*_: object) -> NDArray[np.float64]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_profile(model(score=stop), QUICK, output)
    timed = len(Timed.ran)
    make_profile(model(), QUICK, output)
    assert len(Timed.ran) - timed < timed


def test_the_planner_and_the_scheduler_take_the_bucket_of_a_job() -> None:
    """Plans have a frontier for each size and bucket; a job's length says which table it is held against."""
    profile = make_profile(model(), QUICK)
    made = plan(ProfileFile(profile, "0" * 64))
    assert [made.frontiers[f"1@{bucket}"][-1].latency_s for bucket in range(3)] == [0.002, 0.005, 0.01]
    table = ModelTable(profile)
    assert [table.bucket_of(length) for length in (1, 2, 2.1, 10, None)] == [0, 0, 1, 2, 2]


def test_a_profile_of_other_buckets_does_not_fit() -> None:
    """The message says which buckets the profile and the model have."""
    old = make_profile(model(), QUICK)
    with pytest.raises(UsageError, match=r"has length buckets \(2.0, 5.0, 10.0\); the model has \(5.0, 10.0\)"):
        refresh(old, model(length_buckets=BUCKETS[1:]), QUICK)


@pytest.mark.parametrize("row", [[2.0, 1.0], [0.0, 0.0], [np.nan, 1.0]])
def test_shares_that_cannot_be_are_refused(row: list[float]) -> None:
    """More right than there is, nothing there, and no number."""
    wrong = model(score=lambda _, labels: np.array([row] * len(labels)))
    with pytest.raises(ModelError, match=r"its score says that .* are right; expected a positive number"):
        make_profile(wrong, QUICK)


def test_more_errors_than_words_are_no_accuracy_below_zero() -> None:
    """1 − WER may be negative for a sample; the accuracy is 0 at least."""
    profile = make_profile(model(score=lambda _, labels: np.array([[-3.0, 1.0]] * len(labels))), QUICK)
    assert {(mode.accuracy, mode.accuracy_low) for mode in profile.modes} == {(0.0, 0.0)}


def test_the_lower_bound_of_a_share_holds_as_often_as_it_says() -> None:
    """Over many draws of samples the true share lies above the bound in about 95% of them."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 20, (400, 200))
    right = rng.binomial(words, 0.8)
    held = [lower_bound(np.array([r, w], float).T) < 0.8 for r, w in zip(right, words, strict=True)]
    assert 0.92 < np.mean(held) < 0.98
