import numpy as np

from mosel.models.scores import sentiment_score


def test_a_sentiment_is_right_where_its_sign_is() -> None:
    """Zero counts as positive, as in the authors' evaluations."""
    outputs = {"sentiment": np.array([[-0.1], [0.0], [2.0], [-3.0]])}
    assert sentiment_score(outputs, np.array([-1.0, 0.5, -0.2, 0.0])).tolist() == [1, 1, 0, 0]
