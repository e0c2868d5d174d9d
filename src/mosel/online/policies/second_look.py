"""A second look at a batch that would make a job late: with slack, no job is given up for a fuller batch.

`joint` weighs a job that a batch makes late against the time that a fuller batch saves. That is right where
time is short. With cascades it seldom is, and a full batch of unsure requests is nearly always at hand: jobs
with one escalation to come would wait beside it until it is too late for them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mosel.online.policies.base import View
from mosel.solve.joint import Choice, Queue

LEAST_SLACK = 0.5
"""How much of their time workers have to have left, if nothing ran but the cheapest, for a second look."""

URGENT = 1000.0
"""How many times as much a job is worth then that the first choice would make late."""

ALL = 1e9
"""A share of the time that keeps nothing back, the reserve for imperfect batches included."""

Choose = Callable[[Queue], Choice]


def second_look(view: View, queue: Queue, first: Choice, slack: float, choose: Choose) -> Choice:
    """Return the choice, or another if that one makes accepted jobs late and there is slack.

    Args:
        view: what was decided on.
        queue: what the first choice was made of.
        first: the choice.
        slack: how much of their time workers would have left if nothing ran but the cheapest, from 0 to 1.
        choose: chooses again, with no regard for the time that fuller batches save.
    """
    late = _made_late(view, first)
    if slack < LEAST_SLACK or not late.any():
        return first
    worth, share = queue.worth.copy(), queue.share.copy()
    worth[late] *= URGENT
    share[late] = ALL  # no time is kept back from what was accepted before
    other = choose(queue._replace(worth=worth, share=share))
    still = _made_late(view, other)
    return other if len(other.rows) and worth[still].sum() < worth[late].sum() else first


def _made_late(view: View, chosen: Choice) -> NDArray[np.bool_]:
    """Which accepted jobs could be served on their own now, but not behind this batch."""
    if not len(chosen.rows) or not view.amortised.cascades:
        return np.zeros(len(view.queue), np.bool_)
    latest_ns = view.queue.ints("latest_ns") - view.margin_ns
    needs_work = view.amortised.menu.work_ns[view.queue.ints("low")] > 0
    late = chosen.accepted & needs_work & (view.start_ns <= latest_ns) & (latest_ns < _next_ns(view, chosen))
    whole = chosen.counts == view.queue.ints("waiting")[chosen.rows]
    late[chosen.rows[whole]] = False
    return late


def _next_ns(view: View, chosen: Choice) -> int:
    """When a worker can start another batch behind this one."""
    table, column, bucket = view.amortised.owner(chosen.kind)
    cascade = table.cascade(column)
    mode = column if cascade is None else cascade.first
    end_ns = view.start_ns + int(table.latency_ns[mode, bucket, chosen.counts.sum()])
    others_ns = view.free_ns[view.free_ns != view.start_ns]
    alike = np.count_nonzero(view.free_ns == view.start_ns)
    return view.start_ns if alike > 1 else min(end_ns, int(others_ns.min(initial=end_ns)))
