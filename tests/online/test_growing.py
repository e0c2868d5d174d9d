import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mosel.online.growing import Growing


@given(parts=st.lists(st.lists(st.integers(0, 2**60), max_size=90), max_size=8))
def test_a_column_reads_as_what_was_added(parts: list[list[int]]) -> None:
    """However it grows, it holds every value in order, and what was read before stays as it was."""
    column, read = Growing(np.int64), []
    for part in parts:
        read.append((column.values, column.values.tolist()))
        column.extend(part)
    assert column.values.tolist() == [value for part in parts for value in part]
    assert len(column) == len(column.values)
    assert column.values.flags.c_contiguous
    assert all(array.tolist() == before for array, before in read)
