"""Which strategies of a frontier reach what a job needs (§5.1)."""

from bisect import bisect_left

from mosel.solve.cover import LAST_SHORTFALL, SHORTFALL, Frontier


def cheapest_reaching(frontier: Frontier, needed: float) -> int:
    """Return the index of the first point whose accuracy sum is at least `needed`; its length if none is.

    The last point may fall short by a little more than others, so that what is left of a strategy that just
    reaches what is needed still does when its sum is rounded another way.
    """
    levels = frontier.levels
    index = bisect_left(levels, needed - SHORTFALL) if needed == needed else len(levels)  # not a number
    if index == len(levels) and index and levels[-1] >= needed - LAST_SHORTFALL:
        return index - 1
    return index
