"""The network of Self-MM: BERT and two LSTMs, each with a head of its own, and a head over all three.

A modality that is absent costs nothing: its branch does not run. Nothing leaks from what fills requests up.
Where tensors come from is not known here.
"""

import torch
from torch import Tensor, nn

from mosel.models.layers import Encoder, WordEmbeddings, only_if_hiding
from mosel.models.selfmm import Branch, Shape

NORM_EPS = 1e-12


class SelfMM(nn.Module):
    """Text, sound and face, or any of them, to one number: how positive what is said is."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.sizes = {"text": shape.width, "audio": shape.audio.out, "video": shape.video.out}
        self.text = Bert(shape)
        self.audio = OverTime(shape.audio)
        self.video = OverTime(shape.video)
        self.heads = nn.ModuleDict(
            {
                "text": head(shape.width, shape.text_head),
                "audio": head(shape.audio.out, shape.audio.head),
                "video": head(shape.video.out, shape.video.head),
                "fused": head(sum(self.sizes.values()), shape.fused),
            }
        )

    def forward(
        self, text: Tensor | None = None, audio: Tensor | None = None, video: Tensor | None = None
    ) -> Tensor:
        """Return sentiments of shape (batch, 1): of one modality by its own head, of several by the fused one.

        Args:
            text: numbers of word-pieces of shape (batch, pieces), 0 behind the last.
            audio: features of shape (batch, times, features), zeros behind the last.
            video: likewise.
        """
        given = {"text": text, "audio": audio, "video": video}
        seen = {name: self.get_submodule(name)(values) for name, values in given.items() if values is not None}
        return self.answer(seen)

    def answer(self, seen: dict[str, Tensor]) -> Tensor:
        """Return sentiments of shape (batch, 1) of what branches saw, by name."""
        if len(seen) == 1:
            [(name, alone)] = seen.items()
            sentiment: Tensor = self.heads[name](alone)
            return sentiment
        return self.fuse(seen)

    def fuse(self, seen: dict[str, Tensor]) -> Tensor:
        """Return sentiments of shape (batch, 1) of what branches saw, zeros in place of the others."""
        some = next(iter(seen.values()))
        parts = [seen[name] if name in seen else some.new_zeros(len(some), n) for name, n in self.sizes.items()]
        sentiment: Tensor = self.heads["fused"](torch.cat(parts, dim=1))
        return sentiment


class Bert(nn.Module):
    """BERT as far as Self-MM reads it: the last layer's [CLS], without the pooler."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.words = WordEmbeddings(shape.pieces, shape.places, width, NORM_EPS)
        self.encoder = Encoder(shape.depth, width, shape.heads, 4 * width, pre_norm=False, eps=NORM_EPS)

    def forward(self, text: Tensor) -> Tensor:
        """Return (batch, width) of the numbers of word-pieces (batch, pieces)."""
        first: Tensor = self.encoder(self.words(text), only_if_hiding(text != 0), queries=1)
        return first[:, 0]


class OverTime(nn.Module):
    """Features in time to what is known after the last of them."""

    def __init__(self, branch: Branch) -> None:
        super().__init__()
        self.lstm = nn.LSTM(branch.features, branch.hidden, batch_first=True)
        self.out = nn.Linear(branch.hidden, branch.out)

    def forward(self, values: Tensor) -> Tensor:
        """Return (batch, out) of (batch, times, features); times of zeros behind change nothing."""
        last = _last_there(values)
        known, _ = self.lstm(
            values.to(self.out.weight.dtype)
        )  # forwards only: what comes behind is not known yet
        after: Tensor = self.out(known[torch.arange(len(last), device=last.device), last])
        return after


def head(size: int, width: int) -> nn.Sequential:
    """Return three linear layers, from `size` over `width` twice to 1."""
    return nn.Sequential(
        nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )


def _last_there(values: Tensor) -> Tensor:
    """Return of each request the last time that is not all zero, (batch,)."""
    there = (values != 0).any(dim=2)
    times = torch.arange(values.shape[1], device=values.device)
    return (there * times).amax(dim=1)
