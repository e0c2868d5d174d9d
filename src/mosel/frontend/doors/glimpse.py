"""What a front door reads of a call: as much as it takes to choose a group, and no tensor.

Whether the call is right is not judged here: one that cannot be read goes to any group, which says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from mosel.core.errors import InputError, MoselError
from mosel.core.types import Job
from mosel.frontend.calls import Call as Calling
from mosel.frontend.checks import Checker
from mosel.frontend.grpc_offers import OFFERED, offer_of
from mosel.frontend.grpc_tensors import read_parameter
from mosel.frontend.offers import OFFER
from mosel.frontend.protocol import decode_offer
from mosel.models.base import Model

Size = Annotated[int, msgspec.Meta(ge=1)]


class _Input(msgspec.Struct):
    name: str
    shape: list[Size]


class _Call(msgspec.Struct):
    inputs: list[_Input] = []
    parameters: dict[str, Any] = {}


_DECODE = msgspec.json.Decoder(_Call).decode


class Glimpse:
    """Reads calls for one model.

    Args:
        model: what is served.
        checker: makes jobs of them.
    """

    def __init__(self, model: Model, checker: Checker) -> None:
        self._tensors = {t.name: m.name for m in model.modalities for t in m.inputs}
        self._checker = checker

    def infer(self, raw: memoryview, arrival_ns: int) -> tuple[Job | None, str]:
        """Return the job that an inference request's JSON object asks for, and the offer that it names.

        The job is None where the object cannot be read, is not right, or names an offer.
        """
        try:
            call = _DECODE(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None, ""
        offer = call.parameters.get(OFFER)
        if offer is not None:
            return None, str(offer)
        call.parameters.pop("binary_data_output", None)
        try:
            return self._job(call, arrival_ns), ""
        except MoselError:
            return None, ""

    def offer(self, body: bytes, arrival_ns: int) -> Job | None:
        """Return the job that is offered; None where the offer is not right."""
        try:
            found = decode_offer(body, None)
            return self._checked(found.requests, tuple(found.modalities), found.parameters, arrival_ns)
        except MoselError:
            return None

    def message(self, request: Any, arrival_ns: int, limit_ns: int | None) -> tuple[Job | None, str]:
        """Return the same of a `ModelInferRequest`, whose caller gives up so long after its arrival."""
        parameters = {name: read_parameter(value) for name, value in request.parameters.items()}
        offer = parameters.get(OFFER)
        if offer is not None:
            return None, str(offer)
        parameters.pop("binary_data_output", None)
        try:
            if OFFERED in parameters:
                found = offer_of(Calling((), request.id, parameters))
                asks = found.requests, tuple(found.modalities), found.parameters
                return self._checked(*asks, arrival_ns), ""
            inputs = [_Input(given.name, list(given.shape)) for given in request.inputs]
            job = self._job(_Call(inputs, parameters), arrival_ns)
        except MoselError:
            return None, ""
        if limit_ns is None:
            return job, ""
        return replace(job, deadline_ns=min(job.deadline_ns, arrival_ns + limit_ns)), ""

    def _job(self, call: _Call, arrival_ns: int) -> Job:
        if not call.inputs or not call.inputs[0].shape:
            raise InputError("the call has no inputs")
        held = dict.fromkeys(self._tensors[given.name] for given in call.inputs if given.name in self._tensors)
        return self._checked(call.inputs[0].shape[0], tuple(held), call.parameters, arrival_ns)

    def _checked(
        self, requests: int, modalities: tuple[str, ...], parameters: Mapping[str, object], arrival_ns: int
    ) -> Job:
        return self._checker.check_offer(requests, modalities, parameters, arrival_ns, "")
