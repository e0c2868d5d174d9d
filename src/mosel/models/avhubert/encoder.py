"""AV-HuBERT's encoder (Shi et al. 2022): sound and lips side by side, early, then a transformer.

An absent modality costs nothing: its front-end does not run, and zeros stand in for its features, as when it is
dropped in training. Nothing leaks from padding: a clip's states are the same in a batch of any length.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosel.models.avhubert.frontend import Lips
from mosel.models.avhubert.positions import Positions
from mosel.models.avhubert.shape import AUDIO_FEATURES, Shape
from mosel.models.layers import Encoder, only_if_hiding

EPS = 1e-5


class SpeechEncoder(nn.Module):
    """Sound, lips or both to one state a frame."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width = shape.width
        self.audio = nn.Linear(AUDIO_FEATURES, shape.width)
        self.lips = Lips(shape.channels)
        self.video = nn.Linear(self.lips.features, shape.width)
        self.joined = nn.LayerNorm(2 * shape.width, EPS)
        self.narrow = nn.Linear(2 * shape.width, shape.width)
        self.positions = Positions(shape.width)
        self.drop = nn.Dropout(0.1)
        self.layers = Encoder(shape.depth, shape.width, shape.heads, shape.hidden, eps=EPS, dropout=0.1)

    def forward(
        self,
        audio: Tensor | None = None,
        audio_lengths: Tensor | None = None,
        video: Tensor | None = None,
        video_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return states, (batch, frames, width), and which are real, (batch, frames) or None if all are.

        With both modalities a clip is as long as its video: sound beyond that is left out, and where it ends
        before, it is taken to be silent. Zeros at the end of a clip count as padding.

        Args:
            audio: normalised log-mel, (batch, frames, AUDIO_FEATURES).
            audio_lengths: frames of each clip, (batch,), before any padding; None for all.
            video: grey levels 0 to 255, (batch, frames, SIDE, SIDE).
            video_lengths: as `audio_lengths`.
        """
        led = video if video is not None else audio
        assert led is not None, "a mode has a modality"
        frames = led.shape[1]
        real = _real(led, video_lengths if video is not None else audio_lengths)
        heard = None if audio is None else self._heard(audio, audio_lengths, frames)
        return self.joined_states(heard, None if video is None else self.lips(video, real), real), real

    def joined_states(self, heard: Tensor | None, lips: Tensor | None, real: Tensor | None) -> Tensor:
        """Return states, (batch, frames, width), of what either front-end gave; at least one did.

        Args:
            heard: sound, (batch, frames, width).
            lips: what `Lips` saw, (batch, frames, its features).
            real: which frames are real; None if all are.
        """
        there = heard if heard is not None else lips
        assert there is not None, "a mode has a modality"
        frames = there.shape[1]
        absent = self.narrow.weight.new_zeros(len(there), frames, self.width)
        heard = absent if heard is None else heard
        seen = absent if lips is None else self.video(lips)
        mixed = self.drop(self.narrow(self.joined(torch.cat((heard, seen), dim=2))))
        if real is not None:
            mixed = mixed * real.unsqueeze(2)
        placed = functional.gelu(self.positions(mixed))
        states: Tensor = self.layers(self.drop(mixed + placed), real)
        return states

    def _heard(self, audio: Tensor, lengths: Tensor | None, frames: int) -> Tensor:
        real = _real(audio, lengths)
        own = audio.to(self.narrow.weight.dtype)
        own = own if real is None else own * real.unsqueeze(2)
        short = frames - audio.shape[1]
        found: Tensor = self.audio(functional.pad(own, (0, 0, 0, short)))
        return found


def _real(clips: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Return (batch, frames): whether each frame lies before its clip's end; None if all do.

    Zeros at the end do not; of a clip of zeros alone all do, so that there is something to attend to.
    """
    batch, frames = clips.shape[:2]
    places = torch.arange(frames, device=clips.device)
    ends = places.new_full((batch, 1), frames) if lengths is None else lengths.unsqueeze(1)
    shown = clips.flatten(2).any(dim=2) & (places < ends)
    last = (shown * (places + 1)).amax(dim=1, keepdim=True)
    return only_if_hiding(places < torch.where(last > 0, last, ends))
