"""EPIC-KITCHENS-100 for TBN: annotated actions, frames, optical flow and sound.

DIR/EPIC_100_validation.csv               the annotations; or annotations/EPIC_100_validation.csv
DIR/PERSON/rgb_frames/VIDEO/frame_0000000001.jpg
DIR/PERSON/flow_frames/VIDEO/u/frame_0000000001.jpg and v/…   as published and unpacked, or
DIR/frames/VIDEO/img_0000000000.jpg, x_…, y_…                 as TBN's scripts link them, counted from 0
DIR/audio/VIDEO.wav                       or DIR/EPIC_audio.hdf5, at 24 kHz
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError, ModelError
from mosel.core.files import read_bytes
from mosel.models.base import Model, Samples
from mosel.models.datasets.media import NEEDED, sound
from mosel.models.datasets.metrics import ACTIONS
from mosel.models.datasets.reading import Labelled, Lazy, absent, first, number, plain, present, table
from mosel.models.images import BYTES_LIMIT, read_image
from mosel.models.tbn.preprocess import AUDIO_SAMPLES, RATE_HZ
from mosel.models.tbn.shape import FLOW_CHANNELS

ANNOTATIONS = "EPIC_100_validation.csv"
COLUMNS = ("video_id", "start_frame", "stop_frame", "verb_class", "noun_class")
STACK = FLOW_CHANNELS // 2
MOST_SAMPLES = 4 * 3600 * RATE_HZ
INSTEAD = (
    f"TBN's EPIC_val_action_labels.pkl is made of the published table: put {ANNOTATIONS} here; in place of "
    "audio_dict.pkl the folder audio/ that it was made of."
)


@dataclass(frozen=True, slots=True)
class _Action:
    """One annotated action; frames are counted from 1, `stop` is its last."""

    video: str
    start: int
    stop: int
    labels: tuple[int, int]

    @property
    def later(self) -> bool:
        """Whether it was filmed for EPIC-KITCHENS-100: those videos have three digits, 50 frames a second."""
        return len(self.video.rpartition("_")[2]) == 3

    @property
    def rate_hz(self) -> int:
        """Frames a second."""
        return 50 if self.later else 60

    @property
    def flow(self) -> tuple[int, int]:
        """First and last frame of flow: of earlier videos there is one for two frames of picture."""
        halves = (self.start + 1) // 2, (self.stop + 1) // 2
        return (self.start, self.stop) if self.later else halves


def read(folder: Path, model: Model) -> Labelled:
    """Return the validation actions of EPIC-KITCHENS-100, whose test labels are not public.

    Raises:
        FileError: the annotations are missing, or are none.
    """
    path = first(folder, ANNOTATIONS, f"annotations/{ANNOTATIONS}")
    if path is None:
        raise absent(folder, f"{ANNOTATIONS} with the frames and the sound", INSTEAD)
    actions = [_action(path, row) for row in table(path, COLUMNS)]
    if not actions:
        raise FileError(f"{path}: annotates no action")
    (count, *_), n = model.modality("rgb").inputs[0].shape, len(actions)
    samples = Samples(
        {
            "rgb": {"rgb": Lazy(n, lambda i: present(_rgb(folder, actions[i], count)))},
            "flow": {"flow": Lazy(n, lambda i: present(_flow(folder, actions[i], count)))},
            "audio": {
                "audio": Lazy(n, lambda i: present(_audio(folder, actions[i], count))),
                "audio_rate": np.full((n, 1), RATE_HZ, np.int32),
            },
        },
        np.array([action.labels for action in actions]),
        f"EPIC-KITCHENS-100, {n:,} actions of its validation split",
    )
    return Labelled(samples, ACTIONS)


def moments(first_frame: int, last_frame: int, stack: int, segments: int) -> NDArray[np.int64]:
    """Return in the middle of each of so many equal parts a frame that `stack` − 1 others follow."""
    tick = max(0, last_frame - first_frame - stack + 1) / segments
    return first_frame + (tick / 2 + tick * np.arange(segments)).astype(np.int64)


def _action(path: Path, row: dict[str, str]) -> _Action:
    start, stop, verb, noun = (int(number(path, row, column)) for column in COLUMNS[1:])
    if not 1 <= start <= stop:
        raise FileError(f"{path}: an action from frame {start} to {stop}; expected 1 <= start <= stop")
    return _Action(plain(path, row["video_id"]), start, stop, (verb, noun))


def _rgb(folder: Path, action: _Action, segments: int) -> NDArray[np.uint8]:
    person = action.video.split("_")[0]
    names = f"{person}/rgb_frames/{action.video}/frame", f"frames/{action.video}/img"
    chosen = moments(action.start, action.stop, 1, segments)
    return np.stack([np.asarray(_picture(folder, names, n)) for n in chosen])


def _flow(folder: Path, action: _Action, segments: int) -> NDArray[np.uint8]:
    """Return (segments, FLOW_CHANNELS, height, width), x and y in turn."""
    begin, end = action.flow
    person = action.video.split("_")[0]
    names = [
        (f"{person}/flow_frames/{action.video}/{uv}/frame", f"frames/{action.video}/{xy}")
        for uv, xy in (("u", "x"), ("v", "y"))
    ]
    stacks = [
        [
            np.asarray(_picture(folder, name, min(n + k, end)).convert("L"))
            for k in range(STACK)
            for name in names
        ]
        for n in moments(begin, end, STACK, segments)
    ]
    return np.array(stacks, np.uint8)


def _picture(folder: Path, names: tuple[str, str], frame: int) -> Any:
    """Return a frame, counted from 1, of the published files or of TBN's links, which are counted from 0."""
    published, linked = names
    candidates = f"{published}_{frame:010d}.jpg", f"{linked}_{frame - 1:010d}.jpg"
    path = first(folder, *candidates)
    if path is None:
        raise FileError(f"{folder}: expected {' or '.join(candidates)}")
    try:
        return read_image(np.frombuffer(read_bytes(path, BYTES_LIMIT), np.uint8), 0)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error


def _audio(folder: Path, action: _Action, segments: int) -> NDArray[np.float32]:
    """Return (segments, AUDIO_SAMPLES), around each moment as far as the video goes."""
    chosen = moments(action.start, action.stop, 1, segments)
    wave = _wave(folder, action.video)
    middles = ((chosen - 1) / action.rate_hz * RATE_HZ).astype(int)
    starts = np.clip(middles - AUDIO_SAMPLES // 2, 0, max(0, len(wave) - AUDIO_SAMPLES))
    short = np.pad(wave, (0, max(0, AUDIO_SAMPLES - len(wave))))
    return np.stack([short[start : start + AUDIO_SAMPLES] for start in starts])


def _wave(folder: Path, video: str) -> NDArray[np.float32]:
    if (path := folder / "audio" / f"{video}.wav").exists():
        return sound(path, RATE_HZ, MOST_SAMPLES)
    path = folder / "EPIC_audio.hdf5"
    if not path.exists():
        raise absent(folder, f"audio/{video}.wav, or EPIC_audio.hdf5", INSTEAD)
    try:
        import h5py
    except ImportError as error:
        raise ModelError(f"{path}: cannot be read: {error}; {NEEDED}") from error
    try:
        with h5py.File(path, "r") as file:
            samples = file[video]
            if samples.ndim != 1 or not 1 <= len(samples) <= MOST_SAMPLES:
                raise ValueError(f"video {video} has shape {samples.shape}; expected samples of one channel")
            return np.clip(np.asarray(samples[()], np.float32), -1, 1)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path}: video {video} cannot be read: {error}") from error
