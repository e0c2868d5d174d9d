"""The body of a feedback, as JSON says it."""

from typing import Annotated

import msgspec

from mosel.core.errors import InputError, TooLargeError

FEEDBACK_LIMIT_BYTES = 1 << 20

Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a feedback: the job's id, the score of each of its requests, and whose job it was."""

    id: str
    scores: list[bool | Score]
    tenant: str = ""


def decode_feedback(body: bytes, tenant: str | None) -> FeedbackBody:
    """Decode the body of a feedback, as one of the tenant whose key it came with, if it did.

    Raises:
        TooLargeError: it is larger than a feedback ever is.
        InputError: it is not what a feedback looks like, or names another tenant.
    """
    if len(body) > FEEDBACK_LIMIT_BYTES:
        raise TooLargeError(f"a feedback has {len(body):,} bytes; expected at most {FEEDBACK_LIMIT_BYTES:,}")
    try:
        found = msgspec.json.decode(body, type=FeedbackBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f'the feedback: {error}; expected {{"id": "…", "scores": [true, 0.5, …]}}') from error
    if tenant is not None:
        if found.tenant not in ("", tenant):
            raise InputError(f"tenant is {found.tenant[:80]!r}, but the API key is of {tenant!r}; leave it out")
        found.tenant = tenant
    return found
