from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mosel import Modality, Model, Tensor
from mosel.core.errors import UsageError
from mosel.runtime.runner import CorruptInputError, ModelFailedError, Runner, WrongOutputError, prepare

LEFT = Modality("left", (Tensor("left", "FP32", (2,)),))
RIGHT = Modality("right", (Tensor("right", "FP32", (2,)),))
SUM = Tensor("sum", "FP32", (2,))
ONE = np.ones((1, 2), np.float32)


def numpy_model(function: Callable[..., Any], outputs: tuple[Tensor, ...] = (SUM,)) -> Model:
    """A model of two modalities that is one plain function."""
    return Model("adder", (LEFT, RIGHT), outputs, load=lambda *_: function, framework="numpy")


def torch_model(function: Callable[..., Any], outputs: tuple[Tensor, ...] = (SUM,)) -> Model:
    """The same, on tensors."""
    return Model("adder", (LEFT, RIGHT), outputs, load=lambda *_: function)


def run(model: Model, *modalities: str, parts: int = 1) -> dict[str, NDArray[Any]]:
    """The outputs of one batch of requests of ones."""
    inputs = {name: [ONE] * parts for name in modalities}
    return Runner(model, "cpu", ("float32",)).run(modalities, "float32", inputs).outputs


@pytest.mark.parametrize("make", [numpy_model, torch_model])
def test_only_the_chosen_modalities_reach_the_model(make: Callable[..., Model]) -> None:
    """The function is called with the keywords of the mode and no others."""
    seen: list[set[str]] = []

    def function(**given: Any) -> Any:
        seen.append(set(given))
        return sum(given.values())

    outputs = run(make(function), "left", parts=3)
    both = run(make(function), "left", "right", parts=3)
    assert seen == [{"left"}, {"left", "right"}]
    assert outputs["sum"].tolist() == [[1, 1]] * 3
    assert both["sum"].tolist() == [[2, 2]] * 3


@pytest.mark.parametrize("make", [numpy_model, torch_model])
def test_a_batch_is_timed(make: Callable[..., Model]) -> None:
    """What it took is told in nanoseconds."""
    assert (
        Runner(make(lambda left: left), "cpu", ("float32",)).run(("left",), "float32", {"left": [ONE]}).took_ns
        > 0
    )


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda left: left[:0], "'sum' of shape (0, 2); expected FP32 of shape (1, 2)"),
        (lambda left: left[:, :1], "'sum' of shape (1, 1)"),
        (lambda left: left > 0, "'sum' of type bool"),
        (lambda left: {"total": left}, "output 'sum' is missing among total"),
    ],
)
@pytest.mark.parametrize("make", [numpy_model, torch_model])
def test_an_output_other_than_declared_is_an_error_that_names_it(
    make: Callable[..., Model], function: Callable[..., Any], words: str
) -> None:
    """Shape, type and name of every output are checked, in words that name model, mode and output."""
    with pytest.raises(WrongOutputError) as caught:
        run(make(function), "left")
    assert "model 'adder' in mode left at batch 1" in str(caught.value)
    assert words in str(caught.value)


def test_one_tensor_for_two_declared_outputs_is_an_error() -> None:
    """With several outputs the model must say which is which."""
    with pytest.raises(WrongOutputError, match="expected a mapping with sum, rest"):
        run(torch_model(lambda left: left, (SUM, Tensor("rest", "FP32", (2,)))), "left")


def test_a_torch_model_must_return_tensors() -> None:
    """An array from a torch model is an error, not a guess."""
    with pytest.raises(WrongOutputError, match=r"is a ndarray; expected a torch\.Tensor"):
        run(torch_model(lambda left: left.numpy()), "left")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_come_back_in_the_declared_precision(dtype: torch.dtype) -> None:
    """A precision inside the model does not show in the type of its outputs."""
    assert run(torch_model(lambda left: left.to(dtype)), "left")["sum"].dtype == np.float32


@pytest.mark.parametrize("make", [numpy_model, torch_model])
def test_a_model_that_raises_is_named_with_its_first_line(make: Callable[..., Model]) -> None:
    """Whatever the model raises becomes one error that says where; out of memory is one of these."""

    def function(left: Any) -> Any:
        raise MemoryError(f"no room for {len(left)}\nstack of frames")

    with pytest.raises(ModelFailedError) as caught:
        run(make(function), "left", parts=5)
    assert str(caught.value) == "model 'adder' in mode left at batch 5: MemoryError: no room for 5"


def test_a_model_that_cannot_be_loaded_is_an_error() -> None:
    """What `load` raises is told with the device and the precision."""

    def load(_: str, precision: str) -> Any:
        raise RuntimeError(f"no weights at {precision}")

    model = Model("adder", (LEFT,), (SUM,), load=load)
    with pytest.raises(ModelFailedError, match="cannot be loaded on cpu at float16: RuntimeError: no weights"):
        Runner(model, "cpu", ("float16",))


def test_a_module_runs_in_evaluation_mode_without_gradients() -> None:
    """Dropout passes everything through and nothing is recorded for a backward pass."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = torch.nn.Dropout(0.999)
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, left: torch.Tensor) -> torch.Tensor:
            assert torch.is_inference_mode_enabled()
            assert not self.linear(left).requires_grad
            passed: torch.Tensor = self.drop(left)
            return passed

    assert run(torch_model(Net()), "left", parts=8)["sum"].tolist() == [[1, 1]] * 8


def test_a_lone_part_is_not_copied_on_the_cpu() -> None:
    """The tensor that the model gets lies in the memory of the array that was handed in."""
    places: list[int] = []

    def function(left: torch.Tensor) -> torch.Tensor:
        places.append(left.data_ptr())
        return left + 1

    part = np.zeros((4, 2), np.float32)
    Runner(torch_model(function), "cpu", ("float32",)).run(("left",), "float32", {"left": [part]})
    assert places == [part.ctypes.data]


def test_memory_that_may_not_be_written_to_can_be_read() -> None:
    """A read-only array runs, without a warning."""
    part = ONE.copy()
    part.flags.writeable = False
    ran = Runner(torch_model(lambda left: left), "cpu", ("float32",)).run(
        ("left",), "float32", {"left": [part]}
    )
    assert ran.outputs["sum"].tolist() == [[1, 1]]


def test_a_precision_runs_the_function_loaded_for_it() -> None:
    """Each precision has a function of its own."""
    model = Model(
        "p",
        (LEFT,),
        (SUM,),
        load=lambda _, precision: lambda left: left * int(precision[5:]),
        framework="numpy",
    )
    runner = Runner(model, "cpu", ("float32", "float16"))
    found = [runner.run(("left",), p, {"left": [ONE]}).outputs["sum"][0, 0] for p in ("float16", "float32")]
    assert found == [16, 32]


def test_a_cuda_device_that_is_not_there_is_a_usage_error() -> None:
    """Asking for a GPU beyond those that torch sees says how many it sees."""
    with pytest.raises(UsageError, match=r"device 'cuda:64': torch .* sees \d+ CUDA devices"):
        Runner(torch_model(lambda left: left), "cuda:64", ("float32",))


def prepared_model(preprocess: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]) -> Model:
    """A model whose only modality is preprocessed from bytes to three floats."""
    modality = Modality(
        "m",
        (Tensor("raw", "UINT8", (-1,), limits=(9,)),),
        preprocess=preprocess,
        prepared=(Tensor("clean", "FP32", (3,)),),
    )
    return Model("p", (modality,), (SUM,), load=lambda *_: lambda clean: clean, framework="numpy")


def test_preparing_gives_the_declared_tensors_alone() -> None:
    """What else preprocessing returns is left out."""
    model = prepared_model(lambda a: {"clean": np.zeros((len(a["raw"]), 3), np.float32), "log": a["raw"]})
    assert set(prepare(model, "m", {"raw": np.zeros((2, 5), np.uint8)})) == {"clean"}


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        (lambda _: 1 / 0, "cannot be decoded: ZeroDivisionError"),
        (lambda _: {}, "'clean' missing; expected FP32 of shape (2, 3)"),
        (lambda _: {"clean": np.zeros((1, 3), np.float32)}, "'clean' of shape (1, 3)"),
        (lambda _: {"clean": np.zeros((2, 3))}, "'clean' of type float64"),
    ],
)
def test_what_cannot_be_prepared_is_corrupt_and_names_its_modality(
    preprocess: Callable[..., Any], words: str
) -> None:
    """An exception or another shape than declared says that this modality of this job is corrupt."""
    with pytest.raises(CorruptInputError) as caught:
        prepare(prepared_model(preprocess), "m", {"raw": np.zeros((2, 5), np.uint8)})
    assert caught.value.modality == "m"
    assert words in str(caught.value)


def test_a_modality_without_preprocessing_is_handed_on() -> None:
    """The arrays come back as they went in."""
    model = numpy_model(lambda left: left)
    assert prepare(model, "left", {"left": ONE})["left"] is ONE


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_bytes_reach_the_model_and_come_back(framework: str) -> None:
    """As Python's bytes, joined and filled up with empty ones; texts that it returns become bytes."""

    def run(words: Any) -> Any:
        return {"said": [["é" if not any(row) else b" ".join(row)] for row in words.tolist()]}

    model = Model(
        name="words",
        modalities=(Modality("text", (Tensor("words", "BYTES", (-1,), limits=(4,)),)),),
        outputs=(Tensor("said", "BYTES", (1,)),),
        load=lambda _device, _precision: run,
        framework=framework,
    )
    parts = [np.array([[b"a", b"\0"]], object), np.array([[b"b"], [b""]], object)]
    ran = Runner(model, "cpu", ["float32"]).run(("text",), "float32", {"words": parts})
    assert ran.outputs["said"].tolist() == [[b"a \0"], [b"b "], ["é".encode()]]
    wrong = replace(model, load=lambda _device, _precision: lambda words: {"said": [[1]] * len(words)})
    runner = Runner(wrong, "cpu", ["float32"])
    with pytest.raises(WrongOutputError, match="a value of BYTES is int"):
        runner.run(("text",), "float32", {"words": parts})
