"""The only place that knows protocol codes: an error or a receipt becomes a status (`docs/formats.md`).

| what happened | HTTP | gRPC |
| --- | --- | --- |
| served, late | 200 | OK |
| bad input; an accuracy SLO that no mode of the job's modalities reaches | 400 | INVALID_ARGUMENT |
| an API key that is missing or not known | 401 | UNAUTHENTICATED |
| a model, or a path, that is not there | 404 | NOT_FOUND, UNIMPLEMENTED |
| an upload for an offer, or feedback on a job, that is not held any more | 410 | FAILED_PRECONDITION |
| a request that takes too long to arrive | 408 | – |
| a body over the server's limit | 413 | RESOURCE_EXHAUSTED |
| headers over it | 431 | RESOURCE_EXHAUSTED |
| a job that a group passes on, told to a front door alone | 421 | – |
| refused on arrival, dropped, overloaded, draining, loading | 503, Retry-After | UNAVAILABLE, `retry-after` |
| a model or a worker failed | 500 | INTERNAL |
"""

import math
from dataclasses import dataclass, field

from grpc import StatusCode

from mosel.core.clock import to_s
from mosel.core.errors import (
    GoneError,
    MoselError,
    RefusedError,
    TooLargeError,
    UnauthorizedError,
    UnknownModelError,
    UsageError,
)
from mosel.core.states import Reason, State
from mosel.core.types import Receipt
from mosel.frontend.best import Choice
from mosel.frontend.calls import Parameter
from mosel.frontend.receipts import receipt_parameters

OK, BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, INTERNAL, UNAVAILABLE = 200, 400, 401, 404, 500, 503
GONE, MISDIRECTED = 410, 421
NOT_ALLOWED, TOO_LARGE, TOO_SLOW, HEAD_TOO_LARGE = 405, 413, 408, 431

GRPC = {
    BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
    UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
    NOT_FOUND: StatusCode.NOT_FOUND,
    GONE: StatusCode.FAILED_PRECONDITION,
    TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    UNAVAILABLE: StatusCode.UNAVAILABLE,
    INTERNAL: StatusCode.INTERNAL,
}
"""The status of a refusal in gRPC."""

MESSAGE_LIMIT = 2000
"""Characters of a message: it may repeat what a client sent."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that gets no outputs: its status, the message, and after how long to try again, if ever."""

    status: int
    message: str
    retry_after_s: int | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)


def refusal_of_error(error: MoselError) -> Refusal:
    """Return what an error means to a client."""
    message = _cut(" ".join(str(error).split()))
    if isinstance(error, RefusedError):
        return Refusal(UNAVAILABLE, message, _whole(error.retry_after_s))
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), INTERNAL)
    return Refusal(status, message)


def refusal_of_receipt(receipt: Receipt, choice: Choice | None = None) -> Refusal:
    """Return what the receipt of a job without outputs (neither served nor late) means to its client.

    A client is asked to wait one latency SLO: by then every job that is now queued has its outcome.
    """
    message = _cut(f"{receipt.outcome.value} ({receipt.reason.value}): {receipt.detail}")
    parameters = receipt_parameters(receipt, choice)
    if receipt.reason in (Reason.ACCURACY_UNREACHABLE, Reason.BAD_INPUT):
        return Refusal(BAD_REQUEST, message, None, parameters)
    if receipt.outcome is State.FAILED:
        return Refusal(INTERNAL, message, None, parameters)
    wait_s = to_s(receipt.job.deadline_ns - receipt.job.arrival_ns)
    return Refusal(UNAVAILABLE, message, _whole(wait_s), parameters)


_STATUS: dict[type[MoselError], int] = {
    TooLargeError: TOO_LARGE,
    UnauthorizedError: UNAUTHORIZED,
    UnknownModelError: NOT_FOUND,
    GoneError: GONE,
    UsageError: BAD_REQUEST,
}


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else f"{message[: MESSAGE_LIMIT - 1]}…"
