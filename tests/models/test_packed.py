import pytest
import torch
from torch import Tensor, nn

from mosel.models.layers import Encoder, FeedForward, Layer
from mosel.models.packed import PackedLinear, packed

WIDTH, HIDDEN = 512, 1024


def encoder(dtype: torch.dtype = torch.float32) -> Encoder:
    """Return an encoder with matrices that are large enough to be laid out."""
    torch.manual_seed(0)
    return Encoder(2, WIDTH, 8, HIDDEN).to(dtype).eval()


def tokens(batch: int, count: int = 7) -> Tensor:
    """Return noise."""
    return torch.randn(batch, count, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("queries", [None, 1])
def test_a_packed_network_answers_as_before(dtype: torch.dtype, within: float, queries: int | None) -> None:
    """With all tokens asked for, or the first of each request, which do not lie side by side in memory."""
    given = tokens(3).to(dtype)
    visible = torch.ones(3, 7, dtype=torch.bool)
    visible[1, 4:] = False
    with torch.inference_mode():
        expected = encoder(dtype)(given, visible, queries)
        found = packed(encoder(dtype))(given, visible, queries)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=within, rtol=within)


def test_what_a_request_gives_does_not_depend_on_its_batch() -> None:
    """Alone or among others, but for rounding."""
    network, given = packed(encoder()), tokens(5)
    with torch.inference_mode():
        together = network(given)
        alone = torch.cat([network(given[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_large_matrices_of_attention_and_feed_forward_layers_are_packed_alone() -> None:
    """Small ones gain nothing; a head keeps its weights; the GELU goes into the product before it."""
    layer, head = Layer(WIDTH, 8, HIDDEN), nn.Linear(WIDTH, HIDDEN)
    network = packed(nn.ModuleList([layer, head]))
    feed = layer.feed
    assert isinstance(feed.up, PackedLinear)
    assert feed.up.bends
    assert isinstance(feed.down, PackedLinear)
    assert not feed.down.bends
    assert isinstance(feed.bend, nn.Identity)
    assert isinstance(layer.attention.qkv, PackedLinear)
    assert network[1] is head
    small = packed(FeedForward(64, 128))
    assert isinstance(small.up, nn.Linear)
    assert isinstance(small.bend, nn.GELU)


def test_other_precisions_stay_as_they_are() -> None:
    """There is no layout for float64."""
    assert isinstance(packed(FeedForward(WIDTH, HIDDEN).double()).up, nn.Linear)
