"""The programme of §5.2 for CP-SAT, with whole numbers throughout."""

import numpy as np
from _rivals import LIMIT_S, Ints
from ortools.sat.python import cp_model

from mosel.solve.assign import Options

FINENESS = 1_000_000
"""Gains are counted in steps of one over this."""


def queue(options: Options, budget_ns: Ints) -> float | None:
    """Return the total of the best assignment."""
    model = cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in range(len(options.gain))]
    before: cp_model.IntVar | int = 0
    latency = options.latency_ns.tolist()
    for job, budget in enumerate(budget_ns.tolist()):
        own = range(options.offsets[job], options.offsets[job + 1])
        model.add_exactly_one([taken[at] for at in own])
        work = cp_model.LinearExpr.weighted_sum([taken[at] for at in own], [latency[at] for at in own])
        after = model.new_int_var(0, budget, "")
        model.add(after == before + work)
        before = after
    gains = np.rint(options.gain * FINENESS).astype(np.int64).tolist()
    model.maximize(cp_model.LinearExpr.weighted_sum(taken, gains))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = LIMIT_S
    solved = solver.solve(model) == cp_model.OPTIMAL
    return solver.objective_value / FINENESS if solved else None
