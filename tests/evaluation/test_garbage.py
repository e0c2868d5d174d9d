import gc

import pytest

from mosel.evaluation.garbage import no_collector


def test_the_collector_rests_and_comes_back() -> None:
    """It is off inside, nested uses included, and on again afterwards."""
    with no_collector():
        with no_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_error() -> None:
    """An error inside does not leave it off."""

    @no_collector()
    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert gc.isenabled()
