"""The network of TVLT: patches of both modalities to one transformer, read at [CLS].

A modality that is absent has no tokens. Patches without any sound (−1 throughout) and black patches are not
looked at, so nothing leaks from padding. Where tensors come from is not known here.
"""

import torch
from torch import Tensor, nn

from mosel.models.layers import Encoder, Patches, only_if_hiding
from mosel.models.tvlt import Shape

INITIAL = 0.02
NORM_EPS = 1e-6


class TVLT(nn.Module):
    """Sound and picture, or either, to one number: how positive what is said is."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.cls = _parameter(1, width)
        self.audio = AudioTokens(shape)
        self.video = VideoTokens(shape)
        self.encoder = Encoder(shape.depth, width, shape.heads, 4 * width, eps=NORM_EPS)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, 1),
        )  # fmt: skip

    def forward(self, audio: Tensor | None = None, video: Tensor | None = None) -> Tensor:
        """Return sentiments of shape (batch, 1).

        Args:
            audio: levels from −1 to 1 of shape (batch, windows, mels).
            video: red, green and blue from 0 to 255, of shape (batch, frames, 3, side, side).
        """
        return self.read(*self.tokens(audio, video))

    def tokens(self, audio: Tensor | None = None, video: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return [CLS] and the tokens of what is given, (batch, tokens, width), and which may be looked at."""
        found = []
        if audio is not None:
            found.append(self.audio(audio))
        if video is not None:
            found.append(self.video(video))
        batch = len(found[0][0])
        first = self.cls.expand(batch, 1, -1)
        seen = torch.ones(batch, 1, dtype=torch.bool, device=first.device)
        return (
            torch.cat((first, *(tokens for tokens, _ in found)), dim=1),
            torch.cat((seen, *(visible for _, visible in found)), dim=1),
        )

    def read(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return what the encoder and the head make of `tokens`, of shape (batch, 1)."""
        encoded = self.encoder(tokens, only_if_hiding(visible), queries=1)
        sentiment: Tensor = self.head(encoded[:, 0])
        return sentiment


class AudioTokens(nn.Module):
    """A spectrogram to tokens, those of one time after each other from low to high."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.side = shape.patch
        self.patches = Patches(1, shape.patch, shape.width)
        self.kind = _parameter(1, shape.width)
        self.time = _parameter(shape.audio_positions, shape.width)
        self.pitch = _parameter(shape.mels // shape.patch, shape.width)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (batch, patches, width) and which of them hold sound (batch, patches)."""
        batch, windows, mels = audio.shape
        times = windows // self.side
        cut = audio.reshape(batch, times, self.side, mels // self.side, self.side)
        heard = cut.amax(dim=(2, 4)) > -1
        tokens = self.patches(audio.to(self.kind.dtype).unsqueeze(1)).unflatten(1, (times, -1))
        placed = tokens + self.time[:times, None] + self.pitch + self.kind
        return placed.flatten(1, 2), heard.flatten(1)


class VideoTokens(nn.Module):
    """Frames to tokens, frame by frame, in each row by row."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.side = shape.patch
        self.patches = Patches(3, shape.patch, shape.width)
        self.kind = _parameter(1, shape.width)
        self.time = _parameter(shape.video_positions, shape.width)
        self.place = _parameter((shape.side // shape.patch) ** 2, shape.width)

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (batch, patches, width) and which of them are not black (batch, patches)."""
        batch, frames, _, height, width = video.shape
        rows, columns = height // self.side, width // self.side
        cut = video.reshape(batch, frames, 3, rows, self.side, columns, self.side)
        shown = cut.amax(dim=(2, 4, 6)) > 0
        pixels = video.flatten(0, 1).to(self.kind.dtype) / 127.5 - 1
        tokens = self.patches(pixels).unflatten(0, (batch, frames))
        placed = tokens + self.time[:frames, None] + self.place + self.kind
        return placed.flatten(1, 2), shown.flatten(1)


def _parameter(*size: int) -> nn.Parameter:
    return nn.Parameter(INITIAL * torch.randn(*size))
