"""Workers as the scheduler sees them: which are up, what each has in hand, when each should be free.

A worker holds at most one batch that runs and one that waits. The second is sent only when the first is
expected to end within the lead, so that what runs next is decided as late as the device allows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosel.online.sent import Sent

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

IDLE = -1


@dataclass(slots=True, eq=False)
class Hands:
    """What one worker has in hand."""

    running: Sent | None = None
    waiting: Sent | None = None


class Crew:
    """Some workers, and all batches that are with one of them. A seat is a worker's place among them.

    Args:
        members: the workers' numbers.

    Attributes:
        members: the workers' numbers, by seat.
        lanes: of shape (seats,), the number of the lane that each takes its work from (`cells.py`).
        up: of shape (seats,), which are up.
        manned: how many are up.
        idlers: how many of those have nothing in hand.
    """

    def __init__(self, members: Sequence[int]) -> None:
        self.members = tuple(members)
        self.lanes = np.zeros(len(self.members), np.int64)
        self.up = np.zeros(len(self.members), np.bool_)
        self.manned = self.idlers = 0
        self._seats = {worker: seat for seat, worker in enumerate(self.members)}
        self._hands = [Hands() for _ in self.members]
        self._open = np.zeros(len(self.members), np.bool_)
        self._ends_ns = np.full(len(self.members), IDLE)
        self._behind_ns = np.zeros(len(self.members), np.int64)
        self._sent: dict[int, Sent] = {}

    @property
    def idle(self) -> bool:
        """Whether no worker has a batch in hand."""
        return not self._sent

    def lane(self, worker: int) -> int:
        """Return the number of the lane that a worker takes its work from."""
        return int(self.lanes[self._seats[worker]])

    def free_ns(self, now_ns: int) -> Ints:
        """When each worker should be free; a batch that overran its estimate is taken to end now."""
        free_ns: Ints = np.maximum(self._ends_ns, now_ns) + self._behind_ns
        return free_ns

    def first_ns(self, now_ns: int, lane: int | None = None) -> int:
        """Return when the first worker that is up, or that of a lane, should be free; now if none is."""
        if self.idlers and lane is None:
            return now_ns
        if len(self.members) == 1:
            return max(self._ends_ns.item(0), now_ns) + int(self._behind_ns.item(0)) if self.up[0] else now_ns
        up = self.up if lane is None else self.up & (self.lanes == lane)
        free_ns = self.free_ns(now_ns)[up]
        return int(free_ns.min()) if len(free_ns) else now_ns

    def ripe(self, now_ns: int, lead_ns: int, lanes: Sequence[int], passed: Collection[int] = ()) -> int | None:
        """Return the seat of the worker that takes a batch now; None if none can.

        Plans count on the next batch of a lane going to its worker that is free first, so one within its lead
        waits while another, whose hands are full, will be free before it.

        Args:
            now_ns: the time.
            lead_ns: how long before a worker should be free it can take its next batch.
            lanes: numbers of lanes, in the order in which their workers take work.
            passed: those of which no worker is wanted.
        """
        if not lead_ns and not self.idlers:
            return None
        if len(self.members) == 1:
            return 0 if self._is_ripe(now_ns, lead_ns) and lanes[0] not in passed else None
        ripe = self._ripe(now_ns, lead_ns)
        if not lead_ns and len(lanes) == 1 and not passed:
            return int(ripe.argmax())
        free_ns = self.free_ns(now_ns)
        for lane in lanes:
            seats = np.flatnonzero(self.up & (self.lanes == lane))
            if lane not in passed and len(seats):
                found = seats[ripe[seats] & (free_ns[seats] == free_ns[seats].min())]
                if len(found):
                    return int(found[0])
        return None

    def next_ripe_ns(self, now_ns: int, lead_ns: int) -> int | None:
        """Return the first time after now at which a worker can take a batch without having reported."""
        if not lead_ns:
            return None
        busy = self._open & (self._ends_ns != IDLE)
        times_ns = self.free_ns(now_ns)[busy] - lead_ns
        ahead_ns = times_ns[times_ns > now_ns]
        return int(ahead_ns.min()) if len(ahead_ns) else None

    def ready(self, worker: int) -> None:
        """Note that a worker is up (again)."""
        seat = self._seats[worker]
        self.manned += not self.up[seat]
        self.up[seat] = True
        self._set(seat)

    def retire(self, worker: int) -> None:
        """Send a worker nothing more; it keeps what it has in hand."""
        seat = self._seats[worker]
        self.manned -= bool(self.up[seat])
        self.up[seat] = False
        self._set(seat)

    def send(self, sent: Sent, now_ns: int) -> None:
        """Hand a batch to its worker."""
        seat = self._seats[sent.batch.worker]
        hands = self._hands[seat]
        assert self.up[seat], "work goes to workers that are up"
        assert hands.waiting is None, "a worker holds one waiting batch at most"
        self._sent[sent.batch.id] = sent
        if hands.running is None:
            sent.start_ns = now_ns
            hands.running = sent
        else:
            hands.waiting = sent
        self._set(seat)

    def report(self, batch: int, now_ns: int) -> Sent | None:
        """Take a batch off its worker; the next one starts. None if it is not known (any more)."""
        sent = self._sent.get(batch)
        if sent is None or sent.start_ns is None:
            return None
        del self._sent[batch]
        seat = self._seats[sent.batch.worker]
        hands = self._hands[seat]
        hands.running, hands.waiting = hands.waiting, None
        if hands.running is not None:
            hands.running.start_ns = now_ns
        self._set(seat)
        return sent

    def take_back(self, batch: int) -> Sent | None:
        """Take a batch off its worker that waits there, as it could not be handed over; None if it does not."""
        sent = self._sent.get(batch)
        if sent is None or sent.start_ns is not None:
            return None
        del self._sent[batch]
        seat = self._seats[sent.batch.worker]
        self._hands[seat].waiting = None
        self._set(seat)
        return sent

    def lose(self, worker: int) -> list[Sent]:
        """Take a worker down and return the batches that it had in hand, the running one first."""
        seat = self._seats[worker]
        hands = self._hands[seat]
        lost = [sent for sent in (hands.running, hands.waiting) if sent is not None]
        for sent in lost:
            del self._sent[sent.batch.id]
        hands.running = hands.waiting = None
        self.manned -= bool(self.up[seat])
        self.up[seat] = False
        self._set(seat)
        return lost

    def holds(self, worker: int) -> bool:
        """Whether a worker has a batch in hand."""
        return self._hands[self._seats[worker]].running is not None

    def _ripe(self, now_ns: int, lead_ns: int) -> Flags:
        """Which can take a batch: those with nothing in hand, or with a lead nearly so."""
        ripe: Flags = self._open & (self._ends_ns <= (now_ns + lead_ns if lead_ns else IDLE))
        return ripe

    def _is_ripe(self, now_ns: int, lead_ns: int) -> bool:
        """Whether the only worker can take a batch."""
        return bool(self._open[0] and self._ends_ns[0] <= (now_ns + lead_ns if lead_ns else IDLE))

    def _set(self, seat: int) -> None:
        """Bring the columns into line with what a worker has in hand."""
        running, waiting = self._hands[seat].running, self._hands[seat].waiting
        self.idlers -= self._is_idle(seat)
        self._open[seat] = self.up[seat] and waiting is None
        self._behind_ns[seat] = waiting.batch.expected_ns if waiting else 0
        self._ends_ns[seat] = IDLE
        if running is not None:
            assert running.start_ns is not None
            self._ends_ns[seat] = running.start_ns + running.batch.expected_ns
        self.idlers += self._is_idle(seat)

    def _is_idle(self, seat: int) -> bool:
        return bool(self._open[seat] and self._ends_ns[seat] == IDLE)
