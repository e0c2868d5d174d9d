import pytest
import torch
from torch import nn

from mosel.core.errors import ModelError
from mosel.models.layers import Encoder, FeedForward
from mosel.models.precision import Int8Linear, at_precision, quantised

VALUES = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0))


def encoder() -> Encoder:
    """Return a small encoder with random weights."""
    torch.manual_seed(0)
    return Encoder(2, 64, 4, 128)


def test_integer_products_are_near_the_exact_ones() -> None:
    """A hundredth of the result's size at most, as 8 bits allow."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 96)
    exact, found = linear(VALUES), Int8Linear(linear)(VALUES)
    assert found.shape == exact.shape
    assert (found - exact).norm() < 0.015 * exact.norm()


def test_a_token_has_a_scale_of_its_own() -> None:
    """A loud neighbour takes no precision from a quiet token, and a token of zeros gives the bias."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 96)
    values = torch.stack([VALUES[0, 0], 1e4 * VALUES[0, 1], torch.zeros(64)])
    found = Int8Linear(linear)(values)
    torch.testing.assert_close(found[:1], Int8Linear(linear)(values[:1]))
    torch.testing.assert_close(found[2], linear.bias)


def test_only_attention_and_feed_forward_are_quantised() -> None:
    """A head beside them keeps its floats."""
    network = nn.ModuleDict({"feed": FeedForward(8, 16), "head": nn.Linear(8, 2)})
    quantised(network)
    assert isinstance(network["feed"].up, Int8Linear)
    assert isinstance(network["head"], nn.Linear)


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-6), ("bfloat16", 0.1), ("int8", 0.1)])
def test_a_network_computes_at_each_precision(precision: str, within: float) -> None:
    """What comes out is near the exact result, and of the precision asked for."""
    exact = encoder().eval()(VALUES)
    network = at_precision(encoder(), "cpu", precision, "m")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    found = network(VALUES.to(dtype))
    assert found.dtype == dtype
    assert not network.training
    torch.testing.assert_close(found.float(), exact, atol=within, rtol=within)


@pytest.mark.parametrize(("device", "precision"), [("cpu", "float16"), ("cuda:0", "int8"), ("cpu", "fp32")])
def test_a_precision_that_a_device_does_not_have_is_refused(device: str, precision: str) -> None:
    """The message names the device and what it has."""
    with pytest.raises(ModelError, match=f"precision '{precision}' on {device}; expected one of float32"):
        at_precision(encoder(), device, precision, "m")
