"""The networks of the zoo as torch's own modules make them: what `zoo_latency.py` compares with.

The weights are the same, and so are the answers. Transformers are `nn.TransformerEncoder`, which works every
layer out for every token; convolutions keep torch's usual layout and their normalisations.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from mosel.models.layers import Encoder, Layer

N = TypeVar("N", bound=nn.Module)


def plain(network: N) -> N:
    """Return a copy of a network in which every `Encoder` is torch's own."""
    found = copy.deepcopy(network)
    for module in list(found.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Encoder):
                setattr(module, name, TorchEncoder(child))
    return found.eval()


def keep_layout(first: nn.Module) -> None:
    """Hand a network's first convolution what it is given in torch's usual layout, channels first."""
    first.register_forward_pre_hook(lambda _, given: tuple(tensor.contiguous() for tensor in given))


class TorchEncoder(nn.Module):
    """`nn.TransformerEncoder` with the weights of one of ours."""

    def __init__(self, ours: Encoder) -> None:
        super().__init__()
        layers = [layer for layer in ours.layers if isinstance(layer, Layer)]
        first = layers[0]
        layer = nn.TransformerEncoderLayer(
            first.attention.out.in_features,
            first.attention.heads,
            first.feed.up.out_features,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=first.norm_1.eps,
            batch_first=True,
            norm_first=first.pre_norm,
        )
        last = copy.deepcopy(ours.norm) if first.pre_norm else None
        self.stack = nn.TransformerEncoder(layer, len(layers), last, enable_nested_tensor=False)
        for theirs, source in zip(self.stack.layers, layers, strict=True):
            theirs.load_state_dict(_as_theirs(source))

    def forward(self, tokens: Tensor, visible: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Return all tokens after the last layer, whichever of them are asked for."""
        hidden = None if visible is None else ~visible
        found: Tensor = self.stack(tokens, src_key_padding_mask=hidden)
        return found[:, :queries]


def _as_theirs(layer: Layer) -> dict[str, Tensor]:
    parts = {
        "self_attn.in_proj_": layer.attention.qkv,
        "self_attn.out_proj.": layer.attention.out,
        "linear1.": layer.feed.up,
        "linear2.": layer.feed.down,
        "norm1.": layer.norm_1,
        "norm2.": layer.norm_2,
    }
    return {f"{name}{kind}": getattr(part, kind).detach() for name, part in parts.items() for kind in KINDS}


KINDS = ("weight", "bias")


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return by how much two lists of outputs differ at most, relative to the largest of the first."""
    pairs = list(zip(one, other, strict=True))
    scale = max(float(tensor.abs().max()) for tensor in one)
    return max(float(torch.dist(a, b, p=float("inf"))) for a, b in pairs) / scale
