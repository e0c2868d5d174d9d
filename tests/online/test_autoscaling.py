from pathlib import Path

from mosel.online.autoscaling import AskTogether, write_wishes


def test_processes_ask_for_the_workers_of_all(tmp_path: Path) -> None:
    """Each wish is for those of the others too, at first as many as they began with; the last wish counts."""
    write_wishes(tmp_path / "wishes", [2, 3])
    asked: list[int] = []
    one, other = (AskTogether(tmp_path / "wishes", own, asked.append) for own in (0, 1))
    one(4)
    other(5)
    one(1)
    assert asked == [7, 9, 6]
