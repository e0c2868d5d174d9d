from pathlib import Path

import pytest

from mosel.core.errors import FileError
from mosel.offline.journal import Journal, Scored, Timed, journal_path

ENTRIES: list[Timed | Scored] = [Timed([("ear@float32", 2, [5, 6])]), Scored("ear@float32", 0, [1.0, 0.5])]


def written(path: Path, key: dict[str, object]) -> None:
    """Leave a journal with all entries, as an interrupted run does."""
    journal = Journal(path, key)
    for entry in ENTRIES:
        journal.add(entry)
    journal.close()


def entries(path: Path, key: dict[str, object]) -> list[Timed | Scored]:
    """What a run that starts with this key finds."""
    journal = Journal(path, key)
    journal.close()
    return journal.entries


def test_entries_come_back_under_the_same_key(tmp_path: Path) -> None:
    """An interrupted run goes on with what it had, however often it is interrupted."""
    written(tmp_path / "j", {"model": "m", "threads": 1})
    for _ in range(2):
        assert entries(tmp_path / "j", {"threads": 1, "model": "m"}) == ENTRIES


def test_another_key_starts_afresh(tmp_path: Path) -> None:
    """What was measured of another model or on another device is of no use."""
    written(tmp_path / "j", {"model": "m"})
    assert entries(tmp_path / "j", {"model": "n"}) == []


@pytest.mark.parametrize("tail", ['{"type":"timed","cel', "\x00\x00", '{"type":"other"}'])
def test_a_line_cut_short_is_dropped_with_what_follows(tmp_path: Path, tail: str) -> None:
    """Whole lines before it are kept."""
    path = tmp_path / "j"
    written(path, {})
    path.write_text(path.read_text() + tail)
    assert entries(path, {}) == ENTRIES


def test_a_journal_that_is_no_text_is_replaced(tmp_path: Path) -> None:
    """Rubbish is another key."""
    (tmp_path / "j").write_bytes(b"\xff\xfe\x00")
    assert entries(tmp_path / "j", {}) == []


def test_a_finished_run_leaves_no_journal(tmp_path: Path) -> None:
    """The file is gone, and removing it twice is no error."""
    journal = Journal(tmp_path / "j", {})
    journal.remove()
    journal.remove()
    assert not (tmp_path / "j").exists()


def test_without_a_path_nothing_is_kept() -> None:
    """A profile that is not written needs no journal."""
    journal = Journal(None, {})
    journal.add(ENTRIES[0])
    journal.remove()
    assert journal.entries == []


def test_a_folder_that_cannot_be_written_is_a_file_error(tmp_path: Path) -> None:
    """The message names the journal."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"p\.json\.partial: cannot be written"):
        Journal(journal_path(tmp_path / "file" / "p.json"), {})
