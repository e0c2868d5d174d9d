import gc

import pytest

from mosel.evaluation.garbage import no_collector


def test_the_collector_rests_and_comes_back() -> None:
    """It is off inside, nested uses included, and on again afterwards, an error notwithstanding."""
    seen = []
    with pytest.raises(RuntimeError), no_collector():
        with no_collector():
            seen.append(gc.isenabled())
        seen.append(gc.isenabled())
        raise RuntimeError
    assert seen == [False, False]
    assert gc.isenabled()
