"""Whether a call fits its model, and the job that it becomes.

Everything is checked before anything is accepted: names, data types, shapes and SLOs. No modality's data is
looked into. Whether the SLOs can be met is the scheduler's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from mosel.core.errors import InputError
from mosel.core.tables import Profile
from mosel.core.types import Job
from mosel.frontend.calls import Call, Input
from mosel.frontend.parameters import Defaults, Wishes, read_parameters
from mosel.models.base import BYTES, Model, Tensor


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes.

    Attributes:
        body_bytes: in the body of one call.
        json_bytes: in its JSON object, which is decoded on the event loop: raw tensors stand outside it.
        job_requests: in one job.
        held_bytes: in the bodies of all calls under way.
    """

    body_bytes: int = 64 << 20
    json_bytes: int = 8 << 20
    job_requests: int = 1024
    held_bytes: int = 4 << 30


MOST_HELD = 1024
"""Of so many sets of inputs it is kept which modalities they are."""


class Checked(NamedTuple):
    """A call that fits its model: the job, and its tensors by name, each of shape (requests, *shape)."""

    job: Job
    inputs: Mapping[str, NDArray[Any]]


class Checker:
    """Turns calls for one model into jobs.

    Args:
        model: what is served.
        profile: 𝒟, whose modes say which modalities can be used together.
        limits: how much one call may carry.
        tenants: weights of tenants; those that it does not name have 1.
    """

    def __init__(
        self, model: Model, profile: Profile, limits: Limits, tenants: Mapping[str, float] | None = None
    ) -> None:
        self._model = model
        self._limits = limits
        self._tensors = {t.name: (m.name, t) for m in model.modalities for t in m.inputs}
        self._outputs = frozenset(tensor.name for tensor in model.outputs)
        self._modes = [frozenset(mode.modalities) for mode in profile.modes]
        self._held: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._tells_length = any(tensor.per_length for _, tensor in self._tensors.values())
        least = min(mode.accuracy for mode in profile.modes)
        accuracy_slo = least if model.accuracy_slo is None else model.accuracy_slo
        self._defaults = Defaults(accuracy_slo, model.latency_slo_s, tenants or {})

    def check(self, call: Call, arrival_ns: int, job_id: str) -> Checked:
        """Return `call` as a job of this model that arrived at `arrival_ns`.

        Raises:
            InputError: naming what was given, what was expected and what to do.
        """
        self._check_outputs(call)
        inputs = self._named_inputs(call)
        requests = self._requests(call.inputs)
        modalities = self._modalities(inputs)
        wishes = read_parameters(call.parameters, self._defaults)
        length = self._length(inputs, wishes.length)
        return Checked(
            self._job(job_id, requests, modalities, wishes, length, arrival_ns, call.limit_ns), inputs
        )

    def check_offer(
        self,
        requests: int,
        modalities: Sequence[str],
        parameters: Mapping[str, object],
        arrival_ns: int,
        job_id: str,
    ) -> Job:
        """Return the job that is offered, before its tensors are here; no modalities means all.

        Raises:
            InputError: naming what was given, what was expected and what to do.
        """
        if not 1 <= requests <= self._limits.job_requests:
            raise InputError(f"requests is {requests}; expected 1 to {self._limits.job_requests}")
        names = self._model.modality_names
        for name in modalities:
            if name not in names:
                raise InputError(
                    f"model {self._model.name!r} has no modality {name!r}; expected some of {', '.join(names)}"
                )
        held = self._runnable([name for name in names if name in modalities or not modalities])
        wishes = read_parameters(parameters, self._defaults)
        return self._job(job_id, requests, held, wishes, wishes.length, arrival_ns)

    def _job(
        self,
        job_id: str,
        requests: int,
        modalities: tuple[str, ...],
        wishes: Wishes,
        length: float | None,
        arrival_ns: int,
        limit_ns: int | None = None,
    ) -> Job:
        latency_ns = wishes.latency_ns if limit_ns is None else min(wishes.latency_ns, limit_ns)
        return Job(
            id=job_id,
            model=self._model.name,
            requests=requests,
            accuracy_slo=wishes.accuracy_slo,
            arrival_ns=arrival_ns,
            deadline_ns=arrival_ns + latency_ns,
            modalities=modalities,
            weight=wishes.weight,
            tenant=wishes.tenant,
            length=length,
        )

    def _length(self, inputs: Mapping[str, NDArray[Any]], wished: float | None) -> float | None:
        """Return how long the longest request is: what its tensors tell counts, not what the client says."""
        if not self._tells_length:
            return wished
        told = self._model.length_of({name: array.shape[1:] for name, array in inputs.items()})
        return wished if told is None else told

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
            if given.name not in self._tensors:
                raise InputError(
                    f"model {self._model.name!r} has no input {given.name!r}; "
                    f"expected some of {', '.join(self._tensors)}"
                )
            if given.name in inputs:
                raise InputError(f"input {given.name!r} is given twice; expected each once")
            _check_tensor(given, *self._tensors[given.name])
            inputs[given.name] = given.array
        return inputs

    def _requests(self, inputs: tuple[Input, ...]) -> int:
        if not inputs:
            raise InputError(
                f"the call has no inputs; expected the tensors of at least one modality of "
                f"{', '.join(self._model.modality_names)}"
            )
        requests: int = inputs[0].array.shape[0]
        if len(inputs) > 1 and any(given.array.shape[0] != requests for given in inputs):
            counts = {given.name: given.array.shape[0] for given in inputs}
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
        names = tuple(inputs)
        found = self._held.get(names)
        if found is None:
            found = self._found(inputs)
            if len(self._held) < MOST_HELD:
                self._held[names] = found
        return found

    def _found(self, inputs: Mapping[str, object]) -> tuple[str, ...]:
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
        return self._runnable(held)

    def _runnable(self, held: list[str]) -> tuple[str, ...]:
        """Return the modalities of a job, empty where it has all, once it is sure that a mode runs on them."""
        if not any(mode.issubset(held) for mode in self._modes):
            least = (mode for mode in self._modes if not any(other < mode for other in self._modes))
            choices = "; ".join(
                "+".join(name for name in self._model.modality_names if name in m) for m in least
            )
            raise InputError(
                f"model {self._model.name!r} cannot run on {'+'.join(held)}; send at least: {choices}"
            )
        return () if len(held) == len(self._model.modalities) else tuple(held)


def _names(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _check_tensor(given: Input, modality: str, tensor: Tensor) -> None:
    if given.datatype != tensor.datatype:
        where = _where(modality, tensor)
        raise InputError(f"{where}: datatype is {given.datatype}; expected {tensor.datatype}")
    if not _fits(given.array.shape, tensor):
        where = _where(modality, tensor)
        raise InputError(f"{where}: shape is {list(given.array.shape)}; expected {_expected(tensor)}")
    if tensor.datatype == BYTES:
        most = max(map(len, given.array.reshape(-1).tolist()), default=0)
        if most > tensor.most_bytes:
            where = _where(modality, tensor)
            raise InputError(f"{where}: a value has {most:,} bytes; expected at most {tensor.most_bytes:,}")


def _fits(shape: tuple[int, ...], tensor: Tensor) -> bool:
    """Whether an array of this shape, its first dimension requests, is what the tensor is declared as."""
    declared, limits = tensor.shape, tensor.limits
    if len(shape) != len(declared) + 1:
        return False
    variable = 0
    for size, wanted in zip(shape[1:], declared, strict=True):
        if wanted == -1:
            if not 1 <= size <= limits[variable]:
                return False
            variable += 1
        elif size != wanted:
            return False
    return True


def _where(modality: str, tensor: Tensor) -> str:
    return f"modality {modality!r}, input {tensor.name!r}"


def _expected(tensor: Tensor) -> str:
    limits = iter(tensor.limits)
    sizes = [f"1 to {next(limits)}" if size == -1 else str(size) for size in tensor.shape]
    return f"[{', '.join(['requests', *sizes])}]"
