"""Building blocks that the zoo's networks share: transformer layers, patch embeddings, position tables.

Attention is torch's scaled dot product. Which modalities there are, and what their tokens mean, is the
networks' business.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself, queries, keys and values in one matrix product."""

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, visible: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Return what each token gathers, of shape (batch, tokens, width).

        Args:
            tokens: of shape (batch, tokens, width).
            visible: of shape (batch, tokens), false where a token is not to be looked at; None if all are.
            queries: only so many of the first tokens are asked for; None for all.
        """
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if visible is None else visible[:, None, None, :]
        gathered = functional.scaled_dot_product_attention(query[:, :, :queries], key, value, attn_mask=mask)
        mixed: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """Two matrix products with a GELU between them, for each token alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.bend: nn.Module = nn.GELU()
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (…, width) of (…, width)."""
        changed: Tensor = self.down(self.bend(self.up(tokens)))
        return changed


class Layer(nn.Module):
    """One transformer layer, normed before each part (ViT) or after it (BERT)."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        pre_norm: bool = True,
        eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.norm_1 = nn.LayerNorm(width, eps)
        self.attention = Attention(width, heads)
        self.norm_2 = nn.LayerNorm(width, eps)
        self.feed = FeedForward(width, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, visible: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Return the tokens after this layer; parameters as `Attention.forward` takes them."""
        if self.pre_norm:
            tokens = tokens[:, :queries] + self.drop(self.attention(self.norm_1(tokens), visible, queries))
            fed: Tensor = tokens + self.drop(self.feed(self.norm_2(tokens)))
            return fed
        asked = tokens[:, :queries] + self.drop(self.attention(tokens, visible, queries))
        normed = self.norm_1(asked)
        after: Tensor = self.norm_2(normed + self.drop(self.feed(normed)))
        return after


class Encoder(nn.Module):
    """A stack of layers; with norms before each part, one more after the last layer."""

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        hidden: int,
        *,
        pre_norm: bool = True,
        eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(width, heads, hidden, pre_norm=pre_norm, eps=eps, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps) if pre_norm else nn.Identity()

    def forward(self, tokens: Tensor, visible: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Return the first `queries` tokens (by default all) after the last layer, (batch, tokens, width).

        The last layer is worked out for those alone: a network that reads one token pays for one there.
        """
        *inner, last = self.layers
        for layer in inner:
            tokens = layer(tokens, visible)
        after: Tensor = self.norm(last(tokens, visible, queries))
        return after


class Patches(nn.Module):
    """An image cut into patches, each to a token by the same matrix.

    It is a convolution whose stride is its kernel: the matrix is the kernel of shape (width, channels, side,
    side), flattened to (width, channels · side · side).
    """

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.project = nn.Linear(channels * side * side, width)

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, patches, width), row by row, of (batch, channels, height, width in pixels)."""
        tokens: Tensor = self.project(patches(image, self.side))
        return tokens


class WordEmbeddings(nn.Module):
    """Word-pieces to tokens as in BERT: the piece, its place, and that all are of one text; summed, normed."""

    def __init__(self, pieces: int, places: int, width: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.pieces = nn.Embedding(pieces, width)
        self.places = nn.Embedding(places, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, pieces: Tensor) -> Tensor:
        """Return (batch, pieces, width) of the numbers of pieces (batch, pieces)."""
        summed = self.pieces(pieces) + self.places.weight[: pieces.shape[1]] + self.kinds.weight[0]
        tokens: Tensor = self.norm(summed)
        return tokens


def patches(image: Tensor, side: int) -> Tensor:
    """Cut (batch, channels, height, width) into (batch, patches, channels · side · side), row by row."""
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def sine_positions(length: int, width: int) -> Tensor:
    """Return (length, width): sines of position / 10,000^(i / (width/2 − 1)) first, then the cosines."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def only_if_hiding(visible: Tensor) -> Tensor | None:
    """Return `visible`, or None where it hides nothing: attention without a mask is the quicker one.

    While a GPU's work is recorded the host cannot look, and the mask stays: it holds for whatever is replayed.
    """
    if visible.is_cuda and torch.cuda.is_current_stream_capturing():
        return visible
    return None if bool(visible.all()) else visible
