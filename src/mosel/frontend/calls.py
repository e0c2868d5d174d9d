"""What both protocols hand to the service and get back from it: a call, an answer and the receipt in words.

Nothing here knows HTTP or gRPC, nor how a tensor travels.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.errors import InputError

Parameter = bool | int | float | str


class Input(Struct, frozen=True):
    """One input tensor as it arrived: `array` has the protocol's `shape`, whose first dimension is requests."""

    name: str
    datatype: str
    array: NDArray[Any]


class Call(Struct, frozen=True):
    """One inference call, decoded but not yet checked against the model.

    Attributes:
        inputs: the tensors that it carries.
        id: the client's own name for it, echoed in the answer; may be empty.
        parameters: of the request, as they arrived.
        outputs: the names of the outputs that are asked for; empty means all.
        limit_ns: how long after its arrival the caller gives up, as the protocol itself says; None if never.
    """

    inputs: tuple[Input, ...]
    id: str = ""
    parameters: Mapping[str, object] = {}
    outputs: tuple[str, ...] = ()
    limit_ns: int | None = None


def of_tenant(call: Call, tenant: str) -> Call:
    """Return a call as one of the tenant whose key it came with.

    Raises:
        InputError: it says that it is of another.
    """
    said = call.parameters.get("tenant")
    if said not in (None, tenant):
        raise InputError(
            f"parameter tenant is {str(said)[:80]!r}, but the API key is of {tenant!r}; leave it out"
        )
    return replace(call, parameters={**call.parameters, "tenant": tenant})
