import json
from pathlib import Path

import numpy as np
import pytest

from mosel.core.errors import FileError
from mosel.models.base import Samples
from mosel.models.datasets import with_data
from mosel.models.datasets.mmimdb import NAMES
from mosel.models.vilt import vilt
from tests.models.datasets import made


def small(folder: Path, texts: str = "dataset", posters: str = "dataset") -> None:
    """Three films of the test split, one of them of no genre that counts."""
    (folder / texts).mkdir()
    (folder / "split.json").write_text(
        json.dumps({"train": ["9"], "dev": [], "test": ["0001", "0002", "0003"]})
    )
    for number, genres in (("0001", ["Drama", "War"]), ("0002", ["Film-Noir", "News"]), ("0003", ["Adult"])):
        film = {"plot": ["Short.", "The longer plot."], "genres": genres, "title": "T"}
        (folder / texts / f"{number}.json").write_text(json.dumps(film))
        made.picture(folder / posters / f"{number}.jpeg", 90)


def samples_of(folder: Path) -> Samples:
    """Return the samples that are read."""
    found = with_data(vilt("small"), f"mmimdb:{folder}").samples
    assert found is not None
    return found()


@pytest.mark.parametrize("folders", [("dataset", "dataset"), ("labels", "images")])
def test_films_have_their_longest_plot_their_poster_and_their_genres(
    tmp_path: Path, folders: tuple[str, str]
) -> None:
    """Genres stand in the data set's order; a film without any of them is left out; two layouts are known."""
    small(tmp_path, *folders)
    samples = samples_of(tmp_path)
    assert [np.flatnonzero(row).tolist() for row in samples.labels] == [[0, NAMES.index("War")], [22]]
    assert bytes(samples.inputs["text"]["text"][0]) == b"The longer plot."
    assert bytes(samples.inputs["image"]["image"][1]).startswith(b"\xff\xd8")
    assert len(NAMES) == len(set(NAMES)) == samples.labels.shape[1]


def test_what_is_no_such_folder_is_refused(tmp_path: Path) -> None:
    """The published HDF5 holds no words, and says so; a damaged film is named."""
    with pytest.raises(FileError, match=r"expected split\.json and dataset/"):
        samples_of(tmp_path)
    (tmp_path / "multimodal_imdb.hdf5").write_bytes(b"")
    with pytest.raises(FileError, match="holds numbers of words whose list is in a pickle"):
        samples_of(tmp_path)
    small(tmp_path)
    (tmp_path / "dataset" / "0002.json").write_text("{")
    with pytest.raises(FileError, match=r"0002\.json: .*as MM-IMDb is published"):
        samples_of(tmp_path)
