"""The network of AV-digits: an encoder and a head per modality, fused late by adding their logits.

A modality that is absent costs nothing: its branch does not run. Nothing leaks from padding: every branch
sees its own sequence as if it were alone, so a request's scores are the same in a batch of any size (up to
the rounding of float32). Where the tensors come from is not known here.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

CLASSES = 10
CODES = 256
KEPT = ("text_logits", "audio_logits", "video_logits")


class AVDigits(nn.Module):
    """Text, audio and video of one digit, or any of the three, to one probability a class.

    What is kept of a modality for a later stage is its logits: fusing adds them.
    """

    def __init__(self, mels: int = 32) -> None:
        super().__init__()
        self.text = TextBranch()
        self.audio = AudioBranch(mels)
        self.video = VideoBranch()

    def forward(
        self,
        text: Tensor | None = None,
        audio: Tensor | None = None,
        audio_lengths: Tensor | None = None,
        video: Tensor | None = None,
        **known: Tensor,
    ) -> dict[str, Tensor]:
        """Return probabilities `scores`, and each modality's logits, `text_logits` say; all (batch, 10).

        Parameters are as `logits` takes them; `known` are logits in place of a modality.
        """
        given = (("text", text), ("audio", audio), ("video", video))
        names = [f"{name}_logits" for name, values in given if values is not None]
        every = known | dict(zip(names, self.logits(text, audio, audio_lengths, video), strict=True))
        ordered = {name: every[name] for name in KEPT if name in every}
        return {"scores": torch.stack([*ordered.values()]).sum(dim=0).softmax(dim=1), **ordered}

    def logits(
        self,
        text: Tensor | None = None,
        audio: Tensor | None = None,
        audio_lengths: Tensor | None = None,
        video: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of each modality that is given, (modalities given, batch, 10), in that order.

        Args:
            text: ASCII codes of shape (batch, letters); 0 after the last letter.
            audio: levelled log-mel of shape (batch, frames, mels).
            audio_lengths: frames of each request, of shape (batch,); None if none is padded.
            video: grey levels 0 to 255 of shape (batch, frames, 28, 28).
        """
        branches = []
        if text is not None:
            branches.append(self.text(text))
        if audio is not None:
            branches.append(self.audio(audio, audio_lengths))
        if video is not None:
            branches.append(self.video(video))
        return torch.stack(branches)


class TextBranch(nn.Module):
    """Letters to logits: one transformer layer applied again and again, as in ALBERT (Lan et al. 2020)."""

    def __init__(self, width: int = 160, letters: int = 16, depth: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(CODES, width)
        self.place = nn.Embedding(letters, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.depth = depth
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, CLASSES))

    def forward(self, text: Tensor) -> Tensor:
        """Return logits (batch, 10) of ASCII codes (batch, letters)."""
        padding = text == 0
        padding[:, 0] = False  # a word without letters would attend to nothing, which is no number
        hidden = self.embed(text.int()) + self.place.weight[: text.shape[1]]
        for _ in range(self.depth):
            hidden = self.layer(hidden, src_key_padding_mask=padding)
        logits: Tensor = self.head(hidden.masked_fill(padding.unsqueeze(2), -torch.inf).amax(dim=1))
        return logits


class AudioBranch(nn.Module):
    """Log-mel to logits: convolutions over time and bands, then over time, then mean and maximum over time."""

    def __init__(self, mels: int, channels: int = 16, width: int = 96, depth: int = 6) -> None:
        super().__init__()
        self.bands = nn.ModuleList(
            nn.Conv2d(before, channels, 3, padding=1, stride=(1, 2)) for before in (1, channels)
        )
        self.first = TimeConvolution(channels * mels // 4, width, stride=2)
        self.rest = nn.ModuleList(TimeConvolution(width, width) for _ in range(depth))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, CLASSES))

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits (batch, 10) of log-mels (batch, frames, mels), `lengths` of their frames being real."""
        if lengths is None:
            lengths = audio.new_full((len(audio),), audio.shape[1], dtype=torch.int64)
        given = _within(lengths, audio.shape[1]).unsqueeze(1)
        seen = audio.unsqueeze(1) * given
        for convolution in self.bands:
            seen = convolution(seen).relu() * given
        hidden = self.first(seen.transpose(1, 2).flatten(2)).relu()
        halved = (lengths + 1) // 2  # as a stride of two leaves them
        real = _within(halved, hidden.shape[1])
        hidden = hidden * real
        for convolution in self.rest:
            hidden = hidden + convolution(hidden).relu() * real
        mean = hidden.sum(dim=1) / halved.unsqueeze(1)
        logits: Tensor = self.head(torch.cat((mean, hidden.amax(dim=1)), dim=1))
        return logits


class TimeConvolution(nn.Module):
    """A convolution of five steps over (batch, time, features), as one matrix product, normed at each time.

    `nn.Conv1d` takes another path at batch 1 than above it, several times as fast; this costs the same.
    """

    def __init__(self, features: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.product = nn.Linear(5 * features, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (batch, time / stride rounded up, width); zeros stand before the first and after the last."""
        windows = nn.functional.pad(hidden, (0, 0, 2, 2)).unfold(1, 5, self.stride)
        normed: Tensor = self.norm(self.product(windows.transpose(2, 3).flatten(2)))
        return normed


class VideoBranch(nn.Module):
    """Frames to logits: a convolutional encoder, then convolutional GRUs over frames (Ballas et al. 2016).

    The frames are read forwards and then backwards by the same cells, whose states carry on: what a patch
    hid in the early frames is seen again once the later ones are known.
    """

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, stride=2), nn.GroupNorm(4, 32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(),
            nn.Conv2d(32, width, 3, padding=1, stride=2), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2), nn.GroupNorm(4, width), nn.ReLU(),
        )  # fmt: skip
        self.cells = nn.ModuleList(ConvGRUCell(width) for _ in range(depth))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, CLASSES))

    def forward(self, video: Tensor) -> Tensor:
        """Return logits (batch, 10) of grey levels 0 to 255, (batch, frames, 28, 28)."""
        batch, frames, height, width = video.shape
        flat = video.transpose(0, 1).reshape(frames * batch, 1, height, width) / 64 - 1
        seen = self.encoder(flat.contiguous(memory_format=torch.channels_last)).unflatten(0, (frames, batch))
        states = [torch.zeros_like(seen[0]) for _ in self.cells]
        after_each = []
        for upward in (*seen, *reversed(seen)):
            for level, cell in enumerate(self.cells):
                upward = states[level] = cell(upward, states[level])
            after_each.append(upward.amax(dim=(2, 3)))
        logits: Tensor = self.head(torch.stack(after_each).mean(dim=0))
        return logits


class ConvGRUCell(nn.Module):
    """One step of a GRU whose products are 3 × 3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.candidate = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, seen: Tensor, state: Tensor) -> Tensor:
        """Return the next state; all three are of shape (batch, width, height, width)."""
        reset, keep = self.gates(torch.cat((seen, state), dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat((seen, reset * state), dim=1)).tanh()
        return torch.lerp(candidate, state, keep)


def load_network(weights: Path, device: str) -> AVDigits:
    """Return the network with the weights of a safetensors file, ready to infer on `device`."""
    network = AVDigits()
    network.load_state_dict(load_file(weights))
    return network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def _within(lengths: Tensor, longest: int) -> Tensor:
    """Return (batch, longest, 1): whether each position lies before its request's length."""
    return (torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)).unsqueeze(2)
