import pytest

from mosel.core.types import Batch, Job, Part, mode_name


def test_mode_name_joins_modalities() -> None:
    """A mode's name is its modalities joined by +, then @precision where one is given."""
    assert mode_name(["audio"]) == "audio"
    assert mode_name(("audio", "video")) == "audio+video"
    assert mode_name(("audio", "video"), "float16") == "audio+video@float16"


def test_batch_counts_the_requests_of_all_parts() -> None:
    """A batch's size is the number of requests over all its jobs."""
    parts = (Part("a", (0, 2)), Part("b", (1,)))
    assert Batch(1, 0, "m", "audio", 0, parts, 5).size == 3


def test_words_are_frozen() -> None:
    """A job cannot be changed once made, and takes no attribute that it was not declared with."""
    job = Job("a", "m", 1, 0.5, 0, 10)
    with pytest.raises(AttributeError):
        job.deadline_ns = 20  # type: ignore[misc]
    assert not hasattr(job, "__dict__")
