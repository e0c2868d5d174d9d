"""A model's configuration as Triton's clients ask for it."""

from collections.abc import Mapping

from mosel.models.base import Tensor
from mosel.online.serving import ServedModel


def configuration(
    served: ServedModel, job_requests: int, settings: Mapping[str, str | int]
) -> dict[str, object]:
    """Return the configuration in Triton's words; what is mosel's own stands in `parameters`, as text.

    Args:
        served: the model with its profile.
        job_requests: the largest job, which is what a client may put into the first dimension.
        settings: of the server.
    """
    model, profile = served.model, served.profile
    modes = zip(profile.mode_names, profile.modes, strict=True)
    told = {
        "modalities": ";".join(f"{m.name}:{','.join(t.name for t in m.inputs)}" for m in model.modalities),
        "limits": ";".join(f"{t.name}:{t.largest_shape}" for m in model.modalities for t in m.inputs),
        "modes": ";".join(f"{name}:{mode.accuracy}" for name, mode in modes),
        "metric": profile.metric,
        "latency_slo_ms": model.latency_slo_s * 1000,
        "batch_sizes": ",".join(map(str, profile.batch_sizes)),
        "device": profile.device.name,
        "measured_at": profile.measured_at,
        **settings,
    }
    return {
        "name": model.name,
        "platform": "mosel",
        "backend": "mosel",
        "max_batch_size": job_requests,
        "input": [
            {**_described(tensor), "optional": True}
            for modality in model.modalities
            for tensor in modality.inputs
        ],
        "output": [_described(tensor) for tensor in model.outputs],
        "parameters": {name: {"string_value": str(value)} for name, value in told.items()},
    }


def _described(tensor: Tensor) -> dict[str, object]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": list(tensor.shape)}
