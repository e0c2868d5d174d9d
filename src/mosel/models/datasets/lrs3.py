"""LRS3-TED for AV-HuBERT: clips at 25 frames a second with what is said in them.

DIR/test/SPEAKER/CLIP.mp4, CLIP.txt     as published: faces of 224 × 224; `Text:  WHAT IS SAID`
DIR/video/test/SPEAKER/CLIP.mp4         mouths of 96 × 96, as AV-HuBERT's authors prepare them, and
DIR/audio/test/SPEAKER/CLIP.wav         their sound; the transcripts stay where they are
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.models.avhubert import word_score
from mosel.models.avhubert.preprocess import RATE_HZ, SAMPLES_A_FRAME, SIDES
from mosel.models.avhubert.shape import FRAMES_HZ, SHAPES
from mosel.models.base import Model, Samples
from mosel.models.datasets.media import frames, sound
from mosel.models.datasets.metrics import words
from mosel.models.datasets.reading import Labelled, Lazy, absent, present

TEXT = "Text:"
TEXT_BYTES = 1 << 20
FACE = 224
MOUTH = (slice(112, 208), slice(64, 160))
"""Where the mouth is in a published face, near enough; with landmarks it is found better."""


@dataclass(frozen=True, slots=True)
class _Clip:
    video: Path
    audio: Path
    text: str


def read(folder: Path, model: Model) -> Labelled:
    """Return the test clips of LRS3, transcripts in lower case as AV-HuBERT writes.

    Raises:
        FileError: there is no `test` folder with clips, or a transcript is none.
    """
    shape = SHAPES["base" if model.name == "avhubert" else model.name.removeprefix("avhubert-")]
    clips = [_clip(folder, transcript) for transcript in sorted((folder / "test").glob("*/*.txt"))]
    if not clips:
        raise absent(folder, "test/SPEAKER/CLIP.mp4 with CLIP.txt, as LRS3 is published")
    ones = np.ones((len(clips), 1), np.int32)
    most = shape.most_frames
    waves = Lazy(len(clips), lambda i: present(sound(clips[i].audio, RATE_HZ, most * SAMPLES_A_FRAME)))
    mouths = Lazy(len(clips), lambda i: _mouth(clips[i].video, most))
    samples = Samples(
        {
            "audio": {"audio": waves, "audio_rate": ones * RATE_HZ},
            "video": {"video": mouths, "video_rate": ones * FRAMES_HZ},
        },
        np.array([clip.text for clip in clips]),
        f"LRS3, {len(clips):,} clips of its test split",
    )
    return Labelled(samples, words(word_score))


def _clip(folder: Path, transcript: Path) -> _Clip:
    published = transcript.with_suffix(".mp4")
    inside = published.relative_to(folder)
    mouth, wave = folder / "video" / inside, (folder / "audio" / inside).with_suffix(".wav")
    return _Clip(
        mouth if mouth.exists() else published, wave if wave.exists() else published, _said(transcript)
    )


def _said(transcript: Path) -> str:
    lines = read_bytes(transcript, TEXT_BYTES).decode(errors="replace").splitlines()
    said = lines[0].removeprefix(TEXT).split() if lines and lines[0].startswith(TEXT) else []
    if not said:
        raise FileError(f"{transcript}: expected a first line `{TEXT}` and what is said")
    return " ".join(said).lower()


def _mouth(path: Path, most: int) -> NDArray[np.uint8]:
    """Return (frames, side, side)."""

    def wanted(count: int) -> range:
        if count > most:
            raise FileError(f"{path}: {count} frames; the model takes at most {most}")
        return range(count)

    found = frames(path, wanted, grey=True, rate_hz=FRAMES_HZ)
    height, width = found.shape[1:]
    if (height, width) == (FACE, FACE):
        return present(np.ascontiguousarray(found[:, *MOUTH]))
    if height != width or height not in SIDES:
        raise FileError(
            f"{path}: frames of {height} × {width}; expected published faces of {FACE} × {FACE}, or mouths of "
            + " or ".join(f"{side} × {side}" for side in SIDES)
        )
    return present(found)
