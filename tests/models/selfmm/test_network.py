import dataclasses
import itertools

import pytest
import torch

from mosel.core.errors import ModelError
from mosel.models.base import Model, Samples
from mosel.models.registry import find
from mosel.models.selfmm import SHAPES, noise, selfmm
from mosel.models.selfmm.network import SelfMM
from mosel.models.selfmm.weights import network_of
from mosel.runtime.runner import Runner
from tests.models.zoo import answers, inputs, parameters

SMALL = SHAPES["small"]
NAMES = ("text", "audio", "video")
MODES = [mode for size in (1, 2, 3) for mode in itertools.combinations(NAMES, size)]


@pytest.fixture(scope="module")
def network() -> SelfMM:
    """Return the small network with random weights."""
    return network_of(SMALL, None, 0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the small model."""
    return selfmm("small")


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return noise whose requests differ in length."""
    found = noise(SMALL)
    shortened = {
        name: {
            name: [
                values[: len(values) // (1 + index)] for index, values in enumerate(found.inputs[name][name])
            ]
        }
        for name in NAMES
    }
    return dataclasses.replace(found, inputs=shortened)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    """109.6 million, but BERT's pooler (0.6 million), which nothing reads; 166 thousand besides BERT."""
    assert parameters(lambda: SelfMM(SHAPES["full"])) == pytest.approx(109.6e6, rel=0.005)
    with torch.device("meta"):
        network = SelfMM(SHAPES["full"])
    besides = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("text."))
    assert besides == pytest.approx(166e3, rel=0.005)


def test_each_mode_answers_otherwise(network: SelfMM, model: Model, samples: Samples) -> None:
    """Every modality counts: no two modes give a request the same answer."""
    found = [answers(network, inputs(model, samples, mode, [0, 1]))["output"] for mode in MODES]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().min() > 1e-5


def test_one_modality_is_answered_by_its_own_head(network: SelfMM, model: Model, samples: Samples) -> None:
    """The branch and the head of that modality alone make the answer."""
    given = inputs(model, samples, NAMES, [0, 1])
    with torch.inference_mode():
        for name in NAMES:
            seen = network.get_submodule(name)(given[name])
            torch.testing.assert_close(network(**{name: given[name]}), network.heads[name](seen))


def test_what_is_missing_of_several_is_zero(network: SelfMM, model: Model, samples: Samples) -> None:
    """A pair is answered by the fused head, with zeros in place of what the third branch would have seen."""
    given = inputs(model, samples, NAMES, [0, 1])
    with torch.inference_mode():
        seen = {name: network.get_submodule(name)(given[name]) for name in NAMES}
        torch.testing.assert_close(network(**given), network.heads["fused"](torch.cat(list(seen.values()), 1)))
        for missing in NAMES:
            parts = [0 * seen[name] if name == missing else seen[name] for name in NAMES]
            pair = {name: values for name, values in given.items() if name != missing}
            torch.testing.assert_close(network(**pair), network.heads["fused"](torch.cat(parts, 1)))


def test_the_branch_of_a_missing_modality_does_not_run(network: SelfMM, model: Model, samples: Samples) -> None:
    """It costs nothing."""
    ran: list[str] = []
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in NAMES
    ]
    for mode in MODES:
        ran.clear()
        answers(network, inputs(model, samples, mode, [0]))
        assert tuple(ran) == mode
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_request_is_answered_alike_in_any_batch(
    model: Model, samples: Samples, mode: tuple[str, ...], precision: str
) -> None:
    """Neither the others of the batch nor what fills it up change a request's answer."""
    function = model.load("cpu", precision)
    together = answers(function, inputs(model, samples, mode, range(4)))["output"]
    alone = [answers(function, inputs(model, samples, mode, [index]))["output"] for index in range(4)]
    tolerance = 1e-5 if precision == "float32" else 1e-2
    torch.testing.assert_close(together, torch.cat(alone), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_every_precision_answers_about_the_same(model: Model, samples: Samples, precision: str) -> None:
    """What precision costs is small."""
    given = inputs(model, samples, NAMES, range(3))
    exact = answers(model.load("cpu", "float32"), given)["output"]
    found = answers(model.load("cpu", precision), given)["output"].float()
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_the_zoo_has_both_sizes_and_a_runner_runs_them(samples: Samples) -> None:
    """`selfmm-small` runs in every mode as declared; its weights are random, and it says so."""
    model = find("selfmm-small,seed=3")
    assert (model.name, model.version, model.trained) == ("selfmm-small", "random-3", False)
    assert find("selfmm").name == "selfmm"
    runner = Runner(model, "cpu", ("float32",))
    for mode in model.combinations():
        given = {name: [tensor.numpy()] for name, tensor in inputs(model, samples, mode, [0, 3]).items()}
        assert runner.run(mode, "float32", given).outputs["sentiment"].shape == (2, 1)


def test_a_size_that_there_is_not_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(ModelError, match="size 'tiny'; expected one of full, small"):
        selfmm("tiny")
