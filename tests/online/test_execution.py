import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.clock import monotonic_ns
from mosel.core.errors import ExecutionError, ModelError
from mosel.models.base import Modality, Model, Tensor
from mosel.online.execution import DETAIL_LIMIT, Execution, one_line
from mosel.online.tasks import Result, Task
from mosel.online.wire import ServedMode, Start, Undone, WorkerModel
from mosel.runtime.calls import Call, Ran, Staged
from mosel.runtime.on_host import NumpyBackend

Array = NDArray[Any]


def half(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Halve; negative numbers are corrupt."""
    if (arrays["raw"] < 0).any():
        raise ValueError("negative\nnumbers")
    return {"number": arrays["raw"] / 2}


class Recording:
    """A batch function that adds what it gets, remembers the shapes, and has memory for `most` requests."""

    most = 1 << 30

    def __init__(self) -> None:
        self.shapes: list[dict[str, tuple[int, ...]]] = []

    def __call__(self, **tensors: Array) -> Array:
        """Add up; raise on 13."""
        self.shapes.append({name: array.shape for name, array in tensors.items()})
        total: Array = np.sum(list(tensors.values()), axis=0)
        if len(total) > self.most:
            raise MemoryError(f"{len(total)} requests")
        if (total == 13).any():
            raise ValueError("unlucky")
        return total


@pytest.fixture
def function() -> Recording:
    """Return the batch function of the model under test."""
    return Recording()


@pytest.fixture
def execution(function: Recording, monkeypatch: pytest.MonkeyPatch) -> Iterator[Execution]:
    """Return an execution of a model with one prepared and one plain modality."""
    module = ModuleType("model_under_test")
    one = (1,)
    module.model = Model(  # type: ignore[attr-defined]
        name="m",
        modalities=(
            Modality("raw", (Tensor("raw", "FP32", one),), half, (Tensor("number", "FP32", one),)),
            Modality("plain", (Tensor("plain", "FP32", one),)),
        ),
        outputs=(Tensor("sum", "FP32", one),),
        load=lambda _device, _precision: function,
        framework="numpy",
    )
    monkeypatch.setitem(sys.modules, "model_under_test", module)
    modes = tuple(
        ServedMode(modalities, "float32", (1, 2, 4)) for modalities in (("raw",), ("plain",), ("raw", "plain"))
    )
    start = Start(0, "cpu", 1, (0,), (0,), (WorkerModel("model_under_test:model", "m", modes),))
    found = Execution(start)
    yield found
    found.close()


def column(*numbers: float) -> Array:
    """Return an array of shape (requests, 1)."""
    return np.array(numbers, np.float32)[:, None]


def run(execution: Execution, modalities: tuple[str, ...], **tensors: list[Array]) -> Result:
    """Prepare and run a batch."""
    return execution.run(execution.prepare(Task("m", modalities, "float32", tensors)))


def sums(result: Result) -> list[float]:
    """Return the outputs as numbers."""
    assert result.outputs is not None
    return [float(number) for number in result.outputs["sum"].ravel()]


def test_only_the_chosen_modalities_are_prepared_and_run(execution: Execution, function: Recording) -> None:
    """In the mode `plain` nothing is asked of the corrupt modality beside it."""
    result = run(execution, ("plain",), plain=[column(3, 4)], raw=[column(-1, -1)])
    assert sums(result) == [3, 4]
    assert function.shapes == [{"plain": (2, 1)}]


def test_prepared_parts_run_together(execution: Execution) -> None:
    """Each part is prepared by itself, all run in one batch, in order."""
    result = run(execution, ("raw", "plain"), raw=[column(2), column(4, 6)], plain=[column(10), column(20, 30)])
    assert sums(result) == [11, 22, 33]
    assert result.took_ns > 0


def test_a_corrupt_part_is_undone_and_the_others_run(execution: Execution, function: Recording) -> None:
    """The part's rows are left out of every tensor; the result says which part, which modality and why."""
    parts = [column(2), column(-4, 6), column(8)]
    result = run(execution, ("raw", "plain"), raw=parts, plain=[column(1), column(1, 1), column(1)])
    assert sums(result) == [2, 5]
    [undone] = result.undone
    assert (undone.part, undone.modality) == (1, "raw")
    assert "ValueError: negative" in undone.detail
    assert function.shapes == [{"number": (2, 1), "plain": (2, 1)}]


def test_a_batch_of_corrupt_parts_only_does_not_run(execution: Execution, function: Recording) -> None:
    """Nothing reaches the model; every part is undone."""
    result = run(execution, ("raw",), raw=[column(-1), column(-2)])
    assert [undone.part for undone in result.undone] == [0, 1]
    assert all(isinstance(undone, Undone) for undone in result.undone)
    assert result.outputs == {}
    assert not function.shapes


def test_a_model_that_raises_fails_its_batch_alone(execution: Execution) -> None:
    """The failure is one line that names the error; the next batch runs."""
    failure = run(execution, ("plain",), plain=[column(13)]).failure
    assert failure is not None
    assert "ValueError: unlucky" in failure
    assert sums(run(execution, ("plain",), plain=[column(1)])) == [1]


def test_every_mode_is_warmed_up_at_every_size(execution: Execution, function: Recording) -> None:
    """Where it is cheap all batch sizes run once, the smallest and largest of all modes first."""
    execution.warm_up()
    sizes = [next(iter(shapes.values()))[0] for shapes in function.shapes]
    assert sizes == [1, 4, 1, 4, 1, 4, 2, 2, 2]
    assert [set(shapes) for shapes in function.shapes[::2][:3]] == [{"number"}, {"plain"}, {"number", "plain"}]


def test_a_model_with_length_buckets_is_warmed_up_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """All batch sizes at the shortest length first, then one request of each longer one."""
    function, module = Recording(), ModuleType("long_model")
    tensor = Tensor("wave", "FP32", (-1,), limits=(50,), per_length=10)
    module.model = Model(  # type: ignore[attr-defined]
        name="m",
        modalities=(Modality("sound", (tensor,)),),
        outputs=(Tensor("sum", "FP32", (-1,), limits=(50,)),),
        load=lambda _device, _precision: function,
        framework="numpy",
        length_buckets=(2, 3, 5),
    )
    monkeypatch.setitem(sys.modules, "long_model", module)
    served = WorkerModel("long_model:model", "m", (ServedMode(("sound",), "float32", (1, 2)),))
    execution = Execution(Start(0, "cpu", 1, (0,), (0,), (served,)))
    execution.warm_up()
    execution.close()
    assert [shapes["wave"] for shapes in function.shapes] == [(1, 20), (2, 20), (1, 30), (1, 50)]


def test_what_has_to_be_prepared_is_known(execution: Execution) -> None:
    """By default any model counts; else only the modalities asked for."""
    assert execution.preprocesses()
    assert execution.preprocesses("m", ("plain", "raw"))
    assert not execution.preprocesses("m", ("plain",))


def test_a_model_that_is_not_there_is_an_error() -> None:
    """The worker's start fails with the registry's own words."""
    with pytest.raises(ModelError, match="nowhere"):
        Execution(Start(0, "cpu", 1, (0,), (0,), (WorkerModel("nowhere:model", "m", ()),)))


def test_errors_become_one_bounded_line() -> None:
    """Line breaks go, ours come without their type, and nothing is longer than the limit."""
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
    assert one_line(ExecutionError("the device is gone")) == "the device is gone"
    assert len(one_line(ValueError("x" * 10_000))) == DETAIL_LIMIT


def test_a_device_that_is_lost_is_no_failure_of_the_batch(
    execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the recovery from an error fails the error comes out, so that the worker ends."""

    def lost(_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("mosel.runtime.on_host.NumpyBackend.recover", lost)
    with pytest.raises(RuntimeError, match="device-side assert"):
        run(execution, ("plain",), plain=[column(13)])


def test_a_batch_that_memory_does_not_hold_runs_in_pieces(execution: Execution, function: Recording) -> None:
    """It is halved until it fits; outputs come in order, and the result says what fits."""
    function.most = 2
    result = run(execution, ("plain",), plain=[column(1, 2, 3), column(4), column(5, 6, 7)])
    assert result.outputs is not None
    assert result.outputs["sum"][:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [shapes["plain"][0] for shapes in function.shapes] == [7, 4, 2, 2, 3, 2, 1]
    assert (result.failure, result.fits) == (None, 2)


def test_a_batch_that_fits_says_nothing_of_memory(execution: Execution) -> None:
    """`fits` is 0 then."""
    assert run(execution, ("plain",), plain=[column(1, 2)]).fits == 0


def test_a_single_request_that_memory_does_not_hold_fails(execution: Execution, function: Recording) -> None:
    """There is nothing to halve."""
    function.most = 0
    result = run(execution, ("plain",), plain=[column(1, 2)])
    assert result.failure == "model 'm' in mode plain at batch 1: MemoryError: 1 requests"


def test_an_answer_that_is_not_a_number_is_a_failure(execution: Execution) -> None:
    """NaN is not served as if it were an answer; infinity may be one."""
    result = run(execution, ("plain",), plain=[column(1, np.nan), column(2)])
    assert result.failure == (
        "model 'm': output 'sum' is not a number for 1 of the batch's 3 requests; expected numbers"
    )
    assert run(execution, ("plain",), plain=[column(np.inf, -np.inf)]).failure is None


class CopyingBackend(NumpyBackend):
    """A device that batches are copied to ahead, unless `full`; it notes what was staged, run and settled."""

    copies_ahead = True

    def __init__(self) -> None:
        self.full = False
        self.staged: list[Staged] = []
        self.ran: list[Staged | None] = []
        self.settled: list[tuple[set[str], int]] = []

    def stage(self, _tensors: Sequence[Tensor], _inputs: Mapping[str, Sequence[Array]], /) -> Staged:
        """Note it."""
        if self.full:
            raise MemoryError("no room beside the batch that runs")
        self.staged.append(Staged({}, monotonic_ns(), None))
        return self.staged[-1]

    def run(self, call: Call, inputs: Mapping[str, Sequence[Array]], staged: Staged | None = None) -> Ran:
        """Note it and run."""
        self.ran.append(staged)
        return super().run(call, inputs)

    def settle(self, _call: Call, inputs: Mapping[str, Sequence[Array]], /) -> bool:
        """Note it."""
        first = next(iter(inputs.values()))
        self.settled.append((set(inputs), sum(map(len, first))))
        return False


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CopyingBackend:
    """Return the device that executions made after this run on."""
    found = CopyingBackend()
    monkeypatch.setattr("mosel.runtime.runner.NumpyBackend", lambda: found)
    return found


def test_a_batch_is_copied_ahead_once_it_is_prepared(device: CopyingBackend, execution: Execution) -> None:
    """Beside the device, before it is asked to run; what was staged for a batch is what it runs with."""
    assert execution.works_ahead()
    tasks = [Task("m", ("raw",), "float32", {"raw": [column(n)]}) for n in (2, 4)]
    waiting = [execution.prepare(task) for task in tasks]
    for prepared in waiting:
        assert prepared.staged is not None
        prepared.staged.result()
    assert not device.ran
    assert [sums(execution.run(prepared)) for prepared in waiting] == [[1], [2]]
    assert device.ran == device.staged


def test_copies_that_another_batch_hid_count_as_nothing(device: CopyingBackend, execution: Execution) -> None:
    """The second batch counts from when the first was done; the first one's copies nothing hid."""
    tasks = [Task("m", ("plain",), "float32", {"plain": [column(n)]}) for n in (2, 4)]
    waiting = [execution.prepare(task) for task in tasks]
    staged_ns = []
    for prepared in waiting:
        assert prepared.staged is not None
        staged = prepared.staged.result()
        assert staged is not None
        staged_ns.append(staged.began_ns)
    for prepared in waiting:
        execution.run(prepared)
    assert device.staged[0].began_ns == staged_ns[0]
    assert device.staged[1].began_ns > staged_ns[1]


def test_a_batch_that_cannot_be_copied_ahead_is_copied_when_it_runs(
    device: CopyingBackend, execution: Execution, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the batch that runs fills the memory."""
    device.full = True
    assert sums(run(execution, ("plain",), plain=[column(3)])) == [3]
    assert device.ran == [None]
    assert "could not be copied ahead" in caplog.text


def test_a_batch_with_a_corrupt_part_is_not_copied_ahead(device: CopyingBackend, execution: Execution) -> None:
    """Only the sound parts go to the device, when the batch runs."""
    result = run(execution, ("raw",), raw=[column(2), column(-4)])
    assert sums(result) == [1]
    assert len(result.undone) == 1
    assert (device.staged, device.ran) == ([], [None])


def test_a_replayable_model_settles_each_batch_size_before_it_serves(
    device: CopyingBackend, execution: Execution
) -> None:
    """The largest first, whose memory smaller recordings then share; another model settles nothing."""
    execution.warm_up()
    assert device.settled == []
    model = sys.modules["model_under_test"]
    model.model = replace(model.model, replayable=True)  # type: ignore[attr-defined]
    modes = (ServedMode(("raw",), "float32", (1, 2, 4)), ServedMode(("plain",), "float32", (1, 3)))
    start = Start(0, "cpu", 1, (0,), (0,), (WorkerModel("model_under_test:model", "m", modes),))
    again = Execution(start)
    again.warm_up()
    again.close()
    assert [(min(names), size) for names, size in device.settled] == [
        ("number", 4), ("plain", 3), ("number", 2), ("number", 1), ("plain", 1),
    ]  # fmt: skip


def test_what_works_on_the_host_alone_works_ahead_only_to_prepare(execution: Execution) -> None:
    """There is nothing to copy to."""
    assert execution.works_ahead() == execution.preprocesses()
    assert execution.prepare(Task("m", ("plain",), "float32", {"plain": [column(1)]})).staged is None
