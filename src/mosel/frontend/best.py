"""What a job's accuracy could have been, and the code that says so: for receipts, metrics and the dashboard."""

from collections.abc import Iterable
from enum import StrEnum

from mosel.core.tables import Profile
from mosel.core.types import ACCURACY_TOLERANCE, Job, Receipt


class Choice(StrEnum):
    """Why a job ran in the modes in which it ran; receipts carry one, `docs/how-it-works.md` explains each."""

    MOST_ACCURATE = "most_accurate"
    """In the most accurate mode of the model."""
    MOST_ACCURATE_SENT = "most_accurate_sent"
    """In the most accurate mode of the modalities that it came with; others of the model would reach more."""
    CHEAPER_FOR_DEADLINES = "cheaper_for_deadlines"
    """In cheaper modes than it could: the policy kept the time for its deadline, or for other jobs."""
    CASCADED = "cascaded"
    """In a cascade, all of its requests or some: where the model was sure, the cheaper mode's answer stands."""
    NOT_RUN = "not_run"
    """It has no answer, so no modes count."""


class Best:
    """The most that each set of modalities can reach, by model.

    Args:
        profiles: 𝒟 of each model that is served.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._modes = {p.model: [(frozenset(m.modalities), m.accuracy) for m in p.modes] for p in profiles}
        self._found: dict[tuple[str, tuple[str, ...]], float] = {}

    def accuracy(self, job: Job) -> float:
        """Return the accuracy of the best mode of the modalities that the job has."""
        return self._best(job.model, job.modalities)

    def given_up(self, receipt: Receipt) -> float | None:
        """Return how much less accurate a job ran than it could have; None where it has no answer."""
        if receipt.accuracy is None:
            return None
        return max(0.0, self.accuracy(receipt.job) - receipt.accuracy)

    def choice(self, receipt: Receipt) -> Choice:
        """Return why it ran in the modes in which it ran."""
        given_up = self.given_up(receipt)
        if given_up is None:
            return Choice.NOT_RUN
        if receipt.cascaded:
            return Choice.CASCADED
        if given_up > ACCURACY_TOLERANCE:
            return Choice.CHEAPER_FOR_DEADLINES
        lacking = self._best(receipt.job.model, ()) - self.accuracy(receipt.job)
        return Choice.MOST_ACCURATE_SENT if lacking > ACCURACY_TOLERANCE else Choice.MOST_ACCURATE

    def _best(self, model: str, modalities: tuple[str, ...]) -> float:
        key = model, modalities
        found = self._found.get(key)
        if found is None:  # as many as a model's modalities have subsets
            held = frozenset(modalities)
            found = self._found[key] = max(
                (accuracy for mode, accuracy in self._modes[model] if not held or mode <= held), default=0.0
            )
        return found


def modes_by_accuracy(profile: Profile) -> tuple[str, ...]:
    """Return the names of the modes, the least accurate first: the order in which a chart stacks them."""
    named = zip((mode.accuracy for mode in profile.modes), profile.mode_names, strict=True)
    return tuple(name for _, name in sorted(named, key=lambda pair: pair[0]))
