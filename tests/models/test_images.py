import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mosel.models import images
from mosel.models.images import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def encoded(pixels: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """Return pixels as the bytes of a file."""
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, pixels)
    else:
        Image.fromarray(pixels).save(stream, kind)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "npy"])
def test_pixels_come_back_as_they_were(kind: str) -> None:
    """Formats without loss give what was written; bytes behind the file are passed over."""
    file = np.concatenate([encoded(PIXELS, kind), np.zeros(100, np.uint8)])
    assert np.array_equal(np.asarray(read_image(file, 0)), PIXELS)


def test_every_format_is_read_as_red_green_and_blue() -> None:
    """JPEG, WebP, and an image in grey."""
    for kind in ("JPEG", "WEBP"):
        assert np.asarray(read_image(encoded(PIXELS, kind), 0)).shape == (20, 30, 3)
    assert np.asarray(read_image(encoded(PIXELS[:, :, 0], "PNG"), 0)).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (encoded(PIXELS, "PNG")[:-200], "request 3 is no image that can be read"),
        (encoded(PIXELS, "JPEG")[:-200], "truncated"),
        (encoded(PIXELS, "npy")[:-5], "request 3 is no image that can be read"),
        (encoded(PIXELS, "TIFF"), "expected a file of JPEG, PNG, WEBP, BMP, GIF, or a .npy array"),
        (encoded(PIXELS[0], "npy"), r"an array of type uint8 and shape (30, 3)"),
        (encoded(PIXELS.astype(np.float32), "npy"), "an array of type float32"),
        (np.zeros(1, np.uint8), "expected a file of"),
    ],
)
def test_what_is_no_image_is_refused(file: NDArray[np.uint8], words: str) -> None:
    """The message names the request and what was found or expected."""
    with pytest.raises(ValueError, match="request 3") as raised:
        read_image(file, 3)
    assert words in str(raised.value)


@pytest.mark.parametrize("kind", ["PNG", "npy"])
def test_a_large_image_is_refused_by_its_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is decoded: the file need not even be whole."""
    monkeypatch.setattr(images, "PIXELS_LIMIT", 599)
    with pytest.raises(ValueError, match="30 x 20 pixels; expected at most 599 in all"):
        read_image(encoded(PIXELS, kind)[:150], 0)
