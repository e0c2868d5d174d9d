from msgspec.structs import replace

from mosel.core.states import Reason, State
from mosel.core.tables import Profile
from mosel.core.types import Job, Receipt
from mosel.frontend.best import Best, Choice, modes_by_accuracy

JOB = Job("j", "m", 2, 0.5, 0, 10)


def served(accuracy: float, modalities: tuple[str, ...] = ()) -> Receipt:
    """Return the receipt of a job of these modalities that ran at this accuracy."""
    return Receipt(
        replace(JOB, modalities=modalities), State.SERVED, Reason.ON_TIME, "", 5, finish_ns=5, accuracy=accuracy
    )


def test_why_a_job_ran_in_its_modes(profile: Profile) -> None:
    """The code says whether the accuracy is the model's best, the job's best, or less."""
    best = Best([profile])
    assert best.choice(served(0.9)) is Choice.MOST_ACCURATE
    assert best.choice(served(0.8, ("sound",))) is Choice.MOST_ACCURATE_SENT
    assert best.choice(served(0.85)) is Choice.CHEAPER_FOR_DEADLINES
    assert best.choice(served(0.9, ("text", "sound"))) is Choice.MOST_ACCURATE
    assert best.choice(replace(served(0.85), cascaded=1)) is Choice.CASCADED
    assert best.choice(Receipt(JOB, State.DROPPED, Reason.CANCELLED, "", 5)) is Choice.NOT_RUN


def test_accuracy_given_up(profile: Profile) -> None:
    """It is held against what the job's own modalities could have reached."""
    best = Best([profile])
    assert best.given_up(served(0.8)) == 0.9 - 0.8
    assert best.given_up(served(0.8, ("sound",))) == 0
    assert best.given_up(Receipt(JOB, State.DROPPED, Reason.CANCELLED, "", 5)) is None


def test_modes_are_stacked_by_accuracy(profile: Profile) -> None:
    """The least accurate mode comes first."""
    assert modes_by_accuracy(profile) == ("text", "sound", "text+sound")
