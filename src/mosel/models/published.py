"""What published state dicts of transformers have in common, brought into the form that our layers have.

Which name is which is each model's business. Imported only where torch is.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mosel.models.checkpoints import State

APART = ("query", "key", "value")
TOGETHER = "+".join(APART)


def joined(state: Mapping[str, Tensor]) -> State:
    """Join queries, keys and values, where they are published apart, to one matrix and one bias.

    `….query.weight`, `….key.weight` and `….value.weight` become `….query+key+value.weight`. Where one of them
    is missing the others stay as they are.
    """
    found = dict(state)
    for name in state:
        head, middle, kind = name.rpartition(f".{APART[0]}.")
        names = [f"{head}.{part}.{kind}" for part in APART]
        if middle and all(other in state for other in names):
            found[f"{head}.{TOGETHER}.{kind}"] = torch.cat([found.pop(other) for other in names])
    return found


def in_our_shape(tensor: Tensor) -> Tensor:
    """Return a published tensor as we lay it out.

    A kernel over whole patches, (width, channels, side, side), is a matrix; embeddings of positions have no
    first dimension of 1.
    """
    if tensor.dim() == 4:
        return tensor.flatten(1)
    return tensor.squeeze(0) if tensor.dim() == 3 else tensor
