import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mosel.core import files
from mosel.core.errors import FileError


def test_written_file_reads_back(tmp_path: Path) -> None:
    """What is written, bytes or text, reads back as the same bytes; missing folders are made."""
    path = tmp_path / "a" / "b" / "file.json"
    files.write_atomic(path, "𝒟")
    assert files.read_bytes(path) == "𝒟".encode()
    files.write_atomic(path, b"\x00\xff")
    assert files.read_bytes(path) == b"\x00\xff"


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails half-way the former content stands and no temporary file stays behind."""
    path = tmp_path / "file"
    files.write_atomic(path, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        files.write_atomic(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_may_be_read_by_others(tmp_path: Path) -> None:
    """The temporary file's private permissions do not stay on the result."""
    files.write_atomic(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A path below a plain file cannot be written, and the message names it."""
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(FileError, match="cannot be written") as caught:
        files.write_atomic(tmp_path / "plain" / "file", b"")
    assert str(tmp_path / "plain" / "file") in str(caught.value)


def test_missing_file_and_folder_are_one_line(tmp_path: Path) -> None:
    """What is missing or is no file cannot be read, and the message names it."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileError, match="cannot be read") as caught:
            files.read_bytes(path)
        assert str(path) in str(caught.value)


def test_reading_has_a_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read, one byte more is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_bytes(path, limit_bytes=5) == b"12345"
    with pytest.raises(FileError, match="more than 4 bytes"):
        files.read_bytes(path, limit_bytes=4)


def test_sha256_is_the_standard_one() -> None:
    """The hash of nothing is the published SHA-256 of the empty string."""
    assert files.sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MOSEL_CACHE wins over XDG_CACHE_HOME, which wins over ~/.cache."""
    monkeypatch.setenv("MOSEL_CACHE", "/given")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_dir() == Path("/given")
    monkeypatch.delenv("MOSEL_CACHE")
    assert files.cache_dir() == Path("/xdg/mosel")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_dir() == Path.home() / ".cache" / "mosel"


def test_connections_are_limited_by_what_the_system_allows() -> None:
    """A process that was started with a low limit raises its own as far as it may."""
    code = (
        "import resource; from mosel.core.files import allow_open_files; kind = resource.RLIMIT_NOFILE;"
        "most = resource.getrlimit(kind)[1]; resource.setrlimit(kind, (64, most));"
        "allow_open_files(); assert resource.getrlimit(kind) == (most, most) != (64, most)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
