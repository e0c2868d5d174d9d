"""Full-size models at the paper's scale, where there is no device of the paper's kind and no trained weights.

How far a full-size model's modes lie apart is measured, if only on a CPU; how accurate they are is known of the
small model of its kind alone. Both together, with all latencies scaled so that all modalities carry what they
carry on the paper's A100, tell the shape of the paper's setting. They are no measurement of it.
"""

from dataclasses import replace

import msgspec

from mosel.core.tables import Profile
from mosel.evaluation.experiments.lab import Lab
from mosel.evaluation.experiments.trials import at_precision, paper_capacity_rps, slower
from mosel.evaluation.experiments.workloads import claims_accuracy

GREATEST_RPS = {"tvlt": 60, "avhubert": 20, "tbn": 40, "selfmm": 100, "vilt": 40}
"""The paper's greatest rates, by model: twice what each processes in a second with all modalities (§7.1)."""
SMALL = "-small"
ENDING = ", scaled"
"""Ends the name of such a profile."""


def with_shapes(lab: Lab, every: Lab) -> Lab:
    """Return the lab with a profile at the paper's scale in place of each one of `every` without accuracies."""
    small = {profile.model: name for name, profile in every.profiles.items() if claims_accuracy(profile)}
    pairs = {
        name: small[profile.model + SMALL]
        for name, profile in every.profiles.items()
        if profile.model in GREATEST_RPS and not claims_accuracy(profile) and profile.model + SMALL in small
    }
    made = {
        name + ENDING: _shape(every.profiles[name], every.profiles[other], other)
        for name, other in pairs.items()
    }
    digests = {name + ENDING: f"{every.sha256[name]} {every.sha256[other]}" for name, other in pairs.items()}
    others = {name: profile for name, profile in lab.profiles.items() if name not in pairs}
    return replace(lab, profiles={**made, **others}, sha256={**lab.sha256, **digests})


def accuracies_of(profile: Profile) -> str:
    """Return the name of the profile that lent its accuracies; empty if they are the profile's own."""
    return str((profile.extra or {}).get("accuracies_of", ""))


def _shape(profile: Profile, other: Profile, name: str) -> Profile:
    """Return the profile with the other's accuracies, as fast as the paper's device."""
    known = {
        (mode.modalities, other.precision_of(mode)): (mode.accuracy, mode.accuracy_low) for mode in other.modes
    }
    modes = tuple(
        msgspec.structs.replace(mode, accuracy=found[0], accuracy_low=found[1])
        for mode in profile.modes
        if (found := known.get((mode.modalities, profile.precision_of(mode))))
    )
    made = msgspec.structs.replace(
        profile, modes=modes, cascades=(), preprocess_s=None, extra={"accuracies_of": name}
    )
    carried_rps = paper_capacity_rps(at_precision(made, made.precision))
    return slower(made, carried_rps / (GREATEST_RPS[profile.model] / 2))
