"""One group of a fleet whose groups are processes of their own: it decides alone, and says how it stands.

It is a fleet of one group, as pure, which decides as its scheduler does. What leaves it, its receipts, numbers
batches and workers as they are numbered in the whole, so that those of several groups can stand side by side.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from mosel.core.types import BatchRun, Receipt
from mosel.online.events import Action, Complete, Event
from mosel.online.fleet import Fleet
from mosel.online.group import Load, Place


class Member:
    """A group among others.

    Args:
        alone: the group by itself.
        place: where it stands among the groups.
    """

    def __init__(self, alone: Fleet, place: Place) -> None:
        self.place = place
        self._alone = alone

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Take in what happened up to `now_ns` and return what is to be done; workers count from 0."""
        return [
            Complete(self._numbered(action.receipt)) if isinstance(action, Complete) else action
            for action in self._alone.handle(events, now_ns)
        ]

    def load(self, now_ns: int) -> Load:
        """Return how the group stands."""
        return self._alone.loads(now_ns)[0]

    def _numbered(self, receipt: Receipt) -> Receipt:
        return replace(receipt, batches=tuple(map(self._run, receipt.batches))) if receipt.batches else receipt

    def _run(self, run: BatchRun) -> BatchRun:
        number = run.id * self.place.groups + self.place.index
        return replace(run, id=number, worker=self.place.workers.start + run.worker)
