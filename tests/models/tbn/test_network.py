import itertools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mosel.models.checkpoints import seeded
from mosel.models.tbn.inception import BLOCKS, BNInception
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import SHAPES, Shape

TINY = Shape(segments=2, side=64, divisor=16, hidden=8, verbs=5, nouns=7)
NAMES = ("rgb", "flow", "audio")
SUBSETS = [c for n in (1, 2, 3) for c in itertools.combinations(NAMES, n)]


@pytest.fixture(scope="module")
def network() -> TBN:
    """Return a tiny network with statistics and biases that are not those of a new one."""

    def make() -> TBN:
        made = TBN(TINY)
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(module.bias)
        return made

    return seeded(make, 1)


def clips(batch: int) -> dict[str, Tensor]:
    """Return random clips in all modalities."""
    drawn = torch.Generator().manual_seed(3)
    frames = (batch, TINY.segments, 13, TINY.side, TINY.side)
    seen = torch.randint(0, 256, frames, generator=drawn, dtype=torch.uint8)
    sound = torch.randn((batch, TINY.segments, 64, 64), generator=drawn)
    return {"rgb": seen[:, :, :3], "flow": seen[:, :, 3:], "audio": sound}


def chosen(inputs: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the inputs of these modalities."""
    return {name: inputs[name] for name in names}


def answers(network: TBN, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return both scores side by side."""
    with torch.inference_mode():
        found = network(**inputs)
    return torch.cat([found["verb"], found["noun"]], dim=1)


def test_the_published_size_has_32_million_parameters() -> None:
    """32.3 M, to half a percent: 10.2 M for each image network, the rest behind them."""
    with torch.device("meta"):
        network = TBN(SHAPES["full"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(32.3e6, rel=0.005)
    assert network.features == 1024


def test_blocks_return_what_the_paper_says() -> None:
    """Figure 5 of Ioffe and Szegedy gives each block's output channels."""
    with torch.device("meta"):
        blocks = BNInception(3).blocks
    widths = [getattr(blocks[block.name], "width") for block in BLOCKS]  # noqa: B009 - of a Module
    assert widths == [256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024]


@pytest.mark.parametrize(("side", "left"), [(224, 7), (256, 8), (96, 3)])
def test_resolution_is_halved_five_times(side: int, left: int) -> None:
    """224 pixels end as 7 and 256 as 8, as published: what is pooled last has this many."""
    with torch.device("meta"):
        network = BNInception(3, divisor=16)
        hidden: list[int] = []
        network.blocks["5b"].register_forward_hook(lambda _, __, found: hidden.append(found.shape[-1]))
        network(torch.empty(1, 3, side, side))
    assert hidden == [left]


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_an_absent_modality_is_zeros_behind_its_branch(network: TBN, names: tuple[str, ...]) -> None:
    """Leaving a modality out equals running all branches and putting zeros in the place of its features."""
    inputs = clips(2)
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _, __, found: torch.zeros_like(found))
        for name in NAMES
        if name not in names
    ]
    masked = answers(network, inputs)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(answers(network, chosen(inputs, names)), masked, atol=1e-4, rtol=1e-4)


def test_every_combination_of_modalities_answers_differently(network: TBN) -> None:
    """No two modes give the same scores."""
    inputs = clips(1)
    found = [answers(network, chosen(inputs, names)) for names in SUBSETS]
    assert not any(torch.allclose(a, b) for a, b in itertools.combinations(found, 2))


def test_an_absent_modality_does_not_run(network: TBN) -> None:
    """Only the branches of what is given are called."""
    called: list[str] = []
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
        for name in NAMES
    ]
    answers(network, chosen(clips(1), ("rgb", "audio")))
    for hook in hooks:
        hook.remove()
    assert called == ["rgb", "audio"]


def test_a_batch_equals_its_requests_one_by_one(network: TBN) -> None:
    """A clip's scores do not depend on what runs beside it."""
    inputs = clips(3)
    alone = [answers(network, {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(3)]
    torch.testing.assert_close(answers(network, inputs), torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_scores_are_means_over_segments(network: TBN) -> None:
    """A clip of two segments scores as the mean of two clips of one."""
    inputs = clips(1)
    each = [answers(network, {k: v[:, i : i + 1] for k, v in inputs.items()}) for i in range(2)]
    torch.testing.assert_close(answers(network, inputs), (each[0] + each[1]) / 2, atol=1e-4, rtol=1e-4)


def test_merged_normalisation_changes_nothing(network: TBN) -> None:
    """The network that is served, without a normalisation left, answers as the one that is trained."""
    inputs = clips(1)
    before = answers(network, inputs)
    fused = TBN(TINY).eval()
    fused.load_state_dict(network.state_dict())
    fused.fuse()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(answers(fused, inputs), before, atol=1e-3, rtol=1e-3)
