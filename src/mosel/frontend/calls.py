"""What both protocols hand to the service and get back from it: a call, an answer and the receipt in words.

Nothing here knows HTTP or gRPC, nor how a tensor travels.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from mosel.core.clock import to_ms, to_s
from mosel.core.errors import InputError
from mosel.core.types import BatchRun, Receipt
from mosel.frontend.best import Choice

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


def receipt_parameters(receipt: Receipt, choice: Choice | None = None) -> dict[str, Parameter]:
    """Return the receipt as flat values, which every client of the protocol can carry.

    `batches` is a JSON text. Its times, and `arrival_s`, are seconds on the server's own clock, so that
    batches shared by several jobs can be matched; all else is relative to the job.
    """
    job = receipt.job
    found: dict[str, Parameter] = {
        "outcome": receipt.outcome,
        "reason": receipt.reason,
        **({} if choice is None else {"decision": choice}),
        "modes": ";".join([f"{mode}:{count}" for mode, count in receipt.modes]),
        "arrival_s": to_s(job.arrival_ns),
        "decided_ms": to_ms(receipt.decided_ns - job.arrival_ns),
    }
    if receipt.accuracy is not None:
        found["expected_accuracy"] = receipt.accuracy
    if receipt.batches:
        found["queue_ms"] = to_ms(min([run.start_ns for run in receipt.batches]) - job.arrival_ns)
        found["compute_ms"] = to_ms(sum([run.finish_ns - run.start_ns for run in receipt.batches]))
    if receipt.finish_ns is not None:
        found["slack_ms"] = to_ms(job.deadline_ns - receipt.finish_ns)
    found["batches"] = _ENCODE([_batch(run) for run in receipt.batches]).decode()
    return found


_ENCODE = msgspec.json.Encoder().encode


def _batch(run: BatchRun) -> dict[str, Parameter]:
    return {
        "id": run.id,
        "worker": run.worker,
        "mode": run.mode,
        "size": run.size,
        "requests": run.requests,
        "start": to_s(run.start_ns),
        "finish": to_s(run.finish_ns),
    }
