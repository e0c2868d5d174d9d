"""The programmes of §5 for GEKKO as the paper uses it: with APOPT, on this machine, by default tolerances."""

from _rivals import LIMIT_S, Floats, Ints
from gekko import GEKKO

from mosel.solve.assign import Options

APOPT = 1


def queue(options: Options, budget_ns: Ints) -> float | None:
    """Return the total of the assignment that APOPT settles for; times are in milliseconds in the model."""
    model = _gekko()
    gain, latency = options.gain.tolist(), (options.latency_ns / 1e6).tolist()
    taken = [model.Var(value=0, lb=0, ub=1, integer=True) for _ in gain]
    before = 0
    for job, budget in enumerate((budget_ns / 1e6).tolist()):
        own = range(options.offsets[job], options.offsets[job + 1])
        after = model.Var(value=0, lb=0, ub=budget)
        model.Equation(sum(taken[at] for at in own) == 1)
        model.Equation(after == before + sum(latency[at] * taken[at] for at in own))
        model.Maximize(sum(gain[at] * taken[at] for at in own))
        before = after
    if not _solved(model):
        return None
    return float(sum(worth * taken[at].value[0] for at, worth in enumerate(gain)))


def cell(latency_ns: Ints, accuracy: Floats, requests: int, needed: float) -> float | None:
    """Return the latency in milliseconds that APOPT settles for, of so many requests with this accuracy sum."""
    model = _gekko()
    cells = [(mode, size) for mode in range(len(accuracy)) for size in range(1, latency_ns.shape[1])]
    counts = [model.Var(value=0, lb=0, ub=requests // size, integer=True) for _, size in cells]
    pairs = list(zip(cells, counts, strict=True))
    held, gained = model.Var(lb=requests, ub=requests), model.Var(lb=needed)
    model.Equation(held == model.sum([size * count for (_, size), count in pairs]))
    model.Equation(gained == model.sum([float(accuracy[mode]) * size * count for (mode, size), count in pairs]))
    costs = [float(latency_ns[cell]) / 1e6 for cell in cells]
    model.Minimize(model.sum([cost * count for cost, count in zip(costs, counts, strict=True)]))
    if not _solved(model):
        return None
    return float(sum(cost * count.value[0] for cost, count in zip(costs, counts, strict=True)))


def _gekko() -> GEKKO:
    model = GEKKO(remote=False)
    model.options.SOLVER = APOPT
    model.options.MAX_TIME = LIMIT_S
    return model


def _solved(model: GEKKO) -> bool:
    """Solve and clean up. GEKKO raises a bare Exception where no solution is found."""
    try:
        model.solve(disp=False)
    except Exception as error:
        if "Solution Not Found" not in str(error) and "Time Limit" not in str(error):
            raise
        return False
    finally:
        model.cleanup()
    return True
