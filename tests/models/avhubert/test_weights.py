from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mosel.core.errors import FileError, ModelError
from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.shape import AUDIO_FEATURES, SIDE, Shape
from mosel.models.avhubert.vocabulary import words
from mosel.models.avhubert.weights import lay_in, load_network, published_name
from mosel.models.checkpoints import seeded

TINY = Shape(32, 2, 2, 48, 3, 2, 40, channels=4, buckets=(10,), most_tokens=5)
VOCABULARY = words("abcd")
W2V = "encoder.w2v_model."
State = dict[str, Tensor]


def linear(state: State, name: str, rows: int, columns: int) -> None:
    """Add a matrix and a bias."""
    state[f"{name}.weight"] = torch.randn(rows, columns)
    state[f"{name}.bias"] = torch.randn(rows)


def attention(state: State, name: str, width: int) -> None:
    """Add what fairseq's attention has."""
    for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
        linear(state, f"{name}.{part}", width, width)


def norm(state: State, name: str, width: int) -> None:
    """Add a layer norm."""
    state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(width), torch.randn(width)


def batch_norm(state: State, name: str, width: int) -> None:
    """Add a batch norm."""
    norm(state, name, width)
    state[f"{name}.running_mean"], state[f"{name}.running_var"] = torch.randn(width), torch.rand(width) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(3)


def lips(state: State) -> None:
    """Add the front-end of the picture."""
    front = f"{W2V}feature_extractor_video.resnet."
    state[f"{front}frontend3D.0.weight"] = torch.randn(4, 1, 5, 7, 7)
    batch_norm(state, f"{front}frontend3D.1", 4)
    state[f"{front}frontend3D.2.weight"] = torch.rand(4)
    into = 4
    for layer, width in enumerate((4, 8, 16, 32), 1):
        for block in range(2):
            name = f"{front}trunk.layer{layer}.{block}"
            state[f"{name}.conv1.weight"] = torch.randn(width, into, 3, 3)
            state[f"{name}.conv2.weight"] = torch.randn(width, width, 3, 3)
            for part in ("bn1", "bn2"):
                batch_norm(state, f"{name}.{part}", width)
            for part in ("relu1", "relu2"):
                state[f"{name}.{part}.weight"] = torch.rand(width)
            if into != width:
                state[f"{name}.downsample.0.weight"] = torch.randn(width, into, 1, 1)
                batch_norm(state, f"{name}.downsample.1", width)
            into = width


def published() -> State:
    """Return random tensors under the names of the authors' fine-tuned models, with what is of no use here."""
    state: State = {f"{W2V}mask_emb": torch.rand(AUDIO_FEATURES)}
    lips(state)
    linear(state, f"{W2V}feature_extractor_audio.proj", 32, AUDIO_FEATURES)
    linear(state, f"{W2V}feature_extractor_video.proj", 32, 32)
    linear(state, f"{W2V}post_extract_proj", 32, 64)
    norm(state, f"{W2V}layer_norm", 64)
    state[f"{W2V}encoder.pos_conv.0.weight_g"] = torch.rand(1, 1, 128)
    state[f"{W2V}encoder.pos_conv.0.weight_v"] = torch.randn(32, 2, 128)
    state[f"{W2V}encoder.pos_conv.0.bias"] = torch.randn(32)
    norm(state, f"{W2V}encoder.layer_norm", 32)
    for number in range(2):
        name = f"{W2V}encoder.layers.{number}"
        attention(state, f"{name}.self_attn", 32)
        linear(state, f"{name}.fc1", 48, 32)
        linear(state, f"{name}.fc2", 32, 48)
        norm(state, f"{name}.self_attn_layer_norm", 32)
        norm(state, f"{name}.final_layer_norm", 32)
    for number in range(3):
        name = f"decoder.layers.{number}"
        attention(state, f"{name}.self_attn", 32)
        attention(state, f"{name}.encoder_attn", 32)
        linear(state, f"{name}.fc1", 40, 32)
        linear(state, f"{name}.fc2", 32, 40)
        for part in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"):
            norm(state, f"{name}.{part}", 32)
    norm(state, "decoder.layer_norm", 32)
    state["decoder.embed_tokens.weight"] = torch.randn(8, 32)
    state["decoder.version"] = torch.tensor([3.0])
    state["decoder.embed_positions._float_tensor"] = torch.zeros(1)
    return state


@pytest.fixture
def network() -> AVHubert:
    """Return a tiny network."""
    return seeded(lambda: AVHubert(TINY, VOCABULARY), 0)


def test_a_published_state_dict_is_read(network: AVHubert, tmp_path: Path) -> None:
    """Under `model`, as fairseq has it; every parameter is laid in, and the network runs with them."""
    state = published()
    torch.save({"model": state, "extra_state": {"epoch": 3}}, tmp_path / "avhubert.pt")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lay_in(network, tmp_path / "avhubert.pt")
    assert not any(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network.decoder.embed.weight, state["decoder.embed_tokens.weight"])
    with torch.inference_mode():
        assert torch.isfinite(network.encoder(audio=torch.randn(1, 6, AUDIO_FEATURES))[0]).all()


def test_a_layer_computes_what_its_published_weights_mean(network: AVHubert, tmp_path: Path) -> None:
    """The encoder's first attention equals torch's own with the published queries, keys and values."""
    state = published()
    save_file(state, tmp_path / "avhubert.safetensors")
    lay_in(network, tmp_path / "avhubert.safetensors")
    name = f"{W2V}encoder.layers.0.self_attn"
    theirs = nn.MultiheadAttention(32, 2, batch_first=True).eval()
    parts = [f"{name}.{part}_proj" for part in "qkv"]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([state[f"{part}.weight"] for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([state[f"{part}.bias"] for part in parts]))
        theirs.out_proj.load_state_dict({k: state[f"{name}.out_proj.{k}"] for k in ("weight", "bias")})
    hidden = torch.randn(1, 5, 32)
    with torch.inference_mode():
        ours = network.encoder.layers.layers[0].attention(hidden)  # type: ignore[operator]
        torch.testing.assert_close(ours, theirs(hidden, hidden, hidden)[0], atol=1e-4, rtol=1e-4)


def test_positions_are_length_times_direction(network: AVHubert, tmp_path: Path) -> None:
    """The convolution of positions equals torch's weight normalisation over its last dimension."""
    state = published()
    torch.save(state, tmp_path / "avhubert.pt")
    lay_in(network, tmp_path / "avhubert.pt")
    direction = state[f"{W2V}encoder.pos_conv.0.weight_v"]
    expected = torch._weight_norm(direction, state[f"{W2V}encoder.pos_conv.0.weight_g"], 2)
    torch.testing.assert_close(network.encoder.positions.weight, expected)


def test_the_first_convolution_spans_time(network: AVHubert, tmp_path: Path) -> None:
    """Its published dimension of one channel is left out: five frames are its channels."""
    state = published()
    torch.save(state, tmp_path / "avhubert.pt")
    lay_in(network, tmp_path / "avhubert.pt")
    theirs = state[f"{W2V}feature_extractor_video.resnet.frontend3D.0.weight"]
    assert torch.equal(network.encoder.lips.first.conv.weight, theirs[:, 0])


def test_names_are_those_published() -> None:
    """One of each kind."""
    trunk = f"{W2V}feature_extractor_video.resnet.trunk"
    assert published_name("encoder.lips.blocks.5.two.norm.running_var") == f"{trunk}.layer3.1.bn2.running_var"
    assert (
        published_name("encoder.lips.blocks.2.shortcut.conv.weight") == f"{trunk}.layer2.0.downsample.0.weight"
    )
    assert published_name("encoder.layers.layers.7.feed.up.bias") == f"{W2V}encoder.layers.7.fc1.bias"
    assert published_name("decoder.layers.1.norm_2.bias") == "decoder.layers.1.encoder_attn_layer_norm.bias"


def wrong(state: State, kind: str) -> State:
    """Return a state dict with something wrong."""
    if kind == "key":
        del state[f"{W2V}encoder.layers.1.self_attn.k_proj.bias"]
    if kind == "length":
        del state[f"{W2V}encoder.pos_conv.0.weight_g"]
    if kind == "lacks":
        del state["decoder.layer_norm.weight"]
    if kind == "also":
        state[f"{W2V}encoder.layers.2.fc1.bias"] = torch.zeros(48)
    if kind == "vocabulary":
        state["decoder.embed_tokens.weight"] = torch.zeros(1000, 32)
    return state


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("key", "lacks encoder.w2v_model.encoder.layers.1.self_attn.k_proj.bias; is it a fine-tuned"),
        ("length", "lacks encoder.w2v_model.encoder.pos_conv.0.weight_g"),
        ("lacks", "lacks decoder.layer_norm.weight; is it a checkpoint of this model and size"),
        ("also", "also holds encoder.w2v_model.encoder.layers.2.fc1.bias"),
        ("vocabulary", r"decoder.embed_tokens.weight has shape \(1000, 32\); expected \(8, 32\)"),
    ],
)
def test_another_checkpoint_is_refused(network: AVHubert, tmp_path: Path, kind: str, message: str) -> None:
    """What is missing, too much or of another shape is named, and the file."""
    torch.save(wrong(published(), kind), tmp_path / "avhubert.pt")
    with pytest.raises(FileError, match=f"avhubert.pt: .*{message}"):
        lay_in(network, tmp_path / "avhubert.pt")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_precisions_hear_nearly_the_same(precision: str) -> None:
    """The encoder's states are within a few percent of those at float32."""
    video = torch.randint(0, 256, (1, 4, SIDE, SIDE), dtype=torch.uint8)
    with torch.inference_mode():
        exact, rough = (
            load_network(TINY, VOCABULARY, 1, None, 0, "cpu", each).encoder(video=video)[0].float()
            for each in ("float32", precision)
        )
    assert (exact - rough).abs().max() < 0.1 * exact.abs().max()
    assert not torch.equal(exact, rough)


def test_float16_needs_a_gpu() -> None:
    """The message says what is offered."""
    with pytest.raises(ModelError, match="'float16' on cpu; expected one of float32, bfloat16"):
        load_network(TINY, VOCABULARY, 1, None, 0, "cpu", "float16")
