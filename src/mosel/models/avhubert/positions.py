"""Where in its clip a frame is, by a convolution over the 128 frames around it (Baevski et al. 2020).

So wide a kernel is worked out in its spectrum where that is quicker: a stretch of 256 frames then takes one
product of matrices a frequency instead of one a frame and place. The result is the same but for rounding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL, GROUPS = 128, 16
STRETCH = 256
"""Frames that are transformed at a time; the kernel fits wholly into so many of them, less itself, and one."""

NEW = STRETCH - KERNEL + 1


class Positions(nn.Conv1d):
    """A convolution over time in groups of channels, as wide as its input."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, KERNEL, padding=KERNEL // 2, groups=GROUPS)
        nn.init.normal_(self.weight, std=(4 / (KERNEL * width)) ** 0.5)
        assert self.bias is not None, "a convolution has one unless it is told otherwise"
        nn.init.zeros_(self.bias)
        self.spectrum: Tensor | None
        self.register_buffer("spectrum", None, persistent=False)

    def by_spectrum(self) -> None:
        """Work in the spectrum, at float32, from now on: on a CPU, with weights that stay as they are.

        At bfloat16, too: oneDNN's convolution in groups of eight channels is wrong there (torch 2.13).
        """
        kernel = (
            self.weight.detach().float().view(GROUPS, -1, *self.weight.shape[1:])
        )  # (groups, out, in, KERNEL)
        found = torch.fft.rfft(kernel, STRETCH).conj().resolve_conj()
        self.spectrum = found.permute(0, 3, 2, 1).contiguous()  # (groups, frequencies, in, out)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (batch, frames, width) of the same."""
        if self.spectrum is not None:
            return self._quickly(hidden, self.spectrum)
        return super().forward(hidden.transpose(1, 2))[:, :, : hidden.shape[1]].transpose(1, 2)

    def _quickly(self, hidden: Tensor, spectrum: Tensor) -> Tensor:
        batch, frames, width = hidden.shape
        spectra = _stretches(hidden.float())
        count = spectra.shape[1]
        by_group = spectra.view(batch, count, GROUPS, width // GROUPS, -1).permute(2, 4, 0, 1, 3)
        product = by_group.flatten(2, 3) @ spectrum  # (groups, frequencies, batch × stretches, out)
        back = product.permute(2, 0, 3, 1).reshape(batch, count, width, -1)
        placed = torch.fft.irfft(back, STRETCH)[..., :NEW].transpose(2, 3).flatten(1, 2)
        there: Tensor = placed[:, :frames].to(hidden.dtype) + self.bias
        return there


def _stretches(hidden: Tensor) -> Tensor:
    """Return the spectra of stretches of which each begins `NEW` frames after the one before.

    Args:
        hidden: (batch, frames, width).

    Returns:
        of shape (batch, stretches, width, frequencies).
    """
    count = -(-hidden.shape[1] // NEW)
    before, behind = KERNEL // 2, count * NEW + KERNEL // 2 - 1 - hidden.shape[1]
    cut = functional.pad(hidden, (0, 0, before, behind)).unfold(1, STRETCH, NEW)
    spectra: Tensor = torch.fft.rfft(cut)
    return spectra
