"""What is seen of profiles while a server runs: feedback, agreement with the most accurate mode, latencies.

Each is arithmetic of its own (`feedback.py`, `reliability.py`, `agreement.py`, `online/drift.py`); here they
stand together, as the interface and the dashboard tell them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from mosel.core.types import Receipt
from mosel.frontend.agreement import LiveAgreement
from mosel.frontend.answered import Mode, counted
from mosel.frontend.cascade_shadows import CascadeAgreement
from mosel.frontend.feedback import LiveAccuracy
from mosel.frontend.reliability import Judged, Reliability
from mosel.frontend.running import Engine
from mosel.frontend.shadows import Shadows
from mosel.frontend.standing import Entry, standing
from mosel.online.serving import ServedModel


class Seen:
    """Takes in what is known of answers, and tells it beside the profiles.

    Args:
        served: the models with their profiles.
        engine: runs shadows and knows latencies.
        shadow_share: of the jobs that may be compared with the most accurate mode, how many are.

    Raises:
        UsageError: shadows are asked for, and no model has answers that can be compared.
    """

    def __init__(self, served: Sequence[ServedModel], engine: Engine, shadow_share: float) -> None:
        profiles = [one.profile for one in served]
        self._models = [profile.model for profile in profiles]
        self.accuracy, self.agreement = LiveAccuracy(profiles), LiveAgreement(profiles)
        self._reliability, self._in_cascades = Reliability(profiles), CascadeAgreement(profiles)
        self._snapshot = engine.snapshot
        self._shadows = (
            Shadows(
                served,
                shadow_share,
                engine.submit,
                engine.snapshot,
                engine.now_ns,
                self.agreement,
                self._in_cascades,
            )
            if shadow_share
            else None
        )
        if self._shadows is not None:
            engine.watch_judged(self._shadows.followed.judged)
            engine.watch(self._shadows.followed.ran)

    def answered(
        self,
        receipt: Receipt,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """Let a job that has its answer be compared with the most accurate mode, if that is wanted."""
        if self._shadows is not None:
            self._shadows.saw(receipt, inputs, outputs)

    def scored(self, model: str, modes: Sequence[Mode], scores: Sequence[float]) -> dict[str, int]:
        """Take in how right the answers to a job's requests were, and return how many count for which mode."""
        found = counted(modes)
        for mode, score in zip(modes, scores, strict=True):
            if isinstance(mode, Judged):
                self._reliability.note(model, mode, float(score))
            elif mode in found:
                self.accuracy.note(model, mode, float(score))
        return found

    def of_model(self, model: str) -> list[dict[str, object]]:
        """Return one entry a mode: its accuracy by the profile, by feedback and by agreement."""
        entries = self.accuracy.of_model(model)
        return [{**one, "agreement": self.agreement.entry(model, str(one["mode"]))} for one in entries]

    def cascades(self, model: str) -> list[dict[str, object]]:
        """Return what feedback says of a model's cascades."""
        return self._reliability.of_model(model)

    def every_cascade(self) -> dict[str, list[dict[str, object]]]:
        """Return the same of all models."""
        return {model: self.cascades(model) for model in self._models}

    def cascade_agreement(self, model: str) -> list[dict[str, object]]:
        """Return what shadow runs say of a model's cascades."""
        return self._in_cascades.of_model(model)

    def standing(self, model: str) -> list[Entry]:
        """Return the entries of `of_model`, each with how latencies compare with the profile's."""
        return standing(model, self.of_model(model), self._snapshot().latency_ratios)
