"""Matrix products on a CPU, weights laid out once, when a network is loaded, as oneDNN reads them fastest.

Otherwise each call lays them out anew. Results are the same but for rounding. Small matrices gain nothing and
stay as they are, and so does what is not float32 or bfloat16. Imported only where torch is.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from mosel.models.layers import Attention, FeedForward

N = TypeVar("N", bound=nn.Module)

FEWEST_WEIGHTS = 1 << 18
"""Of smaller matrices a call's own cost outweighs the gain."""


def packed(network: N) -> N:
    """Lay out the matrices of attention and feed-forward layers; the network can only infer from then on."""
    for module in network.modules():
        if isinstance(module, Attention | FeedForward):
            for name, part in list(module.named_children()):
                if isinstance(part, nn.Linear) and _gains(part):
                    setattr(module, name, PackedLinear(part))
        if isinstance(module, FeedForward) and isinstance(module.up, PackedLinear):
            module.up.bends, module.bend = True, nn.Identity()
    return network


class PackedLinear(nn.Module):
    """A linear layer whose weights are laid out for oneDNN.

    Attributes:
        bends: whether a GELU follows, worked out on results while they are at hand.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bends = False
        self._matrix = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        """Return (…, outputs) of (…, inputs)."""
        after, how = ("gelu", "none") if self.bends else ("none", "")  # "none": exact, not by tanh
        found: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._matrix, self._bias, after, [], how)
        return found


def _gains(linear: nn.Linear) -> bool:
    weight = linear.weight
    here = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not here or weight.device.type != "cpu" or weight.numel() < FEWEST_WEIGHTS:
        return False
    half = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bool(half)
