"""At which precision a network computes: float32, float16, bfloat16, or int8 products on a CPU.

Imported only where torch is. What a precision costs in accuracy is measured, not known here.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from mosel.core.errors import ModelError
from mosel.models.layers import Attention, FeedForward
from mosel.models.loading import PRECISIONS
from mosel.models.packed import packed

N = TypeVar("N", bound=nn.Module)

INT8 = "int8"
LARGEST = 127
"""Integers are from −127 to 127, so that zero is zero."""

TINY = 1e-12
"""The least scale: a token of zeros stays zeros."""


def at_precision(network: N, device: str, precision: str, model: str) -> N:
    """Return `network` on `device`, computing at `precision`, in eval mode.

    At int8 the matrix products of attention and of feed-forward layers are of integers; all else is float32.

    Raises:
        ModelError: the precision is not offered on that device.
    """
    offered = PRECISIONS["cpu" if device == "cpu" else "cuda"]
    if precision not in offered:
        raise ModelError(
            f"model {model}: precision {precision!r} on {device}; expected one of {', '.join(offered)}"
        )
    if precision == INT8:
        return quantised(network).eval()
    ready = network.to(device, getattr(torch, precision)).eval()
    return packed(ready) if device == "cpu" else ready


def quantised(network: N) -> N:
    """Replace the matrix products of the network's attention and feed-forward layers by integer ones."""
    for module in network.modules():
        if isinstance(module, Attention | FeedForward):
            for name, part in list(module.named_children()):
                if isinstance(part, nn.Linear):
                    setattr(module, name, Int8Linear(part))
    return network


class Int8Linear(nn.Module):
    """A linear layer of integers: weights scaled per output, activations per token, while it runs.

    A token's scale is its own, so that its result is the same in a batch of any size.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = (weight.abs().amax(dim=1) / LARGEST).clamp(min=TINY)
        self.matrix: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.register_buffer("matrix", _integers(weight / scale[:, None]).t().contiguous())
        self.register_buffer("scale", scale)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (…, outputs) of (…, inputs)."""
        flat = values.flatten(0, -2)
        scale = (flat.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=TINY)
        product = torch._int_mm(_integers(flat / scale), self.matrix)
        return torch.addcmul(self.bias, product * scale, self.scale).reshape(*values.shape[:-1], -1)


def _integers(scaled: Tensor) -> Tensor:
    return scaled.round().to(torch.int8)
