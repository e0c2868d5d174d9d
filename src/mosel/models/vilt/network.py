"""The network of ViLT: word-pieces and patches of an image to one transformer, read at the text's [CLS].

A modality that is absent has no tokens; of the text, [CLS] stays. Word-pieces that fill up are not looked at.
Where tensors come from is not known here.
"""

import torch
from torch import Tensor, nn

from mosel.models.layers import Encoder, Patches, WordEmbeddings, only_if_hiding
from mosel.models.vilt import Shape

INITIAL = 0.02
NORM_EPS = 1e-6
TEXT, IMAGE = 0, 1
"""The rows of the embeddings that tell the modalities apart."""


class ViLT(nn.Module):
    """Text and image, or either, to a logit a genre.

    Args:
        shape: of the network.
        first: the number of [CLS] in the vocabulary.
        middle: whether the head has a layer between, twice as wide, as the authors' own tasks have.
    """

    def __init__(self, shape: Shape, first: int, *, middle: bool = False) -> None:
        super().__init__()
        width = shape.width
        self.first = first
        self.words = WordEmbeddings(shape.pieces, shape.most_pieces, width)
        self.patches = Patches(3, shape.patch, width)
        self.image_first = nn.Parameter(INITIAL * torch.randn(1, width))
        self.place = nn.Parameter(INITIAL * torch.randn(1 + (shape.side // shape.patch) ** 2, width))
        self.kind = nn.Embedding(2, width)
        self.encoder = Encoder(shape.depth, width, shape.heads, 4 * width, eps=NORM_EPS)
        self.pooler = nn.Linear(width, width)
        self.head = _head(width, shape.genres, middle=middle)

    def forward(self, text: Tensor | None = None, image: Tensor | None = None) -> Tensor:
        """Return logits of shape (batch, genres).

        Args:
            text: numbers of word-pieces of shape (batch, pieces), 0 behind the last.
            image: red, green and blue from 0 to 255, of shape (batch, 3, side, side).
        """
        return self.read(*self.tokens(text, image))

    def tokens(self, text: Tensor | None = None, image: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens of what is given, (batch, tokens, width), and which of them may be looked at."""
        if text is None:
            assert image is not None, "no mode is without modalities"
            text = torch.full((len(image), 1), self.first, device=image.device)
        tokens, visible = self.words(text) + self.kind.weight[TEXT], text != 0
        if image is None:
            return tokens, visible
        pictured = self._pictured(image) + self.kind.weight[IMAGE]
        seen = visible.new_ones(pictured.shape[:2])
        return torch.cat((tokens, pictured), dim=1), torch.cat((visible, seen), dim=1)

    def read(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return what the encoder and the head make of `tokens`, of shape (batch, genres)."""
        encoded = self.encoder(tokens, only_if_hiding(visible), queries=1)
        logits: Tensor = self.head(self.pooler(encoded[:, 0]).tanh())
        return logits

    def _pictured(self, image: Tensor) -> Tensor:
        pixels = image.to(self.place.dtype) / 127.5 - 1
        first = self.image_first.expand(len(image), 1, -1)
        return torch.cat((first, self.patches(pixels)), dim=1) + self.place


def _head(width: int, genres: int, *, middle: bool) -> nn.Sequential:
    if not middle:
        return nn.Sequential(nn.Linear(width, genres))
    return nn.Sequential(
        nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, genres)
    )
