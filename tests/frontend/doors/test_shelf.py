from pathlib import Path

import pytest

from mosel.core.clock import to_ns
from mosel.core.errors import RefusedError
from mosel.frontend.doors.shelf import SharedShelf, write_shelf
from mosel.frontend.quotas import Quotas

RATES = {"gold": 10.0, "tin": 1.0}


def test_groups_take_from_the_same_buckets(tmp_path: Path) -> None:
    """What one group let in is not there for another, whichever a tenant's jobs go to."""
    write_shelf(tmp_path / "quotas", list(RATES.values()))
    with SharedShelf(tmp_path / "quotas") as first, SharedShelf(tmp_path / "quotas") as second:
        one, other = Quotas(RATES, first), Quotas(RATES, second)
        one.take("gold", 15, 0)
        with pytest.raises(RefusedError, match="10 requests a second") as caught:
            other.take("gold", 6, 0)
        assert caught.value.retry_after_s == pytest.approx(0.1)
        other.take("gold", 5, 0)
        other.take("tin", 2, 0)
        with pytest.raises(RefusedError):
            one.take("gold", 1, 0)
        one.take("gold", 10, to_ns(1))
        with pytest.raises(RefusedError):
            other.take("gold", 1, to_ns(1))


def test_a_server_without_quotas_has_none_in_groups(tmp_path: Path) -> None:
    """Nobody is kept out."""
    write_shelf(tmp_path / "quotas", [])
    with SharedShelf(tmp_path / "quotas") as shelf:
        Quotas({}, shelf).take("tin", 1000, 0)
