import pytest
import torch

from mosel.models.avhubert.positions import NEW, Positions
from mosel.models.checkpoints import seeded

WIDTH = 32


@pytest.mark.parametrize("frames", [1, 63, NEW - 1, NEW, NEW + 1, 256, 500])
def test_the_spectrum_gives_what_the_convolution_gives(frames: int) -> None:
    """At any length, one stretch or several, and for each clip of a batch."""
    plain, quick = (seeded(lambda: Positions(WIDTH), 0) for _ in range(2))
    torch.nn.init.normal_(plain.bias)  # type: ignore[arg-type]
    quick.load_state_dict(plain.state_dict())
    quick.by_spectrum()
    hidden = torch.randn(2, frames, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = quick(hidden)
        torch.testing.assert_close(found, plain(hidden), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[1:], quick(hidden[1:]), atol=1e-5, rtol=1e-5)


def test_the_spectrum_is_no_part_of_the_weights() -> None:
    """What is kept and loaded is the convolution alone."""
    quick = Positions(WIDTH)
    quick.by_spectrum()
    assert set(quick.state_dict()) == {"weight", "bias"}


def test_at_bfloat16_the_spectrum_is_that_of_float32() -> None:
    """In groups of eight channels, as the small size has them: rounded, and no worse."""
    plain, quick = (seeded(lambda: Positions(128), 0) for _ in range(2))
    quick.to(torch.bfloat16).by_spectrum()
    hidden = torch.randn(1, 60, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = quick(hidden.to(torch.bfloat16)), plain(hidden)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.02 * float(expected.abs().max()), rtol=0)
