"""Files, written atomically and read with a limit. What stands in them is said elsewhere (`core/tables.py`)."""

import hashlib
import os
import resource
import tempfile
from pathlib import Path

from mosel.core.errors import FileError

READ_LIMIT_BYTES = 1 << 30


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` through a temporary file, fsync and rename, so that no reader sees half of it.

    Raises:
        FileError: the folder cannot be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_bytes(path: Path, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
    """Return the content of `path`.

    Raises:
        FileError: it is missing, is no file, cannot be read, or holds more than `limit_bytes`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > limit_bytes:
        raise FileError(f"{path}: holds more than {limit_bytes:,} bytes; is it the right file?")
    return raw


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def allow_open_files() -> None:
    """Let this process hold as many files and connections open as it may; shells usually start with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cache_dir() -> Path:
    """Return the folder in which mosel keeps profiles between runs (`MOSEL_CACHE`, or the XDG cache)."""
    if given := os.environ.get("MOSEL_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mosel"
