import torch
from torch import nn

from mosel.models.layers import Encoder, Layer, Patches, only_if_hiding, patches, sine_positions

WIDTH, HEADS, HIDDEN = 16, 4, 32


def tokens(count: int = 6) -> torch.Tensor:
    """Return two requests of so many random tokens."""
    return torch.randn(2, count, WIDTH, generator=torch.Generator().manual_seed(count))


def encoder(*, pre_norm: bool) -> Encoder:
    """Return a small encoder with random weights."""
    torch.manual_seed(0)
    return Encoder(3, WIDTH, HEADS, HIDDEN, pre_norm=pre_norm).eval()


def torch_layer(ours: Layer) -> nn.TransformerEncoderLayer:
    """Return torch's own layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, 0.0, "gelu", 1e-6, batch_first=True, norm_first=ours.pre_norm
    )
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.attention.qkv.weight,
            "self_attn.in_proj_bias": ours.attention.qkv.bias,
            "self_attn.out_proj.weight": ours.attention.out.weight,
            "self_attn.out_proj.bias": ours.attention.out.bias,
            "linear1.weight": ours.feed.up.weight,
            "linear1.bias": ours.feed.up.bias,
            "linear2.weight": ours.feed.down.weight,
            "linear2.bias": ours.feed.down.bias,
            "norm1.weight": ours.norm_1.weight,
            "norm1.bias": ours.norm_1.bias,
            "norm2.weight": ours.norm_2.weight,
            "norm2.bias": ours.norm_2.bias,
        }
    )
    return theirs.eval()


def test_a_layer_computes_what_torchs_own_layer_does() -> None:
    """With norms before and after, with and without hidden tokens, it equals nn.TransformerEncoderLayer."""
    visible = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    for pre_norm in (True, False):
        ours = Layer(WIDTH, HEADS, HIDDEN, pre_norm=pre_norm).eval()
        theirs = torch_layer(ours)
        torch.testing.assert_close(ours(tokens()), theirs(tokens()), atol=1e-5, rtol=1e-5)
        expected = theirs(tokens(), src_key_padding_mask=~visible)
        found = ours(tokens(), visible)
        torch.testing.assert_close(found[visible], expected[visible], atol=1e-5, rtol=1e-5)


def test_hidden_tokens_are_as_if_they_were_not_there() -> None:
    """The encoder's visible tokens come out the same whether the others are hidden or left out."""
    for pre_norm in (True, False):
        network = encoder(pre_norm=pre_norm)
        visible = torch.tensor([True, True, False, True, False, True]).expand(2, -1)
        hidden = network(tokens(), visible)[visible].unflatten(0, (2, -1))
        torch.testing.assert_close(hidden, network(tokens()[:, visible[0]]), atol=1e-5, rtol=1e-5)


def test_asking_for_the_first_token_alone_changes_nothing_about_it() -> None:
    """`queries=1` gives the first of all tokens."""
    for pre_norm in (True, False):
        network = encoder(pre_norm=pre_norm)
        alone = network(tokens(), queries=1)
        assert alone.shape == (2, 1, WIDTH)
        torch.testing.assert_close(alone, network(tokens())[:, :1], atol=1e-5, rtol=1e-5)


def test_patches_are_the_convolution_whose_stride_is_its_kernel() -> None:
    """The matrix is the flattened kernel; rows of patches follow each other."""
    layer = Patches(3, 4, WIDTH)
    convolution = nn.Conv2d(3, WIDTH, 4, stride=4)
    with torch.no_grad():
        layer.project.weight.copy_(convolution.weight.flatten(1))
        layer.project.bias.copy_(convolution.bias if convolution.bias is not None else torch.zeros(WIDTH))
    image = torch.randn(2, 3, 8, 12)
    expected = convolution(image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(layer(image), expected, atol=1e-5, rtol=1e-5)
    assert patches(image, 4).shape == (2, 6, 48)


def test_sine_positions_start_at_zero_and_differ() -> None:
    """Position 0 is sines of 0 and cosines of 0; no two of a thousand positions are alike."""
    table = sine_positions(1000, 8)
    assert table[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len({tuple(row) for row in table.tolist()}) == 1000


def test_a_mask_that_hides_nothing_is_left_out() -> None:
    """All visible gives None, anything hidden the mask itself."""
    mask = torch.tensor([[True, False]])
    assert only_if_hiding(torch.ones(2, 3, dtype=torch.bool)) is None
    assert only_if_hiding(mask) is mask
