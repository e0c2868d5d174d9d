from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mosel.core.errors import FileError, ModelError
from mosel.models.checkpoints import seeded
from mosel.models.tbn.network import TBN
from mosel.models.tbn.shape import SHAPES, Shape
from mosel.models.tbn.weights import load_checkpoint, load_network, published_name

TINY = Shape(segments=1, side=64, divisor=16, hidden=8, verbs=5, nouns=7)
State = dict[str, Tensor]

# (block, 1x1, 3x3 reduce, 3x3, double reduce, double, projection), as the weights in use have them
PUBLISHED = [
    ("3a", 64, 64, 64, 64, 96, 32),
    ("3b", 64, 64, 96, 64, 96, 64),
    ("3c", 0, 128, 160, 64, 96, 0),
    ("4a", 224, 64, 96, 96, 128, 128),
    ("4b", 192, 96, 128, 96, 128, 128),
    ("4c", 160, 128, 160, 128, 160, 128),
    ("4d", 96, 128, 192, 160, 192, 128),
    ("4e", 0, 128, 192, 192, 256, 0),
    ("5a", 352, 192, 320, 160, 224, 128),
    ("5b", 352, 192, 320, 192, 224, 128),
]


def published(divisor: int) -> State:
    """Return random tensors under the published names, their channels divided."""
    state: State = OrderedDict()
    for branch, channels in (("rgb", 3), ("flow", 10), ("spec", 1)):
        for name, tensor in _inception(channels, divisor).items():
            state[f"module.{branch}.{name}"] = tensor
    width = 3 * 1024 // divisor
    for name, rows, columns in (("fc1", 8, width), ("fc_verb", 5, 8), ("fc_noun", 7, 8)):
        state[f"module.fusion_classification_net.{name}.weight"] = torch.randn(rows, columns)
        state[f"module.fusion_classification_net.{name}.bias"] = torch.randn(rows)
    return state


def _inception(channels: int, divisor: int) -> State:
    state: State = {}

    def conv(name: str, into: int, out: int, kernel: int) -> int:
        state[f"{name}.weight"] = torch.randn(out, into, kernel, kernel)
        state[f"{name}.bias"] = torch.randn(out)
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}_bn.{part}"] = torch.rand(out)
        state[f"{name}_bn.num_batches_tracked"] = torch.tensor(9)
        return out

    width = conv("conv1_7x7_s2", channels, 64 // divisor, 7)
    width = conv("conv2_3x3", conv("conv2_3x3_reduce", width, 64 // divisor, 1), 192 // divisor, 3)
    for block, *sizes in PUBLISHED:
        one, three_reduce, three, double_reduce, double, project = (size // divisor for size in sizes)
        name = f"inception_{block}"
        if one:
            conv(f"{name}_1x1", width, one, 1)
        conv(f"{name}_3x3", conv(f"{name}_3x3_reduce", width, three_reduce, 1), three, 3)
        reduced = conv(f"{name}_double_3x3_reduce", width, double_reduce, 1)
        conv(f"{name}_double_3x3_2", conv(f"{name}_double_3x3_1", reduced, double, 3), double, 3)
        if project:
            conv(f"{name}_pool_proj", width, project, 1)
        width = one + three + double + (project or width)
    return state


def test_a_published_state_dict_is_read(tmp_path: Path) -> None:
    """Names and shapes as training on several GPUs wrote them; every tensor finds its place."""
    state = published(16)
    file = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 80, "best_prec1": 63.5, "state_dict": state}, file)
    network = load_checkpoint(file, TINY)
    assert len(network.state_dict()) == len(state)
    for ours, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[f"module.{published_name(ours)}"]), ours
    assert not network.training


def test_names_are_those_published() -> None:
    """A convolution, its normalisation, the sound branch, a head."""
    assert published_name("rgb.conv1.conv.weight") == "rgb.conv1_7x7_s2.weight"
    assert published_name("flow.blocks.3a.twice.1.norm.bias") == "flow.inception_3a_double_3x3_1_bn.bias"
    assert published_name("audio.blocks.4e.three.0.conv.bias") == "spec.inception_4e_3x3_reduce.bias"
    assert published_name("fusion.weight") == "fusion_classification_net.fc1.weight"


def test_safetensors_are_read_as_well(tmp_path: Path) -> None:
    """The same tensors, without `module.`, in a safetensors file."""
    state = {name.removeprefix("module."): tensor for name, tensor in published(16).items()}
    file = tmp_path / "tbn.safetensors"
    save_file(state, file)
    assert torch.equal(load_checkpoint(file, TINY).verb.bias, state["fusion_classification_net.fc_verb.bias"])


def test_a_checkpoint_without_batch_counts_is_read(tmp_path: Path) -> None:
    """Checkpoints of old versions of torch do not count batches."""
    state = {name: t for name, t in published(16).items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_checkpoint(tmp_path / "old.pth", TINY).features == 1024 // 16


def test_the_network_that_fits_the_published_weights_has_another_count() -> None:
    """128 channels instead of 96 in two blocks: 32.6 M parameters."""
    with torch.device("meta"):
        network = TBN(Shape(middle=128))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(32.6e6, rel=0.001)


def wrong(state: State, kind: str) -> State:
    """Return a state dict with something wrong."""
    if kind == "lacks":
        del state["module.flow.inception_3a_1x1.weight"]
    if kind == "also":
        state["module.rgbdiff.conv1_7x7_s2.weight"] = torch.zeros(1)
    if kind == "shape":
        state["module.fusion_classification_net.fc_verb.bias"] = torch.zeros(125)
    if kind == "other":
        return {"weight": torch.zeros(2)}
    return state


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lacks", "lacks flow.inception_3a_1x1.weight; is it a checkpoint of this model and size"),
        ("also", "also holds rgbdiff.conv1_7x7_s2.weight"),
        ("shape", r"fc_verb.bias has shape \(125,\); expected \(5,\)"),
        ("other", "lacks rgb.inception_4c_pool_proj.weight; is it a checkpoint of TBN"),
    ],
)
def test_another_checkpoint_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    """A missing tensor, one too many, one of another shape, another model: file and tensor are named."""
    file = tmp_path / "tbn.pth"
    torch.save(wrong(published(16), kind), file)
    with pytest.raises(FileError, match=f"tbn.pth: .*{message}"):
        load_checkpoint(file, TINY)


def test_random_weights_follow_the_seed() -> None:
    """The same seed gives the same weights, another one others; torch's own generator is left as it was."""
    before = torch.get_rng_state()
    biases = [seeded(lambda: TBN(TINY), seed).verb.bias for seed in (1, 1, 2)]
    assert torch.equal(biases[0], biases[1])
    assert not torch.equal(biases[0], biases[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_answers_nearly_the_same() -> None:
    """Scores at bfloat16 are within a few percent of those at float32."""
    frames = torch.randint(0, 256, (1, 3, 3, 96, 96), dtype=torch.uint8)
    exact, rough = (
        load_network(SHAPES["small"], None, 0, "cpu", precision)(rgb=frames)["verb"]
        for precision in ("float32", "bfloat16")
    )
    assert rough.dtype == torch.bfloat16
    assert (exact - rough).abs().max() < 0.1 * exact.abs().max()


def test_float16_needs_a_gpu() -> None:
    """The message says what is offered."""
    with pytest.raises(ModelError, match="'float16' on cpu; expected one of float32, bfloat16"):
        load_network(SHAPES["small"], None, 0, "cpu", "float16")
