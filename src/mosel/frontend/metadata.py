"""A model's metadata as the protocol has it; what is mosel's own stands in `parameters`."""

from collections.abc import Mapping

from mosel.core.build import is_compiled
from mosel.core.tables import Profile
from mosel.frontend.accuracies import SOURCE_KEY
from mosel.models.base import BYTES, Modality, Model, Tensor
from mosel.online.serving import ServedModel


def metadata(served: ServedModel, drifted: str, settings: Mapping[str, str | int]) -> dict[str, object]:
    """Return the tensors of a model, with the modality and the limits of each, and its modes.

    Args:
        served: the model with its profile.
        drifted: in which modes the profile does not hold, see `standing.py`.
        settings: of the server.
    """
    model = served.model
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "mosel",
        "inputs": [_input(modality, tensor) for modality in model.modalities for tensor in modality.inputs],
        "outputs": [_described(tensor) for tensor in model.outputs],
        "parameters": {
            **_parameters(model, served.profile),
            "drifted": drifted,
            "compiled": "yes" if is_compiled() else "no",
            **settings,
        },
    }


def _input(modality: Modality, tensor: Tensor) -> dict[str, object]:
    found: dict[str, object] = {"modality": modality.name, "limits": list(tensor.limits)}
    if tensor.datatype == BYTES:
        found["most_bytes"] = tensor.most_bytes
    return {**_described(tensor), "parameters": found}


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.shape]}


def _parameters(model: Model, profile: Profile) -> dict[str, object]:
    modes = zip(profile.mode_names, profile.modes, strict=True)
    found: dict[str, object] = {
        "modes": ";".join(f"{name}:{mode.accuracy}" for name, mode in modes),
        "metric": profile.metric,
        "latency_slo_ms": model.latency_slo_s * 1000,
        "device": profile.device.name,
        "measured_at": profile.measured_at,
    }
    if source := (profile.extra or {}).get(SOURCE_KEY):
        found[SOURCE_KEY] = source
    return found
