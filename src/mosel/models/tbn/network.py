"""The Temporal Binding Network (Kazakos et al. 2019): three image networks, fused late by concatenation.

A modality that is absent costs nothing: its branch does not run, and zeros stand in for its features. Where the
tensors come from is `preprocess.py`'s business.
"""

import torch
from torch import Tensor, nn

from mosel.models.tbn.inception import BNInception
from mosel.models.tbn.shape import FLOW_CHANNELS, Shape

RGB_MEAN = (104.0, 117.0, 128.0)  # blue, green, red
FLOW_MEAN = 128.0
SEEN = "_seen"


class TBN(nn.Module):
    """Segments of a clip, in any of three modalities, to scores of verbs and of nouns."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.rgb = BNInception(3, shape.divisor, shape.middle)
        self.flow = BNInception(FLOW_CHANNELS, shape.divisor, shape.middle)
        self.audio = BNInception(1, shape.divisor, shape.middle)
        self.features = self.rgb.features
        self.fusion = nn.Linear(3 * self.features, shape.hidden)
        self.dropout = nn.Dropout(0.5)
        self.verb = nn.Linear(shape.hidden, shape.verbs)
        self.noun = nn.Linear(shape.hidden, shape.nouns)
        self.rgb_mean: Tensor
        self.register_buffer("rgb_mean", torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)

    def forward(
        self,
        rgb: Tensor | None = None,
        flow: Tensor | None = None,
        audio: Tensor | None = None,
        **known: Tensor,
    ) -> dict[str, Tensor]:
        """Return `verb`, (batch, verbs), and `noun`, (batch, nouns): logits, means over the segments.

        Beside them stands what each branch saw, `rgb_seen` say, of shape (batch, segments, features).

        Args:
            rgb: blue, green and red, 0 to 255, of shape (batch, segments, 3, side, side).
            flow: x and y of five frames in turn, 0 to 255, 128 being none; (batch, segments, 10, side, side).
            audio: logarithms of a spectrogram, (batch, segments, frequencies, times).
            known: what branches saw, in place of modalities.
        """
        seen = {name.removesuffix(SEEN): values.flatten(0, 1).to(self.dtype) for name, values in known.items()}
        seen |= self.features_of(rgb, flow, audio)
        given = next(values for values in (rgb, flow, audio, *known.values()) if values is not None)
        batch, segments = given.shape[:2]
        kept = {f"{name}{SEEN}": flat.view(batch, segments, -1) for name, flat in seen.items()}
        return self.fuse_features(seen, batch, segments) | kept

    def features_of(
        self, rgb: Tensor | None = None, flow: Tensor | None = None, audio: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what each branch sees in each segment, (batch · segments, features)."""
        branches = []
        if rgb is not None:
            branches.append(("rgb", rgb.flatten(0, 1).to(self.dtype) - self.rgb_mean))
        if flow is not None:
            branches.append(("flow", flow.flatten(0, 1).to(self.dtype) - FLOW_MEAN))
        if audio is not None:
            branches.append(("audio", audio.flatten(0, 1).unsqueeze(1).to(self.dtype)))
        return {name: self.get_submodule(name)(_laid_out(images)) for name, images in branches}

    def fuse_features(self, seen: dict[str, Tensor], batch: int, segments: int) -> dict[str, Tensor]:
        """Return the scores of what `features_of` saw, zeros in place of the branches that did not run."""
        absent = self.fusion.weight.new_zeros(batch * segments, self.features)
        joined = torch.cat([seen.get(name, absent) for name in ("rgb", "flow", "audio")], dim=1)
        hidden = self.dropout(self.fusion(joined).relu()).unflatten(0, (batch, segments))
        return {"verb": self.verb(hidden).mean(dim=1), "noun": self.noun(hidden).mean(dim=1)}

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in."""
        return self.fusion.weight.dtype

    def fuse(self) -> None:
        """Merge normalisations into convolutions: the same outputs in eval mode, faster."""
        for branch in (self.rgb, self.flow, self.audio):
            branch.fuse()


def _laid_out(images: Tensor) -> Tensor:
    # Channels last is the order in which a CPU's convolutions and a GPU's tensor cores are fastest.
    return images.contiguous(memory_format=torch.channels_last)
