from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mosel.models.base import Tensor
from mosel.runtime.calls import Call
from mosel.runtime.replays import ROUNDS, Batch, Recording, Replays

IN, OUT = Tensor("left", "FP32", (1,)), Tensor("sum", "FP32", (1,))
LAUNCHED_NS, REPLAYED_NS = 1_000, 400


class Recorded:
    """A recording that does what the call did, but for `error`; it takes batches of up to `longest`."""

    def __init__(self, recorder: "FakeRecorder", call: Call) -> None:
        self._recorder, self._call = recorder, call

    def holds(self, batch: Batch) -> bool:
        """Say whether it is not too long."""
        return int(batch["left"].shape[1]) <= self._recorder.longest

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Run."""
        self._recorder.clock_ns += self._recorder.replayed_ns
        self._recorder.replays += 1
        return {"sum": batch["left"] * 2 + self._recorder.error}


@dataclass
class FakeRecorder:
    """A device whose clock moves as it is told to."""

    replayed_ns: int = REPLAYED_NS
    error: float = 0.0
    refuses: bool = False
    longest: int = 1
    clock_ns: int = 0
    replays: int = 0
    recovered: int = 0
    recorded: list[int] = field(default_factory=list)

    def record(self, call: Call, batch: Batch) -> Recording:
        """Record, unless it refuses."""
        self.recorded.append(len(batch["left"]))
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        return Recorded(self, call)

    def took_ns(self, work: Callable[[], object]) -> int:
        """Return by how much the clock moved."""
        before_ns = self.clock_ns
        work()
        return self.clock_ns - before_ns

    def agree(self, one: Batch, other: Batch) -> bool:
        """Compare."""
        return bool(np.allclose(one["sum"], other["sum"]))

    def recover(self) -> None:
        """Count."""
        self.recovered += 1


def doubling(recorder: FakeRecorder) -> Call:
    """A model that doubles and takes `LAUNCHED_NS` when it is launched."""

    def function(left: Any) -> Any:
        recorder.clock_ns += LAUNCHED_NS
        return left * 2

    return Call(function, (IN,), (OUT,), "model 'doubling' in mode left", 2)


def batch(requests: int = 2, length: int = 1) -> Mapping[str, Any]:
    """Ones."""
    return {"left": np.ones((requests, length), np.float32)}


def test_the_quicker_way_is_settled_once_for_each_batch_size() -> None:
    """A recording that is quicker runs such batches from then on; other sizes are launched until settled."""
    recorder = FakeRecorder()
    replays, call = Replays(recorder), doubling(recorder)
    assert replays.settle(call, batch(2))
    assert replays.settle(call, batch(2))
    assert recorder.recorded == [2]
    assert recorder.replays == 1 + ROUNDS
    assert replays.run(call, batch(2))["sum"].tolist() == [[2], [2]]
    assert recorder.replays == 2 + ROUNDS
    assert replays.run(call, batch(3))["sum"].tolist() == [[2]] * 3
    assert recorder.replays == 2 + ROUNDS


@pytest.mark.parametrize("replayed_ns", [LAUNCHED_NS, LAUNCHED_NS - 20])
def test_a_recording_that_is_hardly_quicker_is_not_kept(replayed_ns: int) -> None:
    """It would hold memory for nothing."""
    recorder = FakeRecorder(replayed_ns=replayed_ns)
    replays, call = Replays(recorder), doubling(recorder)
    assert not replays.settle(call, batch())
    before = recorder.replays
    replays.run(call, batch())
    assert recorder.replays == before


def test_what_answers_otherwise_is_launched(caplog: pytest.LogCaptureFixture) -> None:
    """A model that looks at more than its inputs is not replayed, however quick, and it is said."""
    recorder = FakeRecorder(error=1.0)
    replays, call = Replays(recorder), doubling(recorder)
    assert not replays.settle(call, batch())
    assert replays.run(call, batch())["sum"].tolist() == [[2], [2]]
    assert "answers otherwise" in caplog.text


def test_what_cannot_be_recorded_is_launched(caplog: pytest.LogCaptureFixture) -> None:
    """The device recovers, the reason is logged, and it is not tried again."""
    recorder = FakeRecorder(refuses=True)
    replays, call = Replays(recorder), doubling(recorder)
    assert not replays.settle(call, batch())
    assert not replays.settle(call, batch())
    assert (len(recorder.recorded), recorder.recovered) == (1, 1)
    assert replays.run(call, batch())["sum"].tolist() == [[2], [2]]
    assert "cannot be recorded: operation not permitted" in caplog.text


def test_a_batch_that_its_recording_does_not_hold_is_launched() -> None:
    """As one that would have to be filled up too far."""
    recorder = FakeRecorder(longest=2)
    replays, call = Replays(recorder), doubling(recorder)
    replays.settle(call, batch(2))
    before = recorder.replays
    replays.run(call, batch(2, length=3))
    assert recorder.replays == before
    replays.run(call, batch(2, length=2))
    assert recorder.replays == before + 1


def test_modes_and_functions_have_recordings_of_their_own() -> None:
    """What was recorded of one function, or with one modality, runs for no other."""
    recorder = FakeRecorder()
    replays, call, other = Replays(recorder), doubling(recorder), doubling(recorder)
    replays.settle(call, batch())
    before = recorder.replays
    replays.run(other, batch())
    assert recorder.replays == before
