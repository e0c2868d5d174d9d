from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mosel.core.errors import FileError, ModelError
from mosel.models.checkpoints import State
from mosel.models.vilt import SHAPES, vilt
from mosel.models.vilt.weights import network_of

SMALL = SHAPES["small"]
WIDTH = SMALL.width


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Return random tensors of these shapes."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_the_authors() -> State:
    """Return random weights under the names and in the shapes of the authors' fine-tuned model, small."""
    shapes: dict[str, tuple[int, ...]] = {
        "text_embeddings.word_embeddings.weight": (SMALL.pieces, WIDTH),
        "text_embeddings.position_embeddings.weight": (SMALL.most_pieces, WIDTH),
        "text_embeddings.token_type_embeddings.weight": (2, WIDTH),
        "text_embeddings.position_ids": (1, SMALL.most_pieces),
        "token_type_embeddings.weight": (2, WIDTH),
        "transformer.cls_token": (1, 1, WIDTH),
        "transformer.pos_embed": (1, 37, WIDTH),
        "transformer.patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "mmimdb_classifier.0.weight": (2 * WIDTH, WIDTH),
        "mmimdb_classifier.1.weight": (2 * WIDTH,),
        "mmimdb_classifier.3.weight": (23, 2 * WIDTH),
        "mmimdb_classifier.0.bias": (2 * WIDTH,),
        "mmimdb_classifier.1.bias": (2 * WIDTH,),
        "mmimdb_classifier.3.bias": (23,),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "itm_score.fc.weight": (2, WIDTH),
        "text_embeddings.LayerNorm.weight": (WIDTH,),
        "transformer.norm.weight": (WIDTH,),
    }
    for name in (
        "text_embeddings.LayerNorm",
        "transformer.norm",
        "transformer.patch_embed.proj",
        "pooler.dense",
    ):
        shapes[f"{name}.bias"] = (WIDTH,)
    for layer in range(SMALL.depth):
        for part, rows, columns in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ):
            shapes[f"transformer.blocks.{layer}.{part}.weight"] = (rows, columns)
            shapes[f"transformer.blocks.{layer}.{part}.bias"] = (rows,)
        for part in ("norm1", "norm2"):
            for tensor in ("weight", "bias"):
                shapes[f"transformer.blocks.{layer}.{part}.{tensor}"] = (WIDTH,)
    return drawn(shapes)


def by_the_library() -> State:
    """Return random weights as the transformers library names them, small, with a head of one layer."""
    inside = "vilt.embeddings."
    shapes: dict[str, tuple[int, ...]] = {
        f"{inside}cls_token": (1, 1, WIDTH),
        f"{inside}position_embeddings": (1, 37, WIDTH),
        f"{inside}text_embeddings.word_embeddings.weight": (SMALL.pieces, WIDTH),
        f"{inside}text_embeddings.position_embeddings.weight": (SMALL.most_pieces, WIDTH),
        f"{inside}text_embeddings.token_type_embeddings.weight": (2, WIDTH),
        f"{inside}text_embeddings.LayerNorm.weight": (WIDTH,),
        f"{inside}text_embeddings.LayerNorm.bias": (WIDTH,),
        f"{inside}patch_embeddings.projection.weight": (WIDTH, 3, 16, 16),
        f"{inside}patch_embeddings.projection.bias": (WIDTH,),
        f"{inside}token_type_embeddings.weight": (2, WIDTH),
        "vilt.layernorm.weight": (WIDTH,),
        "vilt.layernorm.bias": (WIDTH,),
        "vilt.pooler.dense.weight": (WIDTH, WIDTH),
        "vilt.pooler.dense.bias": (WIDTH,),
        "classifier.weight": (23, WIDTH),
        "classifier.bias": (23,),
    }
    for layer in range(SMALL.depth):
        for part, rows, columns in (
            ("attention.attention.query", WIDTH, WIDTH),
            ("attention.attention.key", WIDTH, WIDTH),
            ("attention.attention.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", 4 * WIDTH, WIDTH),
            ("output.dense", WIDTH, 4 * WIDTH),
        ):
            shapes[f"vilt.encoder.layer.{layer}.{part}.weight"] = (rows, columns)
            shapes[f"vilt.encoder.layer.{layer}.{part}.bias"] = (rows,)
        for part in ("layernorm_before", "layernorm_after"):
            for tensor in ("weight", "bias"):
                shapes[f"vilt.encoder.layer.{layer}.{part}.{tensor}"] = (WIDTH,)
    return drawn(shapes)


def total(state: State) -> float:
    """Return the sum of all that a state dict holds."""
    return float(sum(tensor.double().sum() for tensor in state.values()))


def test_the_authors_checkpoint_is_read_to_the_last_tensor(tmp_path: Path) -> None:
    """Every tensor is where it belongs, but those of other tasks; the head has a layer between."""
    state = by_the_authors()
    torch.save({"state_dict": state}, tmp_path / "vilt.ckpt")
    ours = network_of(SMALL, 2, tmp_path / "vilt.ckpt", 0).state_dict()
    assert ours["head.3.weight"].equal(state["mmimdb_classifier.3.weight"])
    assert ours["encoder.layers.2.attention.qkv.weight"].equal(state["transformer.blocks.2.attn.qkv.weight"])
    assert ours["place"].equal(state["transformer.pos_embed"][0])
    others = {"itm_score.fc.weight", "text_embeddings.position_ids"}
    assert total(ours) == pytest.approx(total({k: v for k, v in state.items() if k not in others}))


def test_the_librarys_checkpoint_is_read_to_the_last_tensor(tmp_path: Path) -> None:
    """Queries, keys and values are joined; the head is one layer."""
    state = by_the_library()
    save_file(state, tmp_path / "vilt.safetensors")
    ours = network_of(SMALL, 2, tmp_path / "vilt.safetensors", 0).state_dict()
    layer = "vilt.encoder.layer.1.attention.attention"
    parts = [state[f"{layer}.{part}.weight"] for part in ("query", "key", "value")]
    assert ours["encoder.layers.1.attention.qkv.weight"].equal(torch.cat(parts))
    assert ours["head.0.bias"].equal(state["classifier.bias"])
    assert total(ours) == pytest.approx(total(state))


def without(state: State, name: str) -> State:
    """Return the weights but one."""
    return {key: tensor for key, tensor in state.items() if key != name}


KEY = "vilt.encoder.layer.0.attention.attention.key.weight"
BAD: dict[str, tuple[Callable[[], State], str]] = {
    "no head": (lambda: without(by_the_library(), "classifier.weight"), "lacks classifier.0.weight"),
    "no key": (lambda: without(by_the_library(), KEY), r"lacks .*attention\.query\+key\+value\.weight"),
    "unexpected": (lambda: by_the_authors() | {"lm_head.weight": torch.zeros(2)}, "also holds lm_head.weight"),
    "shape": (lambda: by_the_library() | {"classifier.bias": torch.zeros(3129)}, r"has shape \(3129,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """The file and the tensor are named."""
    state, words = BAD[case]
    path = tmp_path / "vilt.safetensors"
    save_file(state(), path)
    with pytest.raises(FileError, match=words) as raised:
        network_of(SMALL, 2, path, 0)
    assert str(path) in str(raised.value)


def test_weights_go_with_their_own_vocabulary(tmp_path: Path) -> None:
    """A checkpoint with another number of pieces than the vocabulary is refused before it is loaded."""
    path = tmp_path / "vilt.safetensors"
    save_file(by_the_library(), path)
    with pytest.raises(ModelError, match=r"a vocabulary of 1,024 pieces .* network of 30,522.*vocabulary=FILE"):
        vilt(checkpoint=path)
    assert vilt("small", checkpoint=path).trained


def test_another_vocabulary_is_another_version(tmp_path: Path) -> None:
    """Answers depend on it, so a profile does too."""
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nfilm\n")
    assert vilt("small", vocabulary=path, seed=0).version != vilt("small", seed=0).version
