"""From the bytes of an image file to its pixels, with limits checked before anything is decoded.

What raises here names no modality: `prepare` does. Torch is not needed here.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

BYTES_LIMIT = 16 << 20
PIXELS_LIMIT = 1 << 25
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
ARRAY = b"\x93NUMPY"
"""How an array in numpy's own format begins."""

DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
"""What reading raises of a file that is no image, is damaged, or is far too large."""

MARKED = (b"\xff\xd8", b"\x89PNG", b"GIF8")
"""How files begin that end with a mark, never with a byte of 0.

Others (WebP, BMP, arrays) may: what was cut off and filled up can look like one of them that is whole.
"""


def read_image(file: NDArray[np.uint8], request: int) -> Image.Image:
    """Return the image in a file, in red, green and blue; bytes of 0 behind it are passed over.

    Args:
        file: of shape (bytes,): an image file of `FORMATS`, or an array of numpy's format (`.npy`), UINT8 of
            shape (height, width, 3).
        request: its number, for errors.

    Raises:
        ValueError: it is none of these, is damaged, or has more than `PIXELS_LIMIT` pixels.
    """
    raw = file.tobytes()
    try:
        return _of_array(raw) if raw.startswith(ARRAY) else _of_file(raw)
    except DAMAGED as error:
        raise ValueError(f"request {request} is no image that can be read: {_reason(error)}") from error


def _of_array(raw: bytes) -> Image.Image:
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"an array of format version {version}; expected (1, 0)")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"an array of type {dtype} and shape {shape}; expected uint8 of (height, width, 3)")
    _check_size(shape[1], shape[0])
    stream.seek(0)
    return Image.fromarray(np.ascontiguousarray(np.lib.format.read_array(stream, allow_pickle=False)))


def _of_file(raw: bytes) -> Image.Image:
    # To a JPEG that was cut off, what fills it up would be grey pixels.
    whole = raw.rstrip(b"\0") if raw.startswith(MARKED) else raw
    with Image.open(io.BytesIO(whole), formats=FORMATS) as image:
        _check_size(*image.size)
        return image.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if not 1 <= width * height <= PIXELS_LIMIT:
        raise ValueError(f"{width} x {height} pixels; expected at most {PIXELS_LIMIT:,} in all")


def _reason(error: Any) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"expected a file of {', '.join(FORMATS)}, or a .npy array"
    return str(error)
