"""Whether a call fits its model, and the job that it becomes.

Everything is checked before anything is accepted: names, data types, shapes and SLOs. No modality's data is
looked into. Whether the SLOs can be met is the scheduler's business.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mosel.core.clock import NS_PER_MS
from mosel.core.errors import InputError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.frontend.calls import Call, Input
from mosel.models.base import Model, Tensor

LONGEST_SLO_MS = 86_400_000
"""A day: the longest latency SLO; beyond it a deadline says nothing, and times stay far inside 64 bits."""

NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one call may carry: bytes of body, and requests in its job."""

    body_bytes: int = 64 << 20
    job_requests: int = 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """A call that fits its model: the job, and its tensors by name, each of shape (requests, *shape)."""

    job: Job
    inputs: Mapping[str, NDArray[Any]]


class Checker:
    """Turns calls for one model into jobs.

    Args:
        model: what is served.
        profile: 𝒟, whose modes say which modalities can be used together.
        limits: how much one call may carry.
    """

    def __init__(self, model: Model, profile: Profile, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._tensors = {tensor.name: tensor for modality in model.modalities for tensor in modality.inputs}
        self._outputs = frozenset(tensor.name for tensor in model.outputs)
        self._modes = [frozenset(mode.modalities) for mode in profile.modes]
        least = min(mode.accuracy for mode in profile.modes)
        self._accuracy_slo = least if model.accuracy_slo is None else model.accuracy_slo

    def check(self, call: Call, arrival_ns: int, job_id: str) -> Checked:
        """Return `call` as a job of this model that arrived at `arrival_ns`.

        Raises:
            InputError: naming what was given, what was expected and what to do.
        """
        self._check_outputs(call)
        inputs = self._named_inputs(call)
        requests = self._requests(call.inputs)
        modalities = self._modalities(inputs)
        accuracy_slo, latency_ns = self._slos(call.parameters)
        job = Job(
            id=job_id,
            model=self._model.name,
            requests=requests,
            accuracy_slo=accuracy_slo,
            arrival_ns=arrival_ns,
            deadline_ns=arrival_ns + latency_ns,
            modalities=modalities,
        )
        return Checked(job, inputs)

    def _check_outputs(self, call: Call) -> None:
        for name in call.outputs:
            if name not in self._outputs:
                raise InputError(
                    f"model {self._model.name!r} has no output {name!r}; "
                    f"ask for some of {_names(self._model.outputs)}, or for none to get all"
                )
        if len(set(call.outputs)) != len(call.outputs):
            raise InputError(f"outputs {', '.join(call.outputs)}: one is asked for twice; expected each once")

    def _named_inputs(self, call: Call) -> dict[str, NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {}
        for given in call.inputs:
            tensor = self._tensors.get(given.name)
            if tensor is None:
                raise InputError(
                    f"model {self._model.name!r} has no input {given.name!r}; "
                    f"expected some of {', '.join(self._tensors)}"
                )
            if given.name in inputs:
                raise InputError(f"input {given.name!r} is given twice; expected each once")
            _check_tensor(given, tensor)
            inputs[given.name] = given.array
        return inputs

    def _requests(self, inputs: tuple[Input, ...]) -> int:
        if not inputs:
            raise InputError(
                f"the call has no inputs; expected the tensors of at least one modality of "
                f"{', '.join(self._model.modality_names)}"
            )
        counts = {given.name: given.array.shape[0] for given in inputs}
        requests: int = inputs[0].array.shape[0]
        if any(count != requests for count in counts.values()):
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise InputError(
                f"the inputs' first dimensions differ ({listed}); expected the same number of requests in each"
            )
        if not 1 <= requests <= self._limits.job_requests:
            raise InputError(
                f"the inputs' first dimension is {requests}; expected 1 to {self._limits.job_requests} requests"
            )
        return requests

    def _modalities(self, inputs: Mapping[str, object]) -> tuple[str, ...]:
        """Return the modalities that the inputs hold; empty where they hold all."""
        held = []
        for modality in self._model.modalities:
            missing = [tensor.name for tensor in modality.inputs if tensor.name not in inputs]
            if not missing:
                held.append(modality.name)
            elif len(missing) < len(modality.inputs):
                raise InputError(
                    f"modality {modality.name!r} lacks its input {', '.join(missing)}; "
                    f"send all of {_names(modality.inputs)}, or none of them"
                )
        if not any(mode.issubset(held) for mode in self._modes):
            least = (mode for mode in self._modes if not any(other < mode for other in self._modes))
            choices = "; ".join(
                "+".join(name for name in self._model.modality_names if name in m) for m in least
            )
            raise InputError(
                f"model {self._model.name!r} cannot run on {'+'.join(held)}; send at least: {choices}"
            )
        return () if len(held) == len(self._model.modalities) else tuple(held)

    def _slos(self, parameters: Mapping[str, object]) -> tuple[float, int]:
        """Return the accuracy SLO and the latency SLO in nanoseconds: the least of all limits given."""
        for name in parameters:
            if name not in _PARAMETERS:
                raise InputError(
                    f"parameter {name!r} is unknown; expected some of {', '.join(_PARAMETERS)}: leave it out"
                )
        accuracy_slo = _number(parameters, "accuracy_slo", self._accuracy_slo, 0.0, 1.0)
        latency_ms = self._model.latency_slo_s * 1000
        latency_ns = round(_positive(parameters, "latency_slo_ms", latency_ms, LONGEST_SLO_MS) * NS_PER_MS)
        longest_us = LONGEST_SLO_MS * 1000
        timeout_ns = round(_positive(parameters, "timeout", longest_us, longest_us) * NS_PER_US)
        return accuracy_slo, min(latency_ns, timeout_ns)


_PARAMETERS = ("accuracy_slo", "latency_slo_ms", "timeout")


def _names(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _check_tensor(given: Input, tensor: Tensor) -> None:
    if given.datatype != tensor.datatype:
        raise InputError(f"input {tensor.name!r}: datatype is {given.datatype}; expected {tensor.datatype}")
    shape = given.array.shape
    if len(shape) != len(tensor.shape) + 1:
        raise InputError(f"input {tensor.name!r}: shape is {list(shape)}; expected {_expected(tensor)}")
    limits = iter(tensor.limits)
    for size, wanted in zip(shape[1:], tensor.shape, strict=True):
        fits = 1 <= size <= next(limits) if wanted == -1 else size == wanted
        if not fits:
            raise InputError(f"input {tensor.name!r}: shape is {list(shape)}; expected {_expected(tensor)}")


def _expected(tensor: Tensor) -> str:
    limits = iter(tensor.limits)
    sizes = [f"1 to {next(limits)}" if size == -1 else str(size) for size in tensor.shape]
    return f"[{', '.join(['requests', *sizes])}]"


def _positive(parameters: Mapping[str, object], name: str, default: float, highest: float) -> float:
    value = _number(parameters, name, default, 0.0, highest)
    if value == 0:
        raise InputError(f"parameter {name} is 0; expected more than 0: leave it out for the default")
    return value


def _number(
    parameters: Mapping[str, object], name: str, default: float, lowest: float, highest: float
) -> float:
    """Return a parameter that is a number, or a number as a string, from `lowest` to `highest`."""
    given = parameters.get(name)
    if given is None:
        return default
    try:
        value = (
            math.nan if isinstance(given, bool) or not isinstance(given, int | float | str) else float(given)
        )
    except (ValueError, OverflowError):
        value = math.nan
    if not lowest <= value <= highest:
        raise InputError(f"parameter {name} is {given!r}; expected a number from {lowest:g} to {highest:g}")
    return value
