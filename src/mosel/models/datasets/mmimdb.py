"""MM-IMDb for ViLT: posters and plots of films with their genres.

DIR/split.json            {"train": […], "dev": […], "test": [numbers of films]}
DIR/dataset/NUMBER.json   with `plot` (a list of texts) and `genres` (a list of names); or labels/NUMBER.json
DIR/dataset/NUMBER.jpeg   the poster; or images/NUMBER.jpeg
"""

from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mosel.core.errors import FileError
from mosel.core.files import read_bytes
from mosel.models.base import Model, Samples
from mosel.models.datasets.metrics import GENRES
from mosel.models.datasets.reading import TABLE_BYTES, Labelled, Lazy, absent, first, plain
from mosel.models.vilt import IMAGE_BYTES, TEXT_BYTES

NAMES = (
    "Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary",
    "Mystery", "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation", "Musical",
    "Western", "Sport", "Short", "Film-Noir",
)  # fmt: skip
"""The 23 genres in the data set's own order, the most frequent first."""

T = TypeVar("T")

FILM_BYTES = 16 << 20
HDF5 = "multimodal_imdb.hdf5"


class _Film(msgspec.Struct):
    """What of a film is read; there is much else."""

    plot: list[str] = []
    genres: list[str] = []


class _Split(msgspec.Struct):
    test: list[str | int]


def read(folder: Path, model: Model) -> Labelled:  # noqa: ARG001  (one size is as the other here)
    """Return the test films of MM-IMDb with one of the 23 genres and a plot, the longest of its plots.

    Raises:
        FileError: the folder is not as published.
    """
    split = folder / "split.json"
    if not split.exists():
        raise absent(folder, f"split.json and dataset/, the raw files{_instead(folder)}")
    numbers = [plain(split, str(number)) for number in _decoded(split, _Split, TABLE_BYTES).test]
    found = {
        number: _decoded(_file(folder, f"dataset/{number}.json", f"labels/{number}.json"), _Film, FILM_BYTES)
        for number in numbers
    }
    films = {n: film for n, film in found.items() if _plot(film).size and set(film.genres) & set(NAMES)}
    if not films:
        raise FileError(f"{split}: no film of its test split has a plot and one of the 23 genres")
    posters = [_file(folder, f"dataset/{number}.jpeg", f"images/{number}.jpeg") for number in films]
    samples = Samples(
        {
            "text": {"text": [_plot(film) for film in films.values()]},
            "image": {"image": Lazy(len(posters), lambda index: _bytes(posters[index]))},
        },
        np.array([[name in film.genres for name in NAMES] for film in films.values()], np.int64),
        f"MM-IMDb, {len(films):,} films of its test split",
    )
    return Labelled(samples, GENRES)


def _file(folder: Path, published: str, sorted_out: str) -> Path:
    """Return the file as published, or where it lies once posters and texts are sorted into two folders."""
    return first(folder, published, sorted_out) or folder / published


def _instead(folder: Path) -> str:
    if not (folder / HDF5).exists():
        return ""
    return f"; {HDF5} holds numbers of words whose list is in a pickle, which is never opened here"


def _plot(film: _Film) -> NDArray[np.uint8]:
    longest = max(film.plot, key=len, default="").strip()
    return np.frombuffer(longest.encode()[:TEXT_BYTES], np.uint8)


def _bytes(path: Path) -> NDArray[np.uint8]:
    return np.frombuffer(read_bytes(path, IMAGE_BYTES), np.uint8)


def _decoded(path: Path, kind: type[T], limit_bytes: int) -> T:
    try:
        return msgspec.json.decode(read_bytes(path, limit_bytes), type=kind)
    except msgspec.DecodeError as error:
        raise FileError(f"{path}: {error}; expected it as MM-IMDb is published") from error
