"""Whether a profile may be used for a model on a device: what was measured must be what will run."""

from collections.abc import Iterator

from mosel.core.errors import UsageError
from mosel.core.tables import Device, Profile
from mosel.core.types import mode_name
from mosel.models.base import Model


def check_profile_fits(profile: Profile, model: Model, device: Device, threads: int = 1) -> None:
    """Check that `profile` was measured for this model, on such a device, with as many CPU threads.

    Version and threads are checked where the profile says them (`mosel profile` always does).

    Raises:
        UsageError: one line that names what differs and how to measure anew.
    """
    problem = next(_problems(profile, model, device, threads), None)
    if problem:
        raise UsageError(f"{problem}; measure one that fits with: mosel profile MODEL")


def _problems(profile: Profile, model: Model, device: Device, threads: int) -> Iterator[str]:
    if profile.model != model.name:
        yield f"the profile is of model {profile.model!r}, not of {model.name!r}"
    if profile.modalities != model.modality_names:
        yield (
            f"the profile of {model.name!r} has modalities {', '.join(profile.modalities)}; "
            f"the model has {', '.join(model.modality_names)}"
        )
    if (profile.length_buckets or ()) != model.length_buckets:
        yield (
            f"the profile of {model.name!r} has length buckets {profile.length_buckets or 'none'}; "
            f"the model has {model.length_buckets or 'none'}"
        )
    extra = profile.extra or {}
    if (version := extra.get("version", model.version)) != model.version:
        yield f"the profile is of version {version} of {model.name!r}; the model is version {model.version}"
    if profile.device != device:
        yield (
            f"the profile was measured on {profile.device.name} ({profile.device.kind}); "
            f"this device is {device.name} ({device.kind})"
        )
    if (given := extra.get("threads", threads)) != threads and device.kind != "cuda":
        yield f"the profile was measured with {given} CPU threads a worker; this one has {threads}"
    known = model.combinations()
    for mode in profile.modes:
        precision = profile.precision_of(mode)
        if mode.modalities not in known or precision not in model.precisions_on(device.kind):
            name = mode_name(mode.modalities, precision)
            yield f"the profile has mode {name}, which model {model.name!r} does not offer"
