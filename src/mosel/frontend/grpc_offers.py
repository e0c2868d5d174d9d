"""Lazy upload over gRPC. The protocol has no method for it, so an offer is a `ModelInfer` without inputs.

Its parameter `offered_requests` says that it is one, and of how many requests; the response has no outputs, and
the answer in its parameters. What follows is an ordinary inference with the parameter `offer`.
"""

from collections.abc import Mapping
from typing import Any

from mosel.core.errors import InputError
from mosel.frontend.calls import Call, Parameter
from mosel.frontend.offers import OfferBody

OFFERED = "offered_requests"
MODALITIES = "offered_modalities"
"""Joined by `+`, as in the name of a mode; all, if it is not there."""


def offer_of(call: Call) -> OfferBody:
    """Return the offer that a call makes.

    Raises:
        InputError: it brings inputs, or one of the two parameters is not what it should be.
    """
    if call.inputs:
        raise InputError(f"a call with parameter {OFFERED} has inputs; expected none: it only offers a job")
    parameters = dict(call.parameters)
    requests, modalities = parameters.pop(OFFERED), parameters.pop(MODALITIES, "")
    if isinstance(requests, str) and requests.isdecimal():
        requests = int(requests[:18])
    if isinstance(requests, bool) or not isinstance(requests, int):
        raise InputError(f"parameter {OFFERED} is {requests!r}; expected a whole number")
    if not isinstance(modalities, str):
        raise InputError(f"parameter {MODALITIES} is {modalities!r}; expected names joined by +")
    return OfferBody(requests, modalities.split("+") if modalities else [], parameters)


def offer_parameters(told: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return the answer to an offer as flat values."""
    found = {
        "offer": told["offer"],
        "modalities": "+".join(told["modalities"]),
        "inputs": ",".join(told["inputs"]),
        "hold_ms": told["hold_ms"],
    }
    return found | {"requests": ",".join(map(str, told["requests"]))} if "requests" in told else found
