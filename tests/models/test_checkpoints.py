import pickle
from pathlib import Path

import pytest
import torch

from mosel.core.errors import FileError
from mosel.models.checkpoints import read_state
from mosel.models.loading import version_of


class Payload:
    """Something that a pickle would build by running code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return what an attacker would: a call."""
        return (print, ("code ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that holds more than tensors is refused, and told how to make one that does not."""
    torch.save({"model": {}, "args": Payload()}, tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"a.pt: .*could run code.*torch.save\(torch.load"):
        read_state(tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", pickle.dumps([1, 2], 2)])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """Nothing, noise, and a plain pickle; the file is named."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=name):
        read_state(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Both when it is read and when its version is asked for."""
    for read in (read_state, lambda path: version_of(path, 0)):
        with pytest.raises(FileError, match=r"none.pt: cannot be read: No such file"):
            read(tmp_path / "none.pt")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    """A sparse file of nine gigabytes is refused by its size."""
    with (tmp_path / "huge.pt").open("wb") as file:
        file.truncate(9 << 30)
    with pytest.raises(FileError, match="expected a checkpoint of at most"):
        read_state(tmp_path / "huge.pt")


def test_a_state_dict_may_stand_inside(tmp_path: Path) -> None:
    """Under `state_dict` or `model`, or at the top."""
    state = {"a": torch.ones(2)}
    for inside in (state, {"state_dict": state, "epoch": 3}, {"model": state}):
        torch.save(inside, tmp_path / "a.pt")
        assert list(read_state(tmp_path / "a.pt")) == ["a"]


@pytest.mark.parametrize("content", [{}, {"a": 1}, [torch.ones(1)]])
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    """An empty mapping, numbers, a list."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"a.pt: holds no state dict"):
        read_state(tmp_path / "a.pt")


def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    """Equal files have equal versions, other files and other seeds others."""
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (version_of(tmp_path / name, 0) for name in "abc")
    assert a == b != c
    assert version_of(None, 1) != version_of(None, 2)
