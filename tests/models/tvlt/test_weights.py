from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mosel.core.errors import FileError
from mosel.models.checkpoints import State
from mosel.models.tvlt import SHAPES, tvlt
from mosel.models.tvlt.weights import network_of

SMALL = SHAPES["small"]


def published() -> State:
    """Return random weights under the names and in the shapes of the authors' fine-tuned model, small."""
    width, mels = SMALL.width, SMALL.mels
    shapes: dict[str, tuple[int, ...]] = {
        "type_embed_v": (1, 1, width),
        "temporal_embed": (1, SMALL.video_positions, width),
        "pos_embed_v": (1, (SMALL.side // 16) ** 2, width),
        "cls_token": (1, 1, width),
        "type_embed_a": (1, 1, width),
        "pos_embed_a": (1, SMALL.audio_positions, width),
        "freq_embed": (1, mels // 16, width),
        "patch_embed_v.proj.weight": (width, 3, 16, 16),
        "patch_embed_v.proj.bias": (width,),
        "patch_embed_a.proj.weight": (width, 1, 16, 16),
        "patch_embed_a.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "classifier.0.dense.weight": (width, width),
        "classifier.0.dense.bias": (width,),
        "classifier.1.weight": (2 * width, width),
        "classifier.1.bias": (2 * width,),
        "classifier.2.weight": (2 * width,),
        "classifier.2.bias": (2 * width,),
        "classifier.4.weight": (1, 2 * width),
        "classifier.4.bias": (1,),
    }
    for layer in range(SMALL.depth):
        for part, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            shapes[f"blocks.{layer}.{part}.weight"] = (rows, columns)
            shapes[f"blocks.{layer}.{part}.bias"] = (rows,)
        for part in ("norm1", "norm2"):
            shapes[f"blocks.{layer}.{part}.weight"] = shapes[f"blocks.{layer}.{part}.bias"] = (width,)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_a_published_checkpoint_is_read_to_the_last_tensor(tmp_path: Path) -> None:
    """Every tensor is where it belongs: kernels as matrices, embeddings without their first dimension."""
    state = published()
    torch.save(state, tmp_path / "weights.ckpt")
    network = network_of(SMALL, tmp_path / "weights.ckpt", 0)
    ours = network.state_dict()
    assert len(ours) == len(state)
    assert ours["video.patches.project.weight"].equal(state["patch_embed_v.proj.weight"].flatten(1))
    assert ours["audio.pitch"].equal(state["freq_embed"][0])
    assert ours["video.time"].equal(state["temporal_embed"][0])
    assert ours["encoder.layers.3.feed.down.weight"].equal(state["blocks.3.mlp.fc2.weight"])
    assert ours["head.3.weight"].equal(state["classifier.2.weight"])
    assert sum(t.double().sum() for t in ours.values()) == pytest.approx(
        float(sum(t.double().sum() for t in state.values()))
    )


def test_the_version_is_that_of_the_weights(tmp_path: Path) -> None:
    """A model with a checkpoint is a trained one, and a profile of other weights is none of its own."""
    path = tmp_path / "weights.safetensors"
    save_file(published(), path)
    model = tvlt("small", checkpoint=path)
    assert model.trained
    assert model.version != tvlt("small").version


def test_training_leftovers_are_left_aside(tmp_path: Path) -> None:
    """A prefix of their training, a mapping around it, and parts for pre-training alone do no harm."""
    state = {f"transformer.{name}": tensor for name, tensor in published().items()}
    state["transformer.decoder_blocks.0.norm1.weight"] = torch.zeros(3)
    state["transformer.mask_token_a"] = torch.zeros(1, 1, 3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.ckpt")
    found = network_of(SMALL, tmp_path / "weights.ckpt", 0).state_dict()
    assert found["cls"].equal(state["transformer.cls_token"][0])


def without(name: str) -> State:
    """Return the published weights but one."""
    return {key: tensor for key, tensor in published().items() if key != name}


BAD: dict[str, tuple[Callable[[], State], str]] = {
    "missing": (lambda: without("classifier.4.bias"), "lacks classifier.4.bias"),
    "unexpected": (lambda: published() | {"lm_head.weight": torch.zeros(2)}, "also holds lm_head.weight"),
    "shape": (lambda: published() | {"norm.weight": torch.zeros(768)}, r"norm.weight has shape \(768,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """The file and the tensor are named."""
    state, words = BAD[case]
    path = tmp_path / "weights.safetensors"
    save_file(state(), path)
    with pytest.raises(FileError, match=words) as raised:
        network_of(SMALL, path, 0)
    assert str(path) in str(raised.value)
