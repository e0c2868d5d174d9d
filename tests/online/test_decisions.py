from mosel.online.decisions import WINDOW, Decisions, DecisionTimes


def test_nothing_taken_down_is_all_zeros() -> None:
    """Before the first decision there is nothing to tell."""
    assert DecisionTimes().summary() == Decisions()


def test_the_summary_is_of_the_recent_ones_and_counts_all() -> None:
    """The count is of all decisions; an old outlier leaves the other figures once it is far enough back."""
    times = DecisionTimes()
    times.add(10**9)
    for _ in range(WINDOW):
        times.add(2000)
    assert times.summary() == Decisions(WINDOW + 1, 2.0, 2.0, 2.0, 2.0)
