import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from mosel.solve.assign import Assignment, Options, Search, best, exact, greedy, keep_feasible, tight

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Queue = tuple[list[tuple[Ints, Floats]], Ints]

NO_CAP = 1 << 60


@st.composite
def queues(draw: st.DrawFn) -> Queue:
    """Up to five jobs with up to four options, ascending in both; tied gains and no slack are common."""
    jobs, spent = [], 0
    budgets = []
    for _ in range(draw(st.integers(0, 5))):
        points = draw(st.integers(1, 4))
        steps = draw(st.lists(st.integers(1, 6), min_size=points, max_size=points))
        rises = draw(st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0]), min_size=points, max_size=points))
        latency = np.cumsum(steps) - steps[0] + draw(st.integers(0, 4))
        jobs.append((latency.astype(np.int64), np.cumsum(rises)))
        spent += int(latency[0])
        budgets.append(spent + draw(st.integers(-1, 9)))
    order = np.sort(budgets) if draw(st.booleans()) else np.array(budgets)
    return jobs, order.astype(np.int64)


def brute_force(jobs: list[tuple[Ints, Floats]], budget: Ints) -> float | None:
    """The best total gain over every choice whose every prefix is within its budget."""
    gains = []
    for choice in itertools.product(*(range(len(latency)) for latency, _ in jobs)):
        work = np.cumsum([jobs[i][0][c] for i, c in enumerate(choice)])
        if np.all(work <= budget):
            gains.append(sum(float(jobs[i][1][c]) for i, c in enumerate(choice)))
    return max(gains, default=None)


def by_highs(jobs: list[tuple[Ints, Floats]], budget: Ints, whole: bool = True) -> float | None:
    """The best total gain by HiGHS, gap 0; None where it finds nothing feasible. Or the relaxation."""
    counts = [len(latency) for latency, _ in jobs]
    total, starts = sum(counts), np.cumsum([0, *counts])
    one, work = np.zeros((len(jobs), total)), np.zeros((len(jobs), total))
    for i, (latency, _) in enumerate(jobs):
        one[i, starts[i] : starts[i + 1]] = 1
        work[i:, starts[i] : starts[i + 1]] = latency
    rules = [LinearConstraint(one, 1, 1), LinearConstraint(work, -np.inf, budget.astype(float))]
    cost = -np.concatenate([gain for _, gain in jobs])
    which = np.full(total, int(whole))
    found = milp(cost, integrality=which, bounds=Bounds(0, 1), constraints=rules, options={"mip_rel_gap": 0})
    return -float(found.fun) if found.success else None


def assert_holds(found: Assignment, jobs: list[tuple[Ints, Floats]], budget: Ints) -> None:
    """Assert that the choice is within every budget and gains what it says, and no more than its bound."""
    work = np.cumsum([jobs[i][0][c] for i, c in enumerate(found.choice)])
    assert len(found.choice) == len(jobs)
    assert np.all(work <= budget)
    assert found.gain == pytest.approx(sum(float(jobs[i][1][c]) for i, c in enumerate(found.choice)))
    assert found.gain <= found.upper_bound + 1e-9
    assert 0 <= found.gap <= 1


@settings(max_examples=300, deadline=None)
@given(queues())
def test_exact_is_what_brute_force_finds(queue: Queue) -> None:
    """The best total under every prefix's budget, or None where not even the cheapest options fit."""
    jobs, budget = queue
    found, expected = exact(Options.of(jobs), budget), brute_force(jobs, budget)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert_holds(found, jobs, budget)
        assert found.gain == pytest.approx(expected, abs=1e-8)
        assert found.gap == 0


@settings(max_examples=300, deadline=None)
@given(queues())
def test_greedy_is_feasible_and_bracketed_by_its_bound(queue: Queue) -> None:
    """Greedy never gains more than the best, and the best never more than greedy's upper bound."""
    jobs, budget = queue
    found, expected = greedy(Options.of(jobs), budget), brute_force(jobs, budget)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert_holds(found, jobs, budget)
        assert found.gain <= expected + 1e-9 <= found.upper_bound + 1e-6


def realistic(jobs: int, seed: int, slack: float = 2.0) -> Queue:
    """A queue of frontiers with some bumps, in deadline order, of which the cheapest fit."""
    rng = np.random.default_rng(seed)
    found, budget, spent = [], [], 0
    for _ in range(jobs):
        points = int(rng.integers(1, 12))
        requests = int(rng.integers(1, 8))
        latency = np.cumsum(rng.integers(1, 40, points)) * requests
        gain = requests * np.sort(rng.uniform(0.6, 0.99, points))
        found.append((latency.astype(np.int64), gain))
        spent += int(latency[0])
        budget.append(int(spent * (1 + slack * rng.uniform(0, 1))))
    return found, np.maximum.accumulate(np.array(budget, np.int64))


@pytest.mark.parametrize("block", range(12))
def test_exact_agrees_with_highs_on_hundreds_of_queues(block: int) -> None:
    """On 25 queues a block, of 1 to 12 jobs and from no slack to plenty, the total is HiGHS's with no gap."""
    for seed in range(25 * block, 25 * block + 25):
        queue, budget = realistic(1 + seed % 12, seed, (0.0, 0.1, 0.3, 1.0, 3.0)[seed % 5])
        assert_best(queue, budget)


@pytest.mark.parametrize("slack", [0.1, 0.5, 2.0])
def test_exact_agrees_with_highs_on_longer_queues(slack: float) -> None:
    """25 and 40 jobs: the total is that of HiGHS with no gap."""
    for jobs in (25, 40):
        assert_best(*realistic(jobs, jobs, slack))


def assert_best(queue: list[tuple[Ints, Floats]], budget: Ints) -> None:
    """Assert that `exact` finds what HiGHS finds, to 1e-6, and says that it has no gap."""
    found, expected = exact(Options.of(queue), budget), by_highs(queue, budget)
    assert found is not None
    assert expected is not None
    assert_holds(found, queue, budget)
    assert found.gap == 0
    assert found.gain == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_bound_of_greedy_is_the_linear_programme() -> None:
    """The upper bound is what HiGHS finds when a job may be divided among its options."""
    for seed in range(20):
        queue, budget = realistic(2 + seed, seed, 0.1 + seed / 10)
        found = greedy(Options.of(queue), budget)
        assert found is not None
        assert found.upper_bound == pytest.approx(by_highs(queue, budget, whole=False), rel=1e-9)


def test_greedy_is_within_half_a_percent_on_average() -> None:
    """Over 60 queues of 5 to 60 jobs greedy falls short of the best by less than 0.5% on average."""
    short = []
    for seed in range(60):
        queue, budget = realistic(5 + seed, seed, 0.1 + seed / 30)
        near, whole = greedy(Options.of(queue), budget), exact(Options.of(queue), budget)
        assert near is not None
        assert whole is not None
        assert near.gain <= whole.gain + 1e-9 <= near.upper_bound + 1e-6
        short.append(1 - near.gain / whole.gain)
    assert np.mean(short) < 0.005


def test_beyond_the_work_cap_the_greedy_answer_stands_in() -> None:
    """`exact` gives up at its cap; `best` then returns greedy's answer, which says how far off it may be."""
    queue, budget = realistic(40, 3, 1.0)
    options = Options.of(queue)
    near, whole = greedy(options, budget), exact(options, budget)
    assert near is not None
    assert whole is not None
    assert near.gain < whole.gain  # else this queue would prove nothing
    assert exact(options, budget, work_cap=10) is None
    capped = best(options, budget, work_cap=10)
    assert capped is not None
    assert capped.gain == near.gain
    assert capped.gap > 0
    uncapped = best(options, budget)
    assert uncapped is not None
    assert uncapped.gain == whole.gain


def test_a_job_that_arrives_late_leaves_the_states_before_it_alone() -> None:
    """Forty jobs, then one behind them: only that one's states are computed, and the answer is the best."""
    queue, budget = realistic(40, 5, 0.5)
    search = Search()
    search.best(Options.of(queue), budget, NO_CAP)
    assert search.reused == 0
    before = search._states._starts[:42].copy()
    queue.append((np.array([9, 30, 50]), np.array([1.0, 1.4, 1.6])))
    budget = np.append(budget, budget[-1] + 30)
    found = search.best(Options.of(queue), budget, NO_CAP)
    assert search.reused == 40
    assert np.array_equal(search._states._starts[:42], before)
    fresh = Search()
    expected = fresh.best(Options.of(queue), budget, NO_CAP)
    assert found is not None
    assert expected is not None
    assert found.gain == pytest.approx(expected.gain, abs=1e-9)
    assert_holds(found, queue, budget)
    assert search._states.work < fresh._states.work / 5


def test_states_are_dropped_where_they_no_longer_hold() -> None:
    """A tighter budget, other options or jobs in front: only what stands before them is taken over."""
    queue, budget = realistic(40, 5, 0.5)
    options = Options.of(queue)
    search = Search()
    search.best(options, budget, NO_CAP)
    search.best(options, budget, NO_CAP)
    assert search.reused == 40
    tighter = budget.copy()
    tighter[30:] -= 1
    search.best(options, tighter, NO_CAP)
    assert search.reused <= 30
    other = [*queue[:10], (queue[10][0], queue[10][1] + 0.001), *queue[11:]]
    search.best(Options.of(other), tighter, NO_CAP)
    assert search.reused <= 10
    search.best(Options.of(queue[1:]), tighter[1:], NO_CAP)
    assert search.reused == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_search_that_remembers_finds_what_a_fresh_one_finds(data: st.DataObject) -> None:
    """Whatever comes, goes and changes between searches, the total is the best and proven so."""
    search = Search()
    seed = data.draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    queue, budget = realistic(12, seed, data.draw(st.sampled_from([0.1, 0.5, 2.0])))
    spare = realistic(12, seed + 1)[0]
    for _ in range(6):
        what = data.draw(st.sampled_from(["append", "insert", "remove", "tighten", "cap"]))
        at = int(rng.integers(len(queue))) if what != "append" else len(queue)
        if what in ("append", "insert") and spare:
            queue.insert(at, spare.pop())
            more = int(queue[at][0][0]) + int(rng.integers(0, 60))
            before = budget[at - 1] if at else 0
            budget = np.concatenate([budget[:at], [before + more], budget[at:] + more])
        elif what == "remove" and len(queue) > 1:
            del queue[at]
            budget = np.delete(budget, at)
        elif what == "tighten":
            budget = np.maximum(budget - int(rng.integers(0, 9)), 0)
        found = search.best(Options.of(queue), budget, 40 if what == "cap" else NO_CAP)
        expected = exact(Options.of(queue), budget)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert_holds(found, queue, budget)
            assert found.gain <= expected.gain + 1e-8 <= found.upper_bound + 2e-8
            assert what == "cap" or found.gain == pytest.approx(expected.gain, abs=1e-8)


def test_an_empty_queue_and_an_impossible_one() -> None:
    """No jobs are worth nothing, exactly; jobs that do not fit at their cheapest have no assignment."""
    empty = np.empty(0, np.int64)
    for solve in (best, exact, greedy):
        nothing = solve(Options.of([]), empty)
        assert nothing is not None
        assert (nothing.gain, nothing.gap, len(nothing.choice)) == (0.0, 0.0, 0)
        assert solve(Options.of([(np.array([5]), np.array([1.0]))]), np.array([4])) is None


def test_jobs_with_one_option_take_it() -> None:
    """Nothing to choose: the total is fixed, and proven so."""
    jobs = [(np.array([3]), np.array([0.5]))] * 4
    found = best(Options.of(jobs), np.array([3, 6, 9, 12]))
    assert found is not None
    assert found.gain == found.upper_bound == pytest.approx(2.0)


def test_budgets_reach_as_far_as_later_ones_allow() -> None:
    """A job due later with less room holds those before it."""
    assert tight(np.array([9, 5, 7, 6])).tolist() == [5, 5, 6, 6]
    jobs = [(np.array([1, 8]), np.array([0.1, 0.9])), (np.array([1, 2]), np.array([0.1, 0.2]))]
    found = exact(Options.of(jobs), np.array([100, 3]))
    assert found is not None
    assert found.choice.tolist() == [0, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-2, 25)), max_size=8))
def test_the_drop_rule_leaves_out_in_order_what_does_not_fit(pairs: list[tuple[int, int]]) -> None:
    """Each job is kept exactly if it fits behind those kept before it, all at their fastest (§4.3)."""
    spent, expected = 0, []
    for least, budget in pairs:
        expected.append(spent + least <= budget)
        spent += least if expected[-1] else 0
    least_ns, budget_ns = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    assert keep_feasible(least_ns, budget_ns).tolist() == expected


def test_the_example_of_figure_2_is_worth_2_84() -> None:
    """Jobs 2 and 3 of the paper's Fig. 2 at time 20, due at 140 and 150: the best total accuracy is 2.84.

    Options are the sums of two requests in both (60, 0.80), video (30, 0.70) and audio (20, 0.67).
    """
    second = (np.array([80, 90, 120]), np.array([1.47, 1.50, 1.60]))
    third = (np.array([40, 50, 60, 80, 90, 120]), np.array([1.34, 1.37, 1.40, 1.47, 1.50, 1.60]))
    budget = np.array([120, 130])
    found = exact(Options.of([second, third]), budget)
    assert found is not None
    assert found.gain == pytest.approx(2.84)
    assert brute_force([second, third], budget) == pytest.approx(2.84)
