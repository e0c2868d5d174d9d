from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mosel.core.errors import FileError
from mosel.models.checkpoints import State
from mosel.models.selfmm import SHAPES, selfmm
from mosel.models.selfmm.weights import network_of, start_from_bert

SMALL = SHAPES["small"]
WIDTH = SMALL.width


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Return random tensors of these shapes."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def bert(prefix: str = "", norm: tuple[str, str] = ("weight", "bias")) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of BERT as the transformers library has them, small."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (SMALL.pieces, WIDTH),
        "embeddings.position_embeddings.weight": (SMALL.places, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(SMALL.depth):
        inside = f"encoder.layer.{layer}"
        for part, rows, columns in (
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", 4 * WIDTH, WIDTH),
            ("output.dense", WIDTH, 4 * WIDTH),
        ):
            shapes[f"{inside}.{part}.weight"] = (rows, columns)
            shapes[f"{inside}.{part}.bias"] = (rows,)
        norms += [f"{inside}.attention.output.LayerNorm", f"{inside}.output.LayerNorm"]
    shapes |= {f"{name}.{tensor}": (WIDTH,) for name in norms for tensor in norm}
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def published(audio_hidden: int = 16, video_head: int = 32) -> State:
    """Return random weights under the names and in the shapes of the authors' model for MOSEI, BERT small."""
    shapes = bert("Model.text_model.model.")
    sizes = (("audio", 74, audio_hidden, 16, 16), ("video", 35, 32, 32, video_head))
    for name, features, hidden, out, _ in sizes:
        inside = f"Model.{name}_model"
        shapes[f"{inside}.rnn.weight_ih_l0"] = (4 * hidden, features)
        shapes[f"{inside}.rnn.weight_hh_l0"] = (4 * hidden, hidden)
        shapes[f"{inside}.rnn.bias_ih_l0"] = shapes[f"{inside}.rnn.bias_hh_l0"] = (4 * hidden,)
        shapes[f"{inside}.linear_1.weight"] = (out, hidden)
        shapes[f"{inside}.linear_1.bias"] = (out,)
        shapes[f"Model.{name}_classifier.weight"] = (1, out)
        shapes[f"Model.{name}_classifier.bias"] = (1,)
    heads = [("fusion", WIDTH + 48, 128), ("text", WIDTH, 32)]
    heads += [(name, out, width) for name, _, _, out, width in sizes]
    for name, size, width in heads:
        for number, rows, columns in ((1, width, size), (2, width, width), (3, 1, width)):
            shapes[f"Model.post_{name}_layer_{number}.weight"] = (rows, columns)
            shapes[f"Model.post_{name}_layer_{number}.bias"] = (rows,)
    return drawn(shapes)


def total(state: State) -> float:
    """Return the sum of all that a state dict holds."""
    return float(sum(tensor.double().sum() for tensor in state.values()))


def test_the_authors_checkpoint_is_read_to_the_last_tensor(tmp_path: Path) -> None:
    """Every tensor is where it belongs, but BERT's pooler and two layers for tests, which nothing reads."""
    state = published()
    torch.save(state, tmp_path / "self_mm.pth")
    ours = network_of(SMALL, tmp_path / "self_mm.pth", 0).state_dict()
    assert ours["heads.fused.4.weight"].equal(state["Model.post_fusion_layer_3.weight"])
    assert ours["heads.audio.2.bias"].equal(state["Model.post_audio_layer_2.bias"])
    assert ours["video.lstm.weight_hh_l0"].equal(state["Model.video_model.rnn.weight_hh_l0"])
    norm = "Model.text_model.model.encoder.layer.1.attention.output.LayerNorm.weight"
    assert ours["text.encoder.layers.1.norm_1.weight"].equal(state[norm])
    unread = {name: t for name, t in state.items() if "pooler" in name or "_classifier." in name}
    assert total(ours) == pytest.approx(total(state) - total(unread))


def test_the_network_is_built_to_fit(tmp_path: Path) -> None:
    """The first release has 32 units in the LSTM over sound and a narrower head over faces."""
    state = published(audio_hidden=32, video_head=16)
    torch.save(state, tmp_path / "self_mm.pth")
    function = selfmm("small", checkpoint=tmp_path / "self_mm.pth").load("cpu", "float32")
    assert function(audio=torch.ones(1, 3, 74)).shape == (1, 1)
    assert function(video=torch.ones(1, 3, 35)).shape == (1, 1)


@pytest.mark.parametrize(("prefix", "norm"), [("bert.", ("gamma", "beta")), ("", ("weight", "bias"))])
def test_bert_alone_starts_a_training(tmp_path: Path, prefix: str, norm: tuple[str, str]) -> None:
    """As `bert-base-uncased` is published, old and new; the rest of the network stays as it was."""
    state = drawn(bert(prefix, norm) | {"cls.predictions.bias": (SMALL.pieces,)})
    save_file(state, tmp_path / "bert.safetensors")
    network = network_of(SMALL, None, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start_from_bert(network, tmp_path / "bert.safetensors")
    after = network.state_dict()
    assert after["text.words.norm.bias"].equal(state[f"{prefix}embeddings.LayerNorm.{norm[1]}"])
    for name, tensor in after.items():
        assert tensor.equal(before[name]) != name.startswith("text.")


def without(name: str) -> State:
    """Return the published weights but one."""
    return {key: tensor for key, tensor in published().items() if key != name}


BAD: dict[str, tuple[Callable[[], State], str]] = {
    "no head": (lambda: without("Model.post_text_layer_1.weight"), "lacks post_text_layer_1.weight"),
    "missing": (lambda: without("Model.post_text_layer_3.bias"), "lacks post_text_layer_3.bias"),
    "unexpected": (lambda: published() | {"Model.lm_head.weight": torch.zeros(2)}, "also holds lm_head.weight"),
    "shape": (lambda: published() | {"Model.post_fusion_layer_3.bias": torch.zeros(7)}, r"has shape \(7,\)"),
    "BERT alone": (lambda: drawn(bert()), "lacks audio_model.rnn.weight_ih_l0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """The file and the tensor are named."""
    state, words = BAD[case]
    path = tmp_path / "self_mm.safetensors"
    save_file(state(), path)
    with pytest.raises(FileError, match=words) as raised:
        network_of(SMALL, path, 0)
    assert str(path) in str(raised.value)
