import numpy as np

from mosel.models.agreement import same_class
from mosel.models.base import metric_of
from mosel.models.scores import micro_f1, same_sentiment, sentiment_score
from mosel.models.tbn import same_action


def test_a_sentiment_is_right_where_its_sign_is() -> None:
    """Zero counts as positive, as in the authors' evaluations."""
    outputs = {"sentiment": np.array([[-0.1], [0.0], [2.0], [-3.0]])}
    assert sentiment_score(outputs, np.array([-1.0, 0.5, -0.2, 0.0])).tolist() == [1, 1, 0, 0]


def test_micro_f1_is_the_share_of_the_sums() -> None:
    """A genre is answered where its logit is above 0; a sample of more genres weighs more."""
    logits = np.array([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    labels = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    scores = micro_f1({"genres": logits}, labels)
    assert scores.tolist() == [[2, 3], [0, 3], [0, 1]]
    assert metric_of(scores) == 2 / 7


def test_answers_agree_where_they_mean_the_same() -> None:
    """A sentiment's sign; an action's verb and noun; a class."""
    one, other = (np.array([[value] for value in row], np.float32) for row in ((-1, 2, 0), (-3, -1, 1)))
    assert same_sentiment({"sentiment": one}, {"sentiment": other}).tolist() == [1, 0, 1]
    first, second = np.eye(3, dtype=np.float32)[[0, 1, 2]], np.eye(3, dtype=np.float32)[[0, 1, 1]]
    assert same_action({"verb": first, "noun": first}, {"verb": first, "noun": second}).tolist() == [1, 1, 0]
    assert same_class({"logits": first}, {"logits": second}).tolist() == [1, 1, 0]
