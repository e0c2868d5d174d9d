import itertools

import pytest
import torch

from mosel.core.errors import ModelError
from mosel.models.base import Model, Samples
from mosel.models.registry import find
from mosel.models.vilt import SHAPES, noise, vilt
from mosel.models.vilt.network import ViLT
from mosel.models.vilt.weights import network_of
from mosel.runtime.runner import Runner
from tests.models.zoo import answers, inputs, parameters

SMALL = SHAPES["small"]
FIRST = 2
MODES = [("text",), ("image",), ("text", "image")]


@pytest.fixture(scope="module")
def network() -> ViLT:
    """Return the small network with random weights."""
    return network_of(SMALL, FIRST, None, 0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the small model."""
    return vilt("small")


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return noise whose texts differ in length."""
    found = noise(SMALL)
    texts = [text[: len(text) // (1 + index)] for index, text in enumerate(found.inputs["text"]["text"])]
    return Samples({"text": {"text": texts}, "image": found.inputs["image"]}, found.labels)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    """111.6 million."""
    assert parameters(lambda: ViLT(SHAPES["full"], FIRST)) == pytest.approx(111.6e6, rel=0.005)


def test_the_published_size_has_the_published_number_of_tokens() -> None:
    """40 of text, 145 of the image, 185 in all; without text its [CLS] stays."""
    shape = SHAPES["full"]
    with torch.device("meta"):
        network = ViLT(shape, FIRST)
        text = torch.zeros(1, shape.most_pieces, dtype=torch.int64)
        image = torch.zeros(1, 3, shape.side, shape.side, dtype=torch.uint8)
        counts = [network.tokens(*given)[0].shape[1] for given in ((text,), (None, image), (text, image))]
    assert counts == [40, 146, 185]


def test_each_mode_answers_otherwise(network: ViLT, model: Model, samples: Samples) -> None:
    """Every modality counts: no two modes give a request the same answer."""
    found = [answers(network, inputs(model, samples, mode, [0, 1]))["output"] for mode in MODES]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().amax(dim=1).min() > 1e-3


def test_a_mode_is_as_if_the_other_tokens_were_hidden(network: ViLT, model: Model, samples: Samples) -> None:
    """Leaving a modality's tokens out equals hiding them from attention; of the text [CLS] stays."""
    given = inputs(model, samples, ("text", "image"), [0, 1])
    pieces = given["text"].shape[1]
    with torch.inference_mode():
        tokens, visible = network.tokens(**given)
        for name, hidden in (("text", slice(pieces, None)), ("image", slice(1, pieces))):
            seen = visible.clone()
            seen[:, hidden] = False
            torch.testing.assert_close(
                network.read(tokens, seen), network(**{name: given[name]}), atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_request_is_answered_alike_in_any_batch(
    model: Model, samples: Samples, mode: tuple[str, ...], precision: str
) -> None:
    """Neither the others of the batch nor the pieces that fill it up change a request's answer."""
    function = model.load("cpu", precision)
    together = answers(function, inputs(model, samples, mode, range(4)))["output"]
    alone = [answers(function, inputs(model, samples, mode, [index]))["output"] for index in range(4)]
    tolerance = 1e-5 if precision == "float32" else 1e-2
    torch.testing.assert_close(together, torch.cat(alone), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_every_precision_answers_about_the_same(model: Model, samples: Samples, precision: str) -> None:
    """What precision costs is small."""
    given = inputs(model, samples, ("text", "image"), range(3))
    exact = answers(model.load("cpu", "float32"), given)["output"]
    found = answers(model.load("cpu", precision), given)["output"].float()
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_the_zoo_has_both_sizes_and_a_runner_runs_them(samples: Samples) -> None:
    """`vilt-small` runs in every mode as declared; its weights are random, and it says so."""
    model = find("vilt-small,seed=3")
    assert (model.name, model.version, model.trained) == ("vilt-small", "random-3", False)
    assert find("vilt").name == "vilt"
    runner = Runner(model, "cpu", ("float32",))
    for mode in model.combinations():
        given = {name: [tensor.numpy()] for name, tensor in inputs(model, samples, mode, [0, 3]).items()}
        assert runner.run(mode, "float32", given).outputs["genres"].shape == (2, 23)


def test_a_size_that_there_is_not_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(ModelError, match="size 'tiny'; expected one of full, small"):
        vilt("tiny")
