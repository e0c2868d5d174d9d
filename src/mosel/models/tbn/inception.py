"""BN-Inception, the image network of Ioffe and Szegedy, "Batch Normalization" (2015), figure 5.

Ten inception blocks of four branches over the channels: a 1 × 1 convolution, a 3 × 3 one, two 3 × 3 ones in a
row, and a pooling. Every convolution is followed by batch normalisation and ReLU; before each 3 × 3 a 1 × 1
reduces the channels. Two blocks halve the resolution: they have no first branch, and their pooling hands the
channels through.

The weights in general use depart from the figure in blocks 4c and 4d: they project what these pool to 128
channels instead of 96; `middle` says which.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mosel.models.tbn.shape import PAPER_MIDDLE


@dataclass(frozen=True, slots=True)
class Block:
    """One row of the paper's table: channels of each branch; 0 where the branch is not there."""

    name: str
    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    project: int
    largest: bool = False

    @property
    def stride(self) -> int:
        """2 where the block halves the resolution: there it pools without projecting."""
        return 1 if self.project else 2


BLOCKS = (
    Block("3a", 64, 64, 64, 64, 96, 32),
    Block("3b", 64, 64, 96, 64, 96, 64),
    Block("3c", 0, 128, 160, 64, 96, 0, largest=True),
    Block("4a", 224, 64, 96, 96, 128, 128),
    Block("4b", 192, 96, 128, 96, 128, 128),
    Block("4c", 160, 128, 160, 128, 160, 96),
    Block("4d", 96, 128, 192, 160, 192, 96),
    Block("4e", 0, 128, 192, 192, 256, 0, largest=True),
    Block("5a", 352, 192, 320, 160, 224, 128),
    Block("5b", 352, 192, 320, 192, 224, 128, largest=True),
)


class BNInception(nn.Module):
    """Images to one vector each; its length is `features`.

    Args:
        channels: of the images.
        divisor: every layer's channels are divided by this; 1 is the network of the paper.
        middle: to how many channels blocks 4c and 4d project what they pool, before division.
    """

    def __init__(self, channels: int, divisor: int = 1, middle: int = PAPER_MIDDLE) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, 64 // divisor, 7, stride=2)
        self.conv2_reduce = ConvNorm(64 // divisor, 64 // divisor, 1)
        self.conv2 = ConvNorm(64 // divisor, 192 // divisor, 3)
        self.blocks = nn.ModuleDict()
        width = 192 // divisor
        for row in BLOCKS:
            block = replace(row, project=middle) if row.name in ("4c", "4d") else row
            self.blocks[block.name] = module = Inception(block, width, divisor)
            width = module.width
        self.features = width

    def forward(self, images: Tensor) -> Tensor:
        """Return (images, features) of images (images, channels, height, width)."""
        hidden = _halved(self.conv1(images))
        hidden = _halved(self.conv2(self.conv2_reduce(hidden)))
        for block in self.blocks.values():
            hidden = block(hidden)
        return hidden.mean(dim=(2, 3))

    def fuse(self) -> None:
        """Merge every normalisation into the convolution before it: the same outputs in eval mode, faster."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()


class Inception(nn.Module):
    """One block; `width` is how many channels it returns."""

    def __init__(self, block: Block, channels: int, divisor: int = 1) -> None:
        super().__init__()
        one, project = block.one // divisor, block.project // divisor
        three_reduce, three = block.three_reduce // divisor, block.three // divisor
        double_reduce, double = block.double_reduce // divisor, block.double // divisor
        self.stride, self.largest = block.stride, block.largest
        self.one = ConvNorm(channels, one, 1) if one else None
        self.three = nn.Sequential(
            ConvNorm(channels, three_reduce, 1), ConvNorm(three_reduce, three, 3, block.stride)
        )
        self.twice = nn.Sequential(
            ConvNorm(channels, double_reduce, 1),
            ConvNorm(double_reduce, double, 3),
            ConvNorm(double, double, 3, block.stride),
        )
        self.project = ConvNorm(channels, project, 1) if project else None
        self.width = one + three + double + (project or channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (images, width, height / stride, width / stride) of (images, channels, height, width)."""
        pooled = self._pooled(hidden)
        branches = [self.three(hidden), self.twice(hidden), self.project(pooled) if self.project else pooled]
        return torch.cat([self.one(hidden), *branches] if self.one else branches, dim=1)

    def _pooled(self, hidden: Tensor) -> Tensor:
        if self.stride == 2:
            return _halved(hidden)
        if self.largest:
            return functional.max_pool2d(hidden, 3, stride=1, padding=1)
        return functional.avg_pool2d(hidden, 3, stride=1, padding=1)


class ConvNorm(nn.Module):
    """A convolution that keeps the size (or halves it), batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (images, width, height / stride, width / stride)."""
        found = self.conv(hidden)
        return functional.relu(found if self.norm is None else self.norm(found), inplace=True)

    def fuse(self) -> None:
        """Merge the normalisation into the convolution."""
        if self.norm is not None:
            self.conv, self.norm = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval()), None


def _halved(hidden: Tensor) -> Tensor:
    # An odd last row or column still counts, so 113 gives 56 and 112 gives 56.
    return functional.max_pool2d(hidden, 3, stride=2, ceil_mode=True)
