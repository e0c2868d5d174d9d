"""A job that has its outcome, as those see it who watch a server: its log and its traces."""

from collections.abc import Callable

from msgspec import Struct

from mosel.core.types import Receipt
from mosel.frontend.best import Choice


class Ended(Struct, frozen=True):
    """What became of a job.

    Attributes:
        receipt: its outcome.
        choice: why it ran in its modes.
        handed_in_ns: when it was read, checked and given to the engine; None for an offer without its tensors.
        told_ns: when its outcome was handed to whoever answers the client.
    """

    receipt: Receipt
    choice: Choice
    handed_in_ns: int | None
    told_ns: int


Watcher = Callable[[Ended], None]
"""Is called once for every job, on the event loop: it must be quick."""
