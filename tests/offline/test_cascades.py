from collections.abc import Mapping

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.tables import Mode
from mosel.offline.accuracy import Judged
from mosel.offline.cascades import LEAST_SAMPLES, MOST, Candidate, Subject, find_cascades, pays, thinned

COUNT = 1000
LATENCY_MS = {"text": 1.0, "text+audio": 10.0}


def split(seed: int, count: int = COUNT, telling: bool = True) -> dict[str, Judged]:
    """Samples of which a tenth is hard: `text` is right on half of these, and knows it if it is `telling`."""
    rng = np.random.default_rng(seed)
    hard = rng.random(count) < 0.1
    confidence = np.where(hard & telling, 0.5, 0.9) + 0.05 * rng.random(count)
    text = np.where(hard, rng.random(count) < 0.5, rng.random(count) < 0.99).astype(np.float64)
    both = (rng.random(count) < 0.995).astype(np.float64)
    return {
        "text": Judged(text, confidence),
        "text+audio": Judged(both, np.full(count, 0.9) + rng.random(count)),
    }


def subjects(
    calibration: Mapping[str, Judged] | None = None, test: Mapping[str, Judged] | None = None
) -> dict[str, Subject]:
    """Two modes that nest, one ten times as dear as the other."""
    calibration, test = calibration or split(1), test or split(2)

    def mode(name: str) -> Mode:
        latency_s = [LATENCY_MS[name] * size / 1000 for size in (1, 2)]
        return Mode(tuple(name.split("+")), 0.9, 0.9, COUNT, latency_s, latency_s, [1, 1])

    return {name: Subject(mode(name), calibration[name], test[name]) for name in LATENCY_MS}


def test_a_cascade_is_measured_on_the_split_that_it_was_not_chosen_on() -> None:
    """It escalates about the hard tenth, and is nearly as accurate as the dear mode."""
    test = split(2)
    found, why = find_cascades(subjects(test=test))
    assert why == ""
    best = found[-1]
    confidence = test["text"].confidence
    assert confidence is not None
    unsure = confidence < best.threshold
    scores = np.where(unsure, test["text+audio"].scores, test["text"].scores)
    assert best.stages == ("text", "text+audio")
    assert best.escalated == unsure.mean()
    assert best.accuracy == scores.mean() > 0.98
    assert best.accuracy_low < best.accuracy
    assert best.samples == COUNT


def as_shares(judged: Judged, of: NDArray[np.float64]) -> Judged:
    """The same answers, each out of so much."""
    return Judged(np.stack([judged.scores * of, of], axis=1), judged.confidence)


def test_shares_out_of_equal_parts_give_the_cascades_of_their_means() -> None:
    """What each sample is out of only weighs it."""
    ones, _ = find_cascades(subjects())
    of = np.full(COUNT, 4.0)
    shares, why = find_cascades(
        subjects(*({name: as_shares(j, of) for name, j in split(n).items()} for n in (1, 2)))
    )
    assert why == ""
    assert [(c.name, c.escalated) for c in shares] == [(c.name, c.escalated) for c in ones]
    assert [c.accuracy for c in shares] == pytest.approx([c.accuracy for c in ones])
    assert np.concatenate([c.calibration for c in shares]) == pytest.approx(
        np.concatenate([c.calibration for c in ones])
    )


def test_a_cascade_of_shares_reaches_the_share_of_the_sums() -> None:
    """As micro-F1 counts: what is right of both stages over what there is."""
    rng = np.random.default_rng(3)
    of = {n: rng.integers(1, 9, COUNT).astype(np.float64) for n in (1, 2)}
    given = {n: {name: as_shares(j, of[n]) for name, j in split(n).items()} for n in (1, 2)}
    found, _ = find_cascades(subjects(given[1], given[2]))
    text, both = given[2]["text"], given[2]["text+audio"]
    assert text.confidence is not None
    for cascade in found:
        unsure = (text.confidence < cascade.threshold)[:, None]
        right, out_of = np.where(unsure, both.scores, text.scores).sum(axis=0)
        assert cascade.accuracy == pytest.approx(right / out_of)
        assert cascade.accuracy_low < cascade.accuracy
    assert found


def test_calibration_says_what_escalating_adds() -> None:
    """An unsure answer is right in about half of the cases, and in nearly all once escalated."""
    found, _ = find_cascades(subjects())
    knots = np.array(found[0].calibration)
    assert (np.diff(knots[:, 0]) > 0).all()
    assert knots[0, 1] == pytest.approx(0.5, abs=0.2)
    assert (knots[:, 2] > 0.9).all()


def test_none_is_kept_where_none_pays() -> None:
    """Where confidence tells nothing, a mix of both modes is as good."""
    found, why = find_cascades(subjects(split(1, telling=False), split(2, telling=False)))
    assert found == ()
    assert "mix of modes" in why


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda j: replace_judged(j, None, "its confidence is nan; expected numbers"), "confidence is nan"),
        (lambda j: replace_judged(j, np.full(COUNT, 0.5)), "the same for all samples"),
    ],
)
def test_bad_confidence_gives_no_cascades_and_one_line_why(spoiled: object, said: str) -> None:
    """No confidence, NaN, or a constant one."""
    assert callable(spoiled)
    given = split(1)
    found, why = find_cascades(subjects({**given, "text": spoiled(given["text"])}))
    assert found == ()
    assert said in why
    assert "\n" not in why


def test_too_few_samples_say_how_many_are_needed() -> None:
    """Either split counts."""
    found, why = find_cascades(subjects(test=split(2, LEAST_SAMPLES - 1)))
    assert found == ()
    assert why == "199 labelled samples are too few to calibrate; 200 are needed in either split"


def test_of_many_candidates_few_stay_and_the_most_accurate_is_among_them() -> None:
    """Cheapest first, each more accurate than the one before."""
    many = [Candidate("a", "b", t, cost=t**2, accuracy=0.9 + t / 20) for t in np.linspace(0, 1.9, 100).tolist()]
    found = thinned(many)
    assert 2 < len(found) <= MOST
    assert found[-1] == many[-1]
    assert [one.accuracy for one in found] == sorted(one.accuracy for one in found)


def test_the_cost_with_length_buckets_is_their_mean() -> None:
    """A request's share of the best batch, in seconds."""
    subject = subjects()["text"]
    bucketed = replace(subject.mode, latency_s=[[0.001, 0.002], [0.003, 0.004]])
    assert Subject(bucketed, subject.calibration, subject.test).cost == pytest.approx(0.0015)


def replace_judged(judged: Judged, confidence: NDArray[np.float64] | None, problem: str = "") -> Judged:
    """The same scores with another confidence."""
    return Judged(judged.scores, confidence, problem)


def test_a_cascade_pays_as_long_as_its_stages_cost_less_than_a_mix() -> None:
    """Where the first stage's latency rises the same accuracy is to be had by a mix of modes as cheaply."""
    found, _ = find_cascades(subjects())
    modes = {name: one.mode for name, one in subjects().items()}
    modes["text"] = replace(modes["text"], accuracy=0.945)
    modes["text+audio"] = replace(modes["text+audio"], accuracy=0.995)
    assert all(pays(cascade, modes) for cascade in found)
    slow = replace(modes["text"], latency_s=[0.0095, 0.019])
    assert not any(pays(cascade, {**modes, "text": slow}) for cascade in found)
