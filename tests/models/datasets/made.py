"""Small data sets in the layouts in which the large ones are published, made for a test."""

import csv
import io
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
RNG_SEED = 7


def video(path: Path, levels: list[int], *, side: int = 64, rate_hz: int = 25) -> None:
    """Write a clip whose frames are each of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate_hz))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for level in levels:
            pixels = np.full((side, side, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def tone(seconds: float, rate_hz: int, hz: float = 440) -> NDArray[np.float32]:
    """Return a sine at half of full scale."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def sound(path: Path, samples: Array, rate_hz: int) -> None:
    """Write a waveform as 16-bit samples of one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())


def table(path: Path, header: str, *rows: tuple[Any, ...]) -> None:
    """Write a comma-separated file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    path.write_text(text.getvalue())


def picture(path: Path, level: int, size: tuple[int, int] = (64, 48)) -> None:
    """Write an image of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
