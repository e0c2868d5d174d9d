"""The programmes of §5 for HiGHS: what a careful engineer would use in GEKKO's place."""

import numpy as np
from _rivals import LIMIT_S, Floats, Ints
from highspy import Highs, HighsLp, HighsModelStatus, HighsVarType, ObjSense
from scipy.sparse import coo_array, csc_array

from mosel.solve.assign import Options


def queue(options: Options, budget_ns: Ints) -> float | None:
    """Return the total of the best assignment, without a gap; times are in milliseconds in the model."""
    jobs, count = options.jobs, len(options.gain)
    owner = np.repeat(np.arange(jobs), np.diff(options.offsets))
    columns = np.arange(count)
    later = np.arange(jobs - 1)
    rows = [owner, jobs + owner, jobs + np.arange(jobs), jobs + 1 + later]
    at = [columns, columns, count + np.arange(jobs), count + later]
    values = [np.ones(count), options.latency_ns / 1e6, -np.ones(jobs), np.ones(jobs - 1)]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(at))
    matrix = csc_array(coo_array(entries, shape=(2 * jobs, count + jobs)))
    sides = np.concatenate([np.ones(jobs), np.zeros(jobs)])
    upper = np.concatenate([np.ones(count), budget_ns / 1e6])
    whole = [True] * count + [False] * jobs
    cost = np.concatenate([options.gain, np.zeros(jobs)])
    return _by_highs(cost, upper, matrix, sides, sides, whole, ObjSense.kMaximize)


def cell(latency_ns: Ints, accuracy: Floats, requests: int, needed: float) -> float | None:
    """Return the least latency in milliseconds of so many requests with this accuracy sum (§5.1)."""
    modes, sizes = len(accuracy), latency_ns.shape[1] - 1
    held = np.tile(np.arange(1, sizes + 1), modes)
    matrix = csc_array(np.vstack([held, np.repeat(accuracy, sizes) * held]))
    upper = np.full(len(held), float(requests))
    low, high = np.array([requests, needed]), np.array([requests, np.inf])
    whole = [True] * len(held)
    return _by_highs(latency_ns[:, 1:].ravel() / 1e6, upper, matrix, low, high, whole, ObjSense.kMinimize)


def _by_highs(
    cost: Floats,
    upper: Floats,
    matrix: csc_array,
    low: Floats,
    high: Floats,
    whole: list[bool],
    sense: ObjSense,
) -> float | None:
    programme = HighsLp()
    programme.num_col_, programme.num_row_ = len(cost), len(low)
    programme.sense_ = sense
    programme.col_cost_, programme.col_lower_, programme.col_upper_ = cost, np.zeros(len(cost)), upper
    programme.row_lower_, programme.row_upper_ = low, high
    programme.a_matrix_.start_, programme.a_matrix_.index_ = matrix.indptr, matrix.indices
    programme.a_matrix_.value_ = matrix.data
    kinds = {True: HighsVarType.kInteger, False: HighsVarType.kContinuous}
    programme.integrality_ = [kinds[one] for one in whole]
    solver = Highs()
    solver.silent()
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("time_limit", LIMIT_S)
    solver.passModel(programme)
    solver.run()
    solved = solver.getModelStatus() == HighsModelStatus.kOptimal
    return float(solver.getInfo().objective_function_value) if solved else None
