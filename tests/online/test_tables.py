import numpy as np
import pytest

from mosel.core.arrays import UNAVAILABLE
from mosel.online.estimator import WINDOW, Estimator
from mosel.online.tables import FAR, FAR_PAUSE_NS, PAUSE_NS, REBUILD_AT, ModelTable, Strategy, point
from tests.online.driver import MS, profile


def learnt(ratio: float, mode: str = "audio", overhead_ns: int = 0) -> Estimator:
    """An estimator that saw a mode run at this ratio."""
    estimates = Estimator()
    observe(estimates, ratio, mode, overhead_ns)
    return estimates


def observe(estimates: Estimator, ratio: float, mode: str = "audio", overhead_ns: int = 0) -> None:
    """Let an estimator see a mode run at this ratio until it believes it."""
    for _ in range(WINDOW):
        took_ns = round(20 * MS * ratio)
        estimates.observe("m", mode, 20 * MS, took_ns, took_ns + overhead_ns, 20 * MS, 0)


def test_masks_and_usable_modes() -> None:
    """A job can run in the modes whose modalities it has; none given means all."""
    table = ModelTable(profile())
    assert [table.modes[m] for m in table.usable(table.mask_of(()))] == ["audio", "video", "audio+video"]
    assert [table.modes[m] for m in table.usable(table.mask_of(("video",)))] == ["video"]
    assert table.usable(0) == []


def test_frontiers_of_jobs_that_lack_modalities_use_only_their_modes() -> None:
    """Without video the only strategy of one request is audio."""
    table = ModelTable(profile())
    found = table.frontier(0, table.mask_of(("audio",)), 1)
    assert found.batches == (((0, 1),),)
    assert len(table.frontier(0, 0, 1)) == len(table.frontier(0, 0, 99)) == 0


def test_a_job_larger_than_any_batch_has_every_request_in_every_strategy() -> None:
    """Its frontier is built from largest batches' worth and a rest, whatever its size is asked in."""
    for order in ((5, 6, 13, 30), (30, 13, 6, 5)):
        table = ModelTable(profile())
        for requests in order:
            found = table.frontier(0, table.every_mask, requests)
            assert np.all(np.diff(found.latency_ns) > 0)
            assert all(sum(size for _, size in batches) == requests for batches in found.batches)
            assert found.latency_ns[0] == requests * 20 * MS


def test_the_full_mode_is_that_of_all_the_jobs_modalities() -> None:
    """Unless it misses what is needed, or is not profiled; of several precisions the most accurate."""
    table = ModelTable(profile({"a": (0.9, 0, 1), "b": (0.5, 0, 1), "a+b": (0.7, 0, 2)}))
    every = table.every_mask
    assert table.modes[table.full_mode(every, 0.7 * 3, 3)] == "a+b"
    assert table.modes[table.full_mode(every, 0.7 * 3 + 1e-8, 3)] == "a"
    assert table.modes[table.full_mode(table.mask_of(("b",)), 0.1, 1)] == "b"
    without = ModelTable(profile({"a": (0.9, 0, 1), "b": (0.5, 0, 1)}))
    assert without.modes[without.full_mode(without.every_mask, 0.1, 1)] == "a"


def test_the_longest_batch_of_each_strategy() -> None:
    """As long as its slowest batch, and anew once estimates moved."""
    table = ModelTable(profile(sizes=(1, 2)))
    found = table.frontier(0, table.every_mask, 3)
    longest = table.covers.longest_ns(0, table.every_mask, 3)
    for batches, longest_ns in zip(found.batches, longest, strict=True):
        assert longest_ns == max(table.latency_ns[m, 0, size] for m, size in batches)
    assert table.follow(learnt(2.0), 0)
    assert table.covers.longest_ns(0, table.every_mask, 3)[0] == 2 * longest[0]


def test_tables_follow_estimates_that_moved_enough() -> None:
    """Small moves change nothing; larger ones scale every latency and rebuild strategies."""
    table = ModelTable(profile())
    for requests in (1, 9):
        table.frontier(0, table.every_mask, requests)
    assert not table.follow(learnt(1 + 0.9 * REBUILD_AT), 0)
    assert table.latency_ns is table.profiled_ns
    assert table.follow(learnt(3.0, overhead_ns=MS), 0)
    assert table.latency_ns[0, 0, 1] == 61 * MS
    assert table.corrected_ns("audio", 20 * MS) == 61 * MS
    assert table.latency_ns[0, 0, 0] == UNAVAILABLE
    assert table.frontier(0, table.every_mask, 1).latency_ns[0] == 61 * MS
    assert table.frontier(0, table.every_mask, 9).latency_ns[0] == (9 * 60 + 3) * MS
    assert not table.follow(learnt(3.0, overhead_ns=MS), 0)


def test_buckets_end_where_the_profile_says() -> None:
    """A length at a limit belongs below it; none is the longest; beyond the last is an error."""
    table = ModelTable(profile(buckets=(1.0, 5.0)))
    assert [table.bucket_of(length) for length in (0.5, 1.0, 1.1, 5.0, None)] == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"length 5.1 is above the profile's limit 5.0"):
        table.bucket_of(5.1)


def test_single_mode_strategies_take_the_fastest_batches() -> None:
    """Five requests with batches of up to two at a fixed cost each: two, two and one."""
    table = ModelTable(profile({"a": (0.5, 10, 1)}, sizes=(1, 2)))
    found = table.single_mode(0, 0, 5)
    assert sorted(size for _, size in found.batches) == [1, 2, 2]
    assert (found.latency_ns, found.accuracy, found.requests) == (35 * MS, 2.5, 5)
    assert table.single_mode(0, 0, 0) == Strategy((), 0, 0.0)


def test_batch_limits_hold_per_mode() -> None:
    """A mode that was profiled up to two has no batch of four, in no strategy."""
    table = ModelTable(profile({"a": (0.5, 9, 1), "b": (0.9, 9, 2)}, batch_limit={"b": 2}))
    assert table.batch_sizes(1, 0).tolist() == [1, 2]
    for index in range(len(table.frontier(0, table.every_mask, 4))):
        strategy = point(table.frontier(0, table.every_mask, 4), index)
        assert all(size <= 2 for mode, size in strategy.batches if mode == 1)


def test_estimates_that_moved_a_little_are_taken_over_at_intervals() -> None:
    """They move back and forth; one that moved far is taken over sooner."""
    table, estimates = ModelTable(profile()), learnt(1.1)
    assert table.follow(estimates, 0)
    observe(estimates, 1.2)
    assert not table.follow(estimates, PAUSE_NS - 1)
    assert table.is_behind(estimates)
    assert table.follow(estimates, PAUSE_NS)
    assert not table.is_behind(estimates)
    observe(estimates, 1.2 * (1 + 1.1 * FAR))
    assert not table.follow(estimates, PAUSE_NS + FAR_PAUSE_NS - 1)
    assert table.follow(estimates, PAUSE_NS + FAR_PAUSE_NS)
