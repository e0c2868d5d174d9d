from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from mosel.core.arrays import accuracies, latency_table
from mosel.core.clock import to_s
from mosel.core.tables import Profile, ProfileFile, check_plan, encode_plan
from mosel.offline.planner import plan
from mosel.solve.cover import frontiers
from tests.online.driver import profile

FIG_2 = profile(sizes=(1, 2))


@dataclass(frozen=True)
class Found:
    """A plan's frontier of one key, as plain tuples."""

    points: list[tuple[float, float]]
    batches: list[tuple[tuple[str, int], ...]]


def planned(source: Profile, key: str) -> Found:
    """Plan a profile and read one frontier."""
    points = plan(ProfileFile(source, "0" * 64)).frontiers[key]
    return Found([(p.accuracy, p.latency_s) for p in points], [p.batches for p in points])


def test_the_strategies_of_figure_2() -> None:
    """Two requests in both, video or audio: the six of the paper's Fig. 2, of which none beats another."""
    found = planned(FIG_2, "2")
    expected = [(0.67, 0.04), (0.685, 0.05), (0.70, 0.06), (0.735, 0.08), (0.75, 0.09), (0.80, 0.12)]
    assert np.allclose(found.points, expected, rtol=0, atol=1e-12)
    assert found.batches[1] == (("video", 1), ("audio", 1))


def test_a_plan_has_every_job_size_up_to_the_largest_batch() -> None:
    """And names its model, the profile's file and nothing that its own checks refuse."""
    found = plan(ProfileFile(profile(sizes=(1, 2, 4)), "ab" * 32))
    assert list(found.frontiers) == ["1", "2", "3", "4"]
    assert (found.model, found.profile_sha256) == ("m", "ab" * 32)
    check_plan(found, "here")


def test_length_buckets_are_planned_apart() -> None:
    """Keys are size@bucket; the second bucket takes twice as long here."""
    source = profile(sizes=(1, 2), buckets=(1.0, 2.0))
    found = plan(ProfileFile(source, ""))
    assert list(found.frontiers) == ["1@0", "2@0", "1@1", "2@1"]
    short, long = planned(source, "2@0"), planned(source, "2@1")
    assert [latency for _, latency in long.points] == pytest.approx([2 * t for _, t in short.points])


def test_points_are_those_of_the_solver_per_request() -> None:
    """Accuracies are means over the job's requests; latencies are the solver's nanoseconds in seconds."""
    source = profile({"a": (0.5, 3, 1), "b": (0.9, 4, 3)}, sizes=(1, 2, 4))
    solved = frontiers(latency_table(source)[:, 0], accuracies(source), 4)[3]
    expected = [(a / 3, to_s(int(t))) for a, t in zip(solved.accuracy, solved.latency_ns, strict=True)]
    assert planned(source, "3").points == expected


def test_a_plan_reads_back_as_it_was_written() -> None:
    """Floats are written unrounded."""
    found = plan(ProfileFile(profile(scale=1 / 3), "0" * 64))
    assert msgspec.json.decode(encode_plan(found), type=type(found)) == found
