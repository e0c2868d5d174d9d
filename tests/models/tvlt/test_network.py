import dataclasses
import itertools

import pytest
import torch

from mosel.core.errors import ModelError
from mosel.models.base import Model, Samples
from mosel.models.registry import find
from mosel.models.tvlt import SHAPES, noise, tvlt
from mosel.models.tvlt.network import TVLT
from mosel.models.tvlt.weights import network_of
from mosel.runtime.runner import Runner
from tests.models.zoo import answers, inputs, parameters

SMALL = SHAPES["small"]
MODES = [("audio",), ("video",), ("audio", "video")]


@pytest.fixture(scope="module")
def network() -> TVLT:
    """Return the small network with random weights."""
    return network_of(SMALL, None, 0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Return the small model."""
    return tvlt("small")


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return clips of several lengths, the last one with a silent and dark stretch."""
    found = noise(SMALL)
    waves = [wave[: len(wave) - 3000 * index] for index, wave in enumerate(found.inputs["audio"]["audio"])]
    waves[3][5000:12000] = 0
    frames = found.inputs["video"]["video"]
    frames[3][2:4] = 0
    return dataclasses.replace(
        found, inputs={"audio": {**found.inputs["audio"], "audio": waves}, "video": {"video": frames}}
    )


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    """88.6 million."""
    assert parameters(lambda: TVLT(SHAPES["full"])) == pytest.approx(88.6e6, rel=0.005)


def test_the_published_size_has_the_published_number_of_tokens() -> None:
    """[CLS], 512 of sound and 1,568 of picture, 2,081 in all."""
    shape = SHAPES["full"]
    with torch.device("meta"):
        network = TVLT(shape)
        audio = torch.zeros(1, shape.windows, shape.mels)
        video = torch.zeros(1, shape.frames, 3, shape.side, shape.side, dtype=torch.uint8)
        counts = [network.tokens(*given)[0].shape[1] for given in ((audio,), (None, video), (audio, video))]
    assert counts == [513, 1569, 2081]


def test_each_mode_answers_otherwise(network: TVLT, model: Model, samples: Samples) -> None:
    """Every modality counts: no two modes give a request the same answer."""
    found = [answers(network, inputs(model, samples, mode, [0, 1]))["output"] for mode in MODES]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().min() > 1e-4


def test_a_mode_is_as_if_the_other_tokens_were_hidden(network: TVLT, model: Model, samples: Samples) -> None:
    """Leaving a modality's tokens out equals hiding them from attention."""
    given = inputs(model, samples, ("audio", "video"), [0, 1])
    with torch.inference_mode():
        tokens, visible = network.tokens(**given)
        heard = network.tokens(given["audio"])[0].shape[1]
        for name, hidden in (("audio", slice(heard, None)), ("video", slice(1, heard))):
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
    """Neither the others of the batch nor their padding change a request's answer."""
    function = model.load("cpu", precision)
    together = answers(function, inputs(model, samples, mode, range(4)))["output"]
    alone = [answers(function, inputs(model, samples, mode, [index]))["output"] for index in range(4)]
    tolerance = 1e-5 if precision == "float32" else 1e-2
    torch.testing.assert_close(together, torch.cat(alone), atol=tolerance, rtol=tolerance)


def test_silence_and_darkness_are_not_looked_at(network: TVLT) -> None:
    """Patches of −1 throughout and black ones are hidden; [CLS] never is."""
    audio = torch.full((1, 32, SMALL.mels), -1.0)
    audio[0, 0, 0] = 0.5
    video = torch.zeros(1, SMALL.frames, 3, SMALL.side, SMALL.side, dtype=torch.uint8)
    video[0, 1, 2, -1, -1] = 1
    _, visible = network.tokens(audio, video)
    heard = 1 + 32 * SMALL.mels // SMALL.patch**2
    last_of_second_frame = heard + 2 * (SMALL.side // SMALL.patch) ** 2 - 1
    assert visible[0].nonzero().ravel().tolist() == [0, 1, last_of_second_frame]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_every_precision_answers_about_the_same(model: Model, samples: Samples, precision: str) -> None:
    """What precision costs is small beside what the modes differ by."""
    given = inputs(model, samples, ("audio", "video"), range(3))
    exact = answers(model.load("cpu", "float32"), given)["output"]
    found = answers(model.load("cpu", precision), given)["output"].float()
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_a_precision_that_is_not_offered_is_refused(model: Model) -> None:
    """float16 is for GPUs; the message says what there is."""
    with pytest.raises(ModelError, match="precision 'float16' on cpu; expected one of float32, bfloat16, int8"):
        model.load("cpu", "float16")


def test_weights_are_those_of_the_seed() -> None:
    """The same seed gives the same answers, another one others; the version tells them apart."""
    audio = torch.linspace(-1, 1, 16 * SMALL.mels).reshape(1, 16, SMALL.mels)
    first, again, other = (answers(network_of(SMALL, None, seed), {"audio": audio}) for seed in (0, 0, 1))
    assert first["output"].equal(again["output"])
    assert not first["output"].equal(other["output"])
    assert tvlt().version == tvlt("small", seed=0).version != tvlt("small", seed=1).version


def test_the_zoo_has_both_sizes_and_a_runner_runs_them(samples: Samples) -> None:
    """`tvlt-small` runs in every mode as declared; its weights are random, and it says so."""
    model = find("tvlt-small,seed=3")
    assert (model.name, model.version, model.trained) == ("tvlt-small", "random-3", False)
    assert find("tvlt").name == "tvlt"
    runner = Runner(model, "cpu", ("float32",))
    for mode in model.combinations():
        given = {name: [tensor.numpy()] for name, tensor in inputs(model, samples, mode, [0, 3]).items()}
        assert runner.run(mode, "float32", given).outputs["sentiment"].shape == (2, 1)


def test_a_size_that_there_is_not_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(ModelError, match="size 'tiny'; expected one of full, small"):
        tvlt("tiny")
