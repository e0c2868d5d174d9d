"""Sound and frames of media files, decoded by PyAV up to a limit.

PyAV is an optional extra, and is imported when the first file is opened.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError, ModelError

MOST_FRAMES = 200_000
"""Of a file: an hour at 50 a second."""

LARGEST_PIXELS = 1 << 23
"""Of a frame."""

NEEDED = "run: pip install 'mosel[datasets]'"


def sound(path: Path, rate_hz: int, most: int) -> NDArray[np.float32]:
    """Return the first `most` samples of a file's sound, one channel from −1 to 1 at `rate_hz`.

    Raises:
        FileError: it cannot be read, is damaged, or holds no sound.
        ModelError: PyAV is not installed.
    """
    parts: list[NDArray[np.float32]] = []
    held = 0
    with _opened(path) as (av, container):
        if not container.streams.audio:
            raise FileError(f"{path}: holds no sound")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        for part in _resampled(container, resampler):
            parts.append(part)
            held += len(part)
            if held >= most:
                break
    if not held:
        raise FileError(f"{path}: its sound is empty")
    return np.clip(np.concatenate(parts)[:most], -1, 1)


def frames(
    path: Path, wanted: Callable[[int], Sequence[int]], *, grey: bool = False, rate_hz: int = 0
) -> NDArray[np.uint8]:
    """Return some frames of a file: red, green and blue of shape (frames, height, width, 3), or grey without 3.

    Args:
        path: of the file.
        wanted: of how many frames there are, the numbers of those to return, ascending; repeats are allowed.
        grey: levels of grey instead of colours.
        rate_hz: frames a second that the file has to have; 0 where any will do.

    Raises:
        FileError: it cannot be read, is damaged, holds no picture or a larger one than is read, or has another
            rate.
        ModelError: PyAV is not installed.
    """
    chosen = list(wanted(_count(path, rate_hz)))
    needed, found = set(chosen), {}
    with _opened(path) as (_, container):
        for index, frame in enumerate(container.decode(video=0)):
            if index in needed:
                found[index] = frame.to_ndarray(format="gray" if grey else "rgb24")
            if len(found) == len(needed):
                break
    if len(found) < len(needed):
        raise FileError(f"{path}: ends before frame {max(needed)}: it is damaged")
    return np.stack([found[index] for index in chosen])


def _count(path: Path, rate_hz: int) -> int:
    """Return how many frames there are, without decoding any."""
    with _opened(path) as (_, container):
        if not container.streams.video:
            raise FileError(f"{path}: holds no picture")
        stream = container.streams.video[0]
        if not 1 <= stream.width * stream.height <= LARGEST_PIXELS:
            size = f"{stream.width} × {stream.height}"
            raise FileError(f"{path}: frames of {size}; expected at most {LARGEST_PIXELS:,} pixels")
        if rate_hz and stream.average_rate != rate_hz:
            rate = float(stream.average_rate or 0)
            raise FileError(f"{path}: {rate:g} frames a second; expected {rate_hz}: convert it first")
        count = sum(1 for packet in container.demux(stream) if packet.size)
    if not 1 <= count <= MOST_FRAMES:
        raise FileError(f"{path}: {count:,} frames; expected 1 to {MOST_FRAMES:,}")
    return count


def _resampled(container: Any, resampler: Any) -> Iterator[NDArray[np.float32]]:
    for frame in container.decode(audio=0):
        for part in resampler.resample(frame):
            yield part.to_ndarray()[0]
    for part in resampler.resample(None):
        yield part.to_ndarray()[0]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise ModelError(f"{path}: cannot be decoded: {error}; {NEEDED}") from error
    try:
        # Only local files: a playlist that names an address is not followed.
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            yield av, container
    except (av.error.FFmpegError, OSError) as error:
        raise FileError(f"{path}: cannot be decoded: {error}") from error
