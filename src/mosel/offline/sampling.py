"""Which batch sizes to measure, and what lies between them (§4.2; the paper measures all).

Rules:
1. The ends and a coarse grid of doubling sizes are measured.
2. Between two neighbours one size that was held out is measured too, an odd one about the middle, for where
   kernels like even sizes an odd one tells most. If it is near the line through them, or no further from it
   than noise explains, the interval is closed and its other sizes are interpolated; otherwise both halves are
   open.
3. It ends when no interval is open.

Pure: no clock, no model.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence

TOLERANCE = 0.04
"""How far, relative to what was measured, a held-out size may lie from the line through its neighbours."""


def coarse_grid(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … up to and always including `largest`."""
    doubling = itertools.takewhile(lambda size: size < largest, (1 << n for n in itertools.count()))
    return (*doubling, largest)


def held_out(low: int, high: int) -> int | None:
    """Return the size between two measured ones that tests the line through them; None if there is none."""
    if high - low < 2:
        return None
    middle = (low + high) // 2
    return middle if middle % 2 or middle + 1 >= high else middle + 1


def interpolate(known: Mapping[int, float], size: int) -> float:
    """Return the value at `size` on the lines through the known ones; `size` lies between the outermost."""
    if size in known:
        return known[size]
    sizes = sorted(known)
    place = bisect.bisect(sizes, size)
    low, high = sizes[place - 1], sizes[place]
    share = (size - low) / (high - low)
    return known[low] * (1 - share) + known[high] * share


class Search:
    """The batch sizes of one column: which are measured, and which intervals are still in doubt.

    Attributes:
        measured: every size that is measured.
        confirmed: those of them that were held out and found near the line.
    """

    def __init__(self, measured: Sequence[int], tolerance: float = TOLERANCE) -> None:
        self.measured = set(measured)
        self.confirmed: set[int] = set()
        self._open = {pair for pair in itertools.pairwise(sorted(measured)) if held_out(*pair)}
        self._tolerance = tolerance

    def checks(self) -> dict[int, tuple[int, int]]:
        """Return the held-out size of every interval in doubt, with the interval."""
        return {size: (low, high) for low, high in self._open if (size := held_out(low, high))}

    def settle(self, values: Mapping[int, float], errors: Mapping[int, float]) -> None:
        """Close or split every interval in doubt by what its held-out size was measured at.

        Args:
            values: what each size was measured at.
            errors: the standard error of each, relative to it. An interval is split only where its held-out
                size is further off than twice what these explain, too: more sizes are no remedy for noise.
        """
        checks = self.checks()
        self._open = set()
        for size, (low, high) in checks.items():
            line = interpolate({low: values[low], high: values[high]}, size)
            self.measured.add(size)
            noise = math.hypot(errors[size], max(errors[low], errors[high]))
            if abs(line - values[size]) > max(self._tolerance, 2 * noise) * values[size]:
                self._open |= {half for half in ((low, size), (size, high)) if held_out(*half)}
            else:
                self.confirmed.add(size)
