import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosel.online.slab import ALIGNMENT, PAGE_BYTES, Slab

Tensors = dict[str, list[np.ndarray[Any, Any]]]

dtypes = st.sampled_from(["bool", "uint8", "int16", "int64", "float16", "float32", "float64", "object"])
trailing = st.lists(st.integers(1, 4), max_size=2).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensors:
    """Draw tensors of several parts, of one type each and of any shapes."""
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    rows = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    ragged = draw(st.booleans())
    made: Tensors = {}
    for name in names:
        dtype, shape = draw(dtypes), draw(trailing)
        alike = st.tuples(*[st.integers(1, 4)] * len(shape))
        shapes = [draw(alike) if ragged else shape for _ in rows]
        values = st.binary(max_size=5) if dtype == "object" else None
        made[name] = [
            draw(hnp.arrays(dtype, (n, *s), elements=values)) for n, s in zip(rows, shapes, strict=True)
        ]
    return made


@given(tensors())
def test_what_one_side_writes_the_other_reads(given_tensors: Tensors) -> None:
    """Every part comes out as it went in, through a second mapping of the same memory."""
    writer = Slab.create("test")
    reader = Slab(os.dup(writer.handle))
    layouts = writer.write(given_tensors)
    reader.attach(writer.mapped_bytes)
    found = reader.read(layouts, joined=False)
    for name, parts in given_tensors.items():
        for mine, theirs in zip(found[name], parts, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    assert all(layout.offset % ALIGNMENT == 0 for layout in layouts)
    del found, mine
    writer.close()
    reader.close()


@given(tensors())
def test_parts_join_only_where_all_tensors_can(given_tensors: Tensors) -> None:
    """Joined, a tensor is one array of all rows; if any tensor is ragged every tensor keeps its parts."""
    slab = Slab.create("test")
    layouts = slab.write(given_tensors)
    found = slab.read(layouts, joined=True)
    uniform = all(len({part.shape[1:] for part in parts}) == 1 for parts in given_tensors.values())
    for name, parts in given_tensors.items():
        assert len(found[name]) == (1 if uniform else len(parts))
        if uniform:
            np.testing.assert_array_equal(found[name][0], np.concatenate(parts))
    slab.close()


def test_joined_parts_are_no_copies() -> None:
    """Two parts of one shape come as one array that stands on the slab itself."""
    slab = Slab.create("test")
    layouts = slab.write({"x": [np.zeros((1, 2)), np.ones((2, 2))]})
    [whole] = slab.read(layouts, joined=True)["x"]
    whole[0, 0] = 7
    assert slab.parts(layouts[0])[0][0, 0] == 7
    slab.close()


def test_growing_leaves_earlier_arrays_valid() -> None:
    """An array on the slab is readable after the slab has grown, and after it was closed."""
    slab = Slab.create("test")
    [early] = slab.read(slab.write({"x": [np.arange(3)]}), joined=False)["x"]
    slab.reserve(64 * PAGE_BYTES)
    assert slab.mapped_bytes >= 64 * PAGE_BYTES
    assert early.tolist() == [0, 1, 2]
    slab.close()
    assert early.tolist() == [0, 1, 2]


def test_a_reader_follows_a_writer_that_grew() -> None:
    """What was written beyond the reader's mapping is there once it has attached the new size."""
    writer = Slab.create("test")
    reader = Slab(os.dup(writer.handle))
    writer.write({"x": [np.zeros(1)]})
    reader.attach(writer.mapped_bytes)
    large = np.arange(PAGE_BYTES)
    layouts = writer.write({"x": [large]})
    reader.attach(writer.mapped_bytes)
    np.testing.assert_array_equal(reader.parts(layouts[0])[0], large)
    writer.close()
    reader.close()


def test_python_objects_are_refused() -> None:
    """A tensor of Python objects has no bytes that another process could read."""
    slab = Slab.create("test")
    with pytest.raises(TypeError, match="tensor x holds Python objects"):
        slab.write({"x": [np.array([{}])]})
    slab.close()


def test_closing_gives_every_descriptor_back() -> None:
    """After `close` the process holds no more files than before."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    slab = Slab.create("test")
    slab.write({"x": [np.zeros(4)]})
    slab.close()
    slab.close()
    assert sorted(os.listdir("/proc/self/fd")) == sorted(before)  # noqa: PTH208


def test_it_has_no_name_that_could_be_left_behind() -> None:
    """The file behind a slab is in no directory."""
    slab = Slab.create("test")
    assert Path(f"/proc/self/fd/{slab.handle}").readlink().name == "memfd:test (deleted)"
    slab.close()
