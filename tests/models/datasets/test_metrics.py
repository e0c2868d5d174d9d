import numpy as np
import pytest

from mosel.core.errors import UsageError
from mosel.models.base import metric_of
from mosel.models.datasets import with_data
from mosel.models.datasets.metrics import ACTIONS, GENRES, SENTIMENT, f1
from mosel.models.scores import micro_f1
from mosel.models.tvlt import tvlt


def test_sentiment_is_judged_by_sign_error_and_correlation() -> None:
    """By hand: of two positive and two negative one positive is taken for negative."""
    outputs = {"sentiment": np.array([[1.0], [-1.0], [-1.0], [-2.0]])}
    found = SENTIMENT.metrics(SENTIMENT.facts(outputs, np.array([2.0, 1.0, -1.0, -2.0])))
    assert found["accuracy"] == 0.75
    assert found["MAE"] == 0.75
    assert found["F1"] == pytest.approx(0.5 * (2 / 3) + 0.5 * (4 / 5))
    expected = np.corrcoef([1, -1, -1, -2], [2, 1, -1, -2])[0, 1]
    assert found["correlation"] == pytest.approx(expected)


def test_neutral_samples_count_as_not_negative_or_are_left_out() -> None:
    """Papers give both: of four samples one is neutral and taken for negative; without it all are right."""
    outputs = {"sentiment": np.array([[1.0], [-0.5], [-1.0], [-2.0]])}
    found = SENTIMENT.metrics(SENTIMENT.facts(outputs, np.array([2.0, 0.0, -1.0, -2.0])))
    assert (found["accuracy"], found["accuracy without neutral"]) == (0.75, 1.0)
    assert found["F1"] == pytest.approx(0.5 * (2 / 3) + 0.5 * (4 / 5))
    assert found["F1 without neutral"] == 1.0
    neutral = SENTIMENT.metrics(SENTIMENT.facts(outputs, np.zeros(4)))
    assert "accuracy without neutral" not in neutral


def test_a_correlation_that_is_not_defined_is_not_given() -> None:
    """A model that always answers the same correlates with nothing."""
    outputs = {"sentiment": np.ones((3, 1))}
    assert "correlation" not in SENTIMENT.metrics(SENTIMENT.facts(outputs, np.array([1.0, 2.0, 3.0])))


def test_an_action_is_right_when_verb_and_noun_are() -> None:
    """Two verbs of three, two nouns of three, one action of three."""
    outputs = {"verb": np.eye(3)[[0, 1, 0]], "noun": np.eye(3)[[0, 0, 2]]}
    found = ACTIONS.metrics(ACTIONS.facts(outputs, np.array([[0, 0], [1, 1], [2, 2]])))
    assert found == {
        "verb top-1": pytest.approx(2 / 3),
        "noun top-1": pytest.approx(2 / 3),
        "action top-1": pytest.approx(1 / 3),
    }


def test_genres_are_judged_over_all_and_by_genre() -> None:
    """By hand; and micro-F1 as the metric is the same number."""
    outputs = {"genres": np.array([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])}
    labels = np.array([[1, 0, 0], [1, 1, 0]])
    found = GENRES.metrics(GENRES.facts(outputs, labels))
    assert found["micro-F1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["macro-F1"] == pytest.approx((1 + 0 + 0) / 3)
    assert metric_of(micro_f1(outputs, labels)) == pytest.approx(found["micro-F1"])
    assert f1(np.zeros(2, bool), np.zeros(2, bool)) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("imagenet:x", "KIND being one of mosei, lrs3, epic, mmimdb"),
        ("mosei", "expected KIND:DIR"),
        ("lrs3:x", "lrs3 is for avhubert, not for tvlt-small"),
        ("mosei:no/such/folder", "no/such/folder: is no folder"),
    ],
)
def test_what_is_no_data_set_of_the_model_is_refused(word: str, message: str) -> None:
    """The message says which there are."""
    with pytest.raises(UsageError, match=message):
        with_data(tvlt("small"), word)
