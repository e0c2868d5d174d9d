import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mosel.core.errors import FileError, ModelError
from mosel.offline.accuracy import Accuracy, judge, lower_bound, read_accuracies, served_bound, summary_of
from mosel.offline.journal import Journal
from mosel.offline.profiler import make_profile, refresh
from mosel.offline.samples import Parts
from mosel.offline.settings import Column, Settings
from mosel.runtime.runner import ModelFailedError, Ran
from tests.offline.stand_ins import answer, model, samples

QUICK = Settings(repeats=1)


@given(st.integers(1, 200), st.data())
def test_the_bound_of_hits_is_exact(count: int, data: st.DataObject) -> None:
    """Were the accuracy at the bound, so many hits or more would have a chance of exactly 5%."""
    hits = data.draw(st.integers(1, count))
    low = lower_bound(np.repeat([1.0, 0.0], [hits, count - hits]))
    assert stats.binom.sf(hits - 1, count, low) == pytest.approx(0.05)


def test_without_a_hit_the_bound_is_zero() -> None:
    """Nothing is promised where nothing was right."""
    assert lower_bound(np.zeros(50)) == 0.0


def test_the_bound_of_graded_scores_holds_nearly_always() -> None:
    """Over many samplings the true mean lies above the bound about 95 times in 100."""
    rng = np.random.default_rng(1)
    held = [lower_bound(rng.beta(4, 2, 50)) <= 4 / 6 for _ in range(2000)]
    assert 0.93 < np.mean(held) < 0.97


def test_the_bound_of_a_share_is_that_of_a_bootstrap() -> None:
    """Of micro-F1 on samples with some genres each: the fifth percentile over samples drawn again and again."""
    rng = np.random.default_rng(0)
    of = rng.integers(2, 12, 800).astype(np.float64)
    scores = np.stack([rng.binomial(of.astype(int), np.clip(of / 14, 0.1, 0.9)), of], axis=1).astype(np.float64)
    drawn = rng.integers(0, len(scores), (4000, len(scores)))
    right, out_of = scores[:, 0][drawn].sum(axis=1), scores[:, 1][drawn].sum(axis=1)
    assert lower_bound(scores) == pytest.approx(np.quantile(right / out_of, 0.05), abs=0.002)


def test_one_graded_score_bounds_nothing() -> None:
    """A spread cannot be seen in a single number."""
    assert lower_bound(np.array([0.7])) == 0.0


@pytest.mark.parametrize("promises", [1, 5])
def test_what_is_served_keeps_the_bound(promises: int) -> None:
    """Over many profiles, and as many requests after each: in 95%; one of five is broken a fifth as often."""
    rng = np.random.default_rng(2)
    broken = []
    for _ in range(1500):
        before, after = rng.random((2, 300)) < 0.9
        broken.append(after.mean() < served_bound(before.astype(np.float64), promises))
    assert 0.2 * 0.05 / promises < np.mean(broken) < 1.2 * 0.05 / promises


def test_what_is_served_of_graded_scores_keeps_the_bound() -> None:
    """The interval is wider than the mean's by the root of two."""
    scores = np.random.default_rng(3).beta(4, 2, 400)
    assert scores.mean() - served_bound(scores) == pytest.approx(
        np.sqrt(2) * (scores.mean() - lower_bound(scores)), rel=1e-3
    )
    assert served_bound(np.zeros(50)) == served_bound(np.array([0.7])) == 0.0


def test_accuracies_are_the_means_of_the_scores_in_each_mode() -> None:
    """Each mode is scored on what it is given: padding, lengths and batches change nothing."""
    for batch in (1, 3, 16):
        profile = make_profile(model(), Settings(repeats=1, batch=batch))
        found = {m.modalities: (m.accuracy, m.samples) for m in profile.modes}
        assert found == {("ear",): (0.75, 40), ("eye",): (0.5, 40), ("ear", "eye"): (0.75, 40)}
        assert all(0 < m.accuracy_low < m.accuracy for m in profile.modes)


def test_fewer_samples_are_chosen_by_seed() -> None:
    """As many as asked for are scored, the same ones for the same seed."""
    runs = [
        make_profile(model(), Settings(repeats=1, samples=11, seed=seed)).mode_named("ear")
        for seed in (0, 0, 1)
    ]
    assert [mode.samples for mode in runs] == [11] * 3
    assert runs[0].accuracy == runs[1].accuracy


def scored_by(run: Callable[[int], None], largest: int) -> Accuracy:
    """The accuracy of `ear` on 40 samples, where `run` is told each batch's size and may raise."""
    ear = Column(("ear",), "float32")

    def run_batch(_: Column, inputs: Parts) -> Ran:
        rows = np.concatenate(inputs["ear"])
        run(len(rows))
        return Ran({"scores": answer(ear=rows)}, 1)

    found = judge(
        model(), samples(), np.arange(40), {ear: largest}, run_batch, Journal(None, {}), lambda _: None
    )
    return summary_of(model(), found[ear])


def test_samples_that_do_not_fit_in_a_batch_are_scored_in_smaller_ones() -> None:
    """A batch that fails is halved until it runs; no sample is lost or scored twice."""
    sizes: list[int] = []

    def run(size: int) -> None:
        if size > 3:
            raise ModelFailedError("no memory")
        sizes.append(size)

    found = scored_by(run, 16)
    assert (found.mean, found.samples) == (0.75, 40)
    assert (sum(sizes), max(sizes)) == (40, 2)


def test_a_model_that_fails_on_a_single_sample_ends_the_run() -> None:
    """There is no accuracy without that sample's score."""
    sizes: list[int] = []

    def run(size: int) -> None:
        sizes.append(size)
        raise ModelFailedError("no memory at all")

    with pytest.raises(ModelFailedError, match="no memory at all"):
        scored_by(run, 4)
    assert sizes == [4, 2, 1]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda *_: np.full(4, np.nan), "its score gave nan; expected numbers from 0 to 1"),
        (lambda *_: np.full(4, 1.5), "its score gave 1.5"),
        (lambda *_: np.full(4, -0.1), "its score gave -0.1"),
        (lambda *_: np.zeros(3), "its score has shape (3,); expected (4,), one a sample"),
        (lambda *_: np.float64(0.5), "its score has shape ()"),
        (lambda *_: 1 / 0, "its score raised ZeroDivisionError"),
        (lambda *_: ["good"], "its score raised ValueError"),
    ],
)
def test_a_score_that_is_no_number_from_0_to_1_a_sample_is_an_error(score: Any, words: str) -> None:
    """One line names the model, the mode and what the score gave."""
    with pytest.raises(ModelError) as caught:
        make_profile(model(score=score), QUICK)
    assert "model 'senses' in mode ear: " in str(caught.value)
    assert words in str(caught.value)


def test_accuracies_found_elsewhere_stand_in_the_profile(tmp_path: Path) -> None:
    """Nothing is scored, the file's numbers are taken, and the profile says so."""
    path = tmp_path / "accuracies.json"
    path.write_text(json.dumps({"ear": 0.1, "eye": 0.2, "ear+eye": 0.3}))
    silent = model(samples=None)
    profile = make_profile(silent, QUICK, given=read_accuracies(path, silent))
    assert [(m.accuracy, m.accuracy_low, m.samples) for m in profile.modes] == [
        (0.1, 0.1, 0),
        (0.2, 0.2, 0),
        (0.3, 0.3, 0),
    ]
    assert (profile.extra or {})["accuracy_source"] == "given"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"ear": 0.1, "eye": 0.2}', "expected one accuracy for each of ear, eye, ear+eye; differs in ear+eye"),
        ('{"ear": 0.1, "eye": 0.2, "ear+eye": 0.3, "nose": 1}', "differs in nose"),
        ('{"ear": 0.1, "eye": 2, "ear+eye": 0.3}', "key `eye` is 2.0; expected a number from 0 to 1"),
        ('{"ear": "good"}', "expected an object like"),
        ("{", "expected an object like"),
    ],
)
def test_a_file_of_accuracies_that_does_not_fit_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    """The message names the file and what is wrong."""
    path = tmp_path / "accuracies.json"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        read_accuracies(path, model())
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_profile_says_which_file_its_accuracies_are_from() -> None:
    """What was given from elsewhere carries its source."""
    found = {combination: Accuracy(0.5, 0.5, 0) for combination in model().combinations()}
    profile = make_profile(model(), QUICK, given=found, given_from="paper.json")
    assert (profile.extra or {})["accuracy_file"] == "paper.json"


def test_random_weights_are_timed_and_claim_no_accuracy(tmp_path: Path) -> None:
    """Their profile has 0 in place of each accuracy, on no samples, and says that none is claimed."""
    profile = make_profile(model(trained=False), QUICK, tmp_path / "profile.json")
    assert {(m.accuracy, m.accuracy_low, m.samples) for m in profile.modes} == {(0.0, 0.0, 0)}
    assert all(mode.latency_s[0] > 0 for mode in profile.modes)
    assert (profile.extra or {})["accuracy_source"] == "none"
    assert "random" in (profile.extra or {})["notes"][-1]
    assert make_profile(model(trained=False, samples=None), QUICK).modes[0].samples == 0


def test_a_refresh_claims_no_more_than_its_weights_allow() -> None:
    """Random weights lose what trained ones measured; trained ones of another version are measured."""
    trained, untrained = model(version="t"), model(version="u", trained=False)
    first = make_profile(trained, QUICK)
    lost = refresh(first, untrained, QUICK)
    assert {mode.accuracy for mode in lost.modes} == {0.0}
    assert (lost.extra or {})["accuracy_source"] == "none"
    assert (refresh(lost, untrained, QUICK).extra or {})["accuracy_source"] == "none"
    again = refresh(lost, trained, QUICK)
    assert [mode.accuracy for mode in again.modes] == [mode.accuracy for mode in first.modes]
    assert (again.extra or {})["accuracy_source"] == "measured"
