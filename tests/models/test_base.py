import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mosel.core.errors import ModelError
from mosel.models.base import (
    DATATYPES,
    Modality,
    Model,
    Samples,
    Tensor,
    classification_score,
    largest_probability,
    largest_softmax,
    metric_of,
)

SCORES = Tensor("scores", "FP32", (2,))
TEXT = Modality("text", (Tensor("tokens", "INT64", (-1,), limits=(8,)),))
IMAGE = Modality("image", (Tensor("pixels", "FP32", (3, 4)),))


def declared(**changes: Any) -> Model:
    """Return a sound model with `changes`."""
    sound = Model("m", (TEXT, IMAGE), (SCORES,), load=lambda _device, _precision: lambda **_: None)
    return dataclasses.replace(sound, **changes)


def with_input(tensor: Tensor) -> Model:
    """Return a model whose one modality arrives as `tensor`."""
    return declared(modalities=(Modality("x", (tensor,)),))


SPOKEN = Tensor("spoken", "UINT8", (-1,), limits=(9,))
SECOND = Tensor("wave", "FP32", (-1,), limits=(400,), per_length=100)


def heard(**changes: Any) -> Model:
    """Return a model that hears up to four seconds at 100 Hz and sees up to three frames, one a second."""
    sound = Modality("sound", (SECOND, Tensor("rate", "INT32", (1,))))
    sight = Modality("sight", (Tensor("frames", "UINT8", (2, -1), limits=(3,), per_length=1),))
    return declared(**{"modalities": (sound, sight), "length_buckets": (2.0, 4.0)} | changes)


BAD: dict[str, tuple[Callable[[], Model], str]] = {
    "name": (lambda: declared(name="a/b"), "without slashes"),
    "no modalities": (lambda: declared(modalities=()), "no modalities"),
    "plus in a modality": (lambda: declared(modalities=(Modality("a+b", TEXT.inputs),)), "must do without"),
    "modality twice": (lambda: declared(modalities=(TEXT, TEXT)), "differ: text, text"),
    "tensor twice": (
        lambda: declared(modalities=(TEXT, Modality("b", TEXT.inputs))),
        "differ: tokens, tokens",
    ),
    "no outputs": (lambda: declared(outputs=()), "must be given"),
    "identifier": (lambda: with_input(Tensor("a b", "FP32", (1,))), "no Python identifier"),
    "datatype": (lambda: with_input(Tensor("a", "FLOAT", (1,))), "datatype 'FLOAT'; expected one of"),
    "shape": (lambda: with_input(Tensor("a", "FP32", (0,))), "expected sizes from 1"),
    "limits": (lambda: with_input(Tensor("a", "FP32", (-1,))), "1 variable dimensions and limits ()"),
    "lengths": (lambda: with_input(Tensor("a", "FP32", (2,), lengths=True)), "no dimension is variable"),
    "framework": (lambda: declared(framework="jax"), "expected torch or numpy"),
    "batch": (lambda: declared(max_batch=0), "max_batch must be at least 1"),
    "precisions": (lambda: declared(precisions=()), "precisions must name one"),
    "device precisions": (lambda: declared(precisions={"cpu": ()}), "precisions must name one"),
    "allowed": (lambda: declared(allowed=lambda _: False), "refuses every combination"),
    "per_length": (
        lambda: with_input(Tensor("a", "FP32", (2,), per_length=1)),
        "expected a positive number of entries of a variable dimension",
    ),
    "unused per_length": (
        lambda: heard(length_buckets=()),
        "per_length in 1 of its tensors and 0 length_buckets",
    ),
    "missing per_length": (lambda: declared(length_buckets=(1.0,)), "in 0 of its tensors and 1 length_buckets"),
    "descending buckets": (lambda: heard(length_buckets=(4.0, 2.0)), "expected ascending positive limits"),
    "last bucket": (lambda: heard(length_buckets=(3.0,)), "may be 4 long, over the last bucket 3"),
    "lengths of an output": (
        lambda: declared(outputs=(dataclasses.replace(SPOKEN, lengths=True),)),
        "output 'spoken_lengths' of INT64 and shape () beside it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_declaration_is_refused_when_it_is_made(case: str) -> None:
    """The model is named, and what is wrong with it."""
    make, message = BAD[case]
    with pytest.raises(ModelError) as raised:
        make()
    assert message in str(raised.value)
    assert str(raised.value).startswith("model ")


def test_combinations_stand_smallest_first_in_the_models_order() -> None:
    """Every subset that `allowed` lets through, once."""
    assert declared().combinations() == (("text",), ("image",), ("text", "image"))
    assert declared(allowed=lambda c: "text" in c).combinations() == (("text",), ("text", "image"))


def test_the_largest_shape_takes_each_limit_in_turn() -> None:
    """Variable dimensions are filled in order, fixed ones kept."""
    assert Tensor("a", "FP32", (-1, 3, -1), limits=(5, 7)).largest_shape == (5, 3, 7)


def test_every_datatype_is_one_of_numpy() -> None:
    """Each protocol name maps to a numpy type, no two to the same but BF16, which numpy does not know."""
    others = [numpy_name for name, numpy_name in DATATYPES.items() if name != "BF16"]
    assert len({np.dtype(name) for name in others}) == len(others) == len(DATATYPES) - 1
    assert Tensor("a", "FP16", (1,)).dtype == "float16"


def test_a_modality_without_preprocessing_reaches_the_model_as_it_arrives() -> None:
    """`prepared` counts only where something prepares."""
    prepared = (Tensor("a", "FP32", (2,)),)
    assert TEXT.model_inputs == TEXT.inputs
    assert dataclasses.replace(TEXT, prepared=prepared).model_inputs == TEXT.inputs
    both = dataclasses.replace(TEXT, prepared=prepared, preprocess=lambda arrays: arrays)
    assert both.model_inputs == prepared


def test_a_modality_is_found_by_name() -> None:
    """The name gives the modality, an unknown one a KeyError or StopIteration."""
    assert declared().modality("image") is IMAGE
    with pytest.raises((KeyError, StopIteration)):
        declared().modality("audio")


def test_samples_are_as_many_as_their_labels() -> None:
    """`len` counts labels."""
    assert len(Samples({}, np.zeros(3))) == 3


def test_the_usual_score_is_whether_the_largest_output_is_the_label() -> None:
    """1.0 for a hit and 0.0 for a miss, one per sample."""
    outputs = {"scores": np.array([[0.1, 0.9], [0.8, 0.2]])}
    assert classification_score(outputs, np.array([1, 1])).tolist() == [1.0, 0.0]


def test_precisions_may_differ_by_kind_of_device() -> None:
    """A tuple holds everywhere; a mapping only where it says, and elsewhere the devices are named."""
    assert declared(precisions=("float32", "bfloat16")).precisions_on("cuda") == ("float32", "bfloat16")
    by_kind = declared(precisions={"cpu": ("float32", "int8"), "cuda": ("float16",)})
    assert by_kind.precisions_on("cpu") == ("float32", "int8")
    assert by_kind.precisions_on("cuda") == ("float16",)
    with pytest.raises(ModelError, match="runs on cpu or cuda, not on tpu"):
        by_kind.precisions_on("tpu")


def test_a_requests_length_is_that_of_its_longest_tensor() -> None:
    """Entries along the variable dimension over entries a unit; None where no tensor tells."""
    model = heard()
    assert model.length_of({"wave": (150,), "rate": (1,)}) == 1.5
    assert model.length_of({"wave": (150,), "frames": (2, 3)}) == 3
    assert model.length_of({"rate": (1,)}) is None
    assert declared().length_of({"tokens": (5,)}) is None


def test_a_length_has_a_shape() -> None:
    """That of the longest request, cut at the tensor's own limit; without length it is the largest."""
    assert SECOND.at_length(1.5) == (150,)
    assert SECOND.at_length(9) == SECOND.at_length(None) == (400,)
    assert Tensor("a", "FP32", (-1, 3), limits=(5,)).at_length(1) == (5, 3)


def test_a_ragged_output_has_its_lengths_beside_it() -> None:
    """Declared so, it is accepted."""
    outputs = (dataclasses.replace(SPOKEN, lengths=True), Tensor("spoken_lengths", "INT64", ()))
    assert declared(outputs=outputs).outputs == outputs


def test_the_metric_is_a_mean_or_a_share() -> None:
    """Of one number a sample the mean; of what is right and how much there is, the share, 0 at least."""
    assert metric_of(np.array([1.0, 0.0, 0.5])) == 0.5
    assert metric_of(np.array([[1.0, 1.0], [1.0, 3.0]])) == 0.5
    assert metric_of(np.array([[-5.0, 1.0], [1.0, 1.0]])) == 0


def test_a_classifier_is_as_sure_as_its_largest_softmax() -> None:
    """Two logits that differ by ln 3 are three to one, however large they are, one request a row."""
    logits = np.array([[0.0, np.log(3)], [5000.0, 5000.0]], np.float32)
    assert largest_softmax({"scores": logits}) == pytest.approx([0.75, 0.5])
    assert declared().confidence_of is largest_softmax


def test_probabilities_are_taken_as_they_are() -> None:
    """The largest of each row."""
    assert largest_probability({"scores": np.array([[0.2, 0.8], [0.6, 0.4]])}) == pytest.approx([0.8, 0.6])


def test_a_model_that_is_no_classifier_has_no_confidence_but_its_own() -> None:
    """Nothing is guessed about outputs that are scored in another way."""
    other = declared(score=lambda _outputs, labels: np.ones(len(labels)))
    assert other.confidence_of is None
    assert dataclasses.replace(other, confidence=largest_probability).confidence_of is largest_probability
