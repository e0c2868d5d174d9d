"""From moving lips to one vector a frame: a convolution over five frames, then ResNet-18 on each.

The first convolution spans time. Since its input has one channel, it is one over pictures whose channels are
five neighbouring frames, and so runs on the frames that are really there and on no padding.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

MEAN, DEVIATION = 0.421, 0.165
"""Of grey levels from 0 to 1 around mouths."""

SPAN = 5
"""Frames that the first convolution sees: two before and two after."""

AT_ONCE, STEP = 128, 4
"""How many pictures a CPU looks at together, and what their count is a multiple of.

oneDNN makes its kernels anew for each count that it has not seen lately, which takes as long as ten pictures.
"""


class Lips(nn.Module):
    """Grey levels to `features` numbers a frame, PReLU throughout.

    Args:
        channels: of the first layer; published are 64.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(SPAN, channels, 7, stride=2)
        self.bend = nn.PReLU(channels)
        widths = [channels, channels, 2 * channels, 4 * channels, 8 * channels]
        self.blocks = nn.ModuleList()
        for into, out in itertools.pairwise(widths):
            self.blocks.append(Block(into, out, stride=1 if into == out else 2))
            self.blocks.append(Block(out, out, stride=1))
        self.features = widths[-1]

    def forward(self, video: Tensor, real: Tensor | None) -> Tensor:
        """Return (batch, frames, features); zeros where a frame is padding.

        Args:
            video: grey levels 0 to 255, (batch, frames, side, side).
            real: which frames are no padding, (batch, frames); None if all are.
        """
        batch, frames = video.shape[:2]
        grey = (video.to(self.bend.weight.dtype) / 255 - MEAN) / DEVIATION
        if real is None:
            return self._pictures(_spans(grey).flatten(0, 1)).view(batch, frames, -1)
        spans = _spans(grey * real[:, :, None, None])[real]
        found = grey.new_zeros(batch, frames, self.features)
        found[real] = self._pictures(spans)
        return found

    def _pictures(self, spans: Tensor) -> Tensor:
        """Return (pictures, features); on a CPU at few counts of pictures only, however long clips are."""
        if self.training or spans.is_cuda:
            return self._seen(spans)
        parts = torch.split(spans, AT_ONCE)
        return torch.cat([self._seen(_filled_up(part))[: len(part)] for part in parts])

    def _seen(self, spans: Tensor) -> Tensor:
        hidden = spans.contiguous(memory_format=torch.channels_last)
        hidden = functional.max_pool2d(self.bend(self.first(hidden)), 3, stride=2, padding=1)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.mean(dim=(2, 3))


class Block(nn.Module):
    """Two convolutions with a shortcut around them; `stride` 2 halves the resolution."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.one = ConvNorm(channels, width, 3, stride)
        self.bend_one = nn.PReLU(width)
        self.two = ConvNorm(width, width, 3)
        self.bend_two = nn.PReLU(width)
        self.shortcut = None if stride == 1 else ConvNorm(channels, width, 1, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (pictures, width, side / stride, side / stride)."""
        kept = hidden if self.shortcut is None else self.shortcut(hidden)
        after: Tensor = self.bend_two(self.two(self.bend_one(self.one(hidden))) + kept)
        return after


class ConvNorm(nn.Module):
    """A convolution without bias, and batch normalisation."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (pictures, width, side / stride, side / stride)."""
        found: Tensor = self.conv(hidden)
        return found if self.norm is None else self.norm(found)

    def fuse(self) -> None:
        """Merge the normalisation into the convolution: the same outputs in eval mode, faster."""
        if self.norm is not None:
            self.conv, self.norm = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval()), None


def _filled_up(part: Tensor) -> Tensor:
    """Return pictures with black ones behind them, up to a count that convolutions are kept for."""
    return functional.pad(part, (0, 0, 0, 0, 0, 0, 0, -len(part) % STEP))


def _spans(grey: Tensor) -> Tensor:
    """Return (batch, frames, SPAN, side, side): each frame with its neighbours, zeros beyond the ends."""
    padded = functional.pad(grey, (0, 0, 0, 0, SPAN // 2, SPAN // 2))
    return padded.unfold(1, SPAN, 1).permute(0, 1, 4, 2, 3)
