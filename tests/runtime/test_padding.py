import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosel import Modality, Model, Tensor
from mosel.runtime.padding import assemble, blank, join, lengths, trimmed

WORDS = Tensor("words", "INT64", (-1,), limits=(9,), pad=-7, lengths=True)
PIXELS = Tensor("pixels", "FP32", (2, 2))


def test_a_lone_part_of_the_right_type_is_not_copied() -> None:
    """One job's batch reaches the model as the very memory it arrived in."""
    part = np.ones((3, 2, 2), np.float32)
    assert np.shares_memory(join(PIXELS, [part]), part)


def test_a_lone_part_of_another_type_is_converted() -> None:
    """What reaches the model has the declared type."""
    assert join(PIXELS, [np.ones((3, 2, 2), np.int64)]).dtype == np.float32


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=5))
def test_shorter_parts_are_filled_up_and_every_request_keeps_its_values(shapes: list[tuple[int, int]]) -> None:
    """Each request stands in order, its own values first, the pad value after, and its length beside it."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 100, shape) for shape in shapes]
    batch = assemble([WORDS], {"words": parts})
    requests = [row for part in parts for row in part]
    assert batch["words"].shape == (len(requests), max(map(len, requests)))
    assert batch["words_lengths"].tolist() == [len(row) for row in requests]
    for row, padded in zip(requests, batch["words"], strict=True):
        assert padded[: len(row)].tolist() == row.tolist()
        assert (padded[len(row) :] == WORDS.pad).all()


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 3), st.just(2), st.just(2)), elements=st.floats(0, 1, width=16)
    )
)
def test_a_layout_of_the_callers_choice_holds_the_same_batch(part: np.ndarray) -> None:
    """What `empty` returns is filled and handed on, even for a lone part."""
    place = np.empty((len(part), 2, 2), np.float32)
    batch = join(
        PIXELS, [part], lambda shape, dtype: place if (shape, dtype) == (place.shape, "float32") else part
    )
    assert batch is place
    assert (place == part).all()


def test_lengths_follow_the_first_variable_dimension() -> None:
    """With several dimensions it is the first variable one that counts."""
    tensor = Tensor("t", "FP32", (2, -1, 3), limits=(8,), lengths=True)
    assert lengths(tensor, [np.zeros((2, 2, 5, 3)), np.zeros((1, 2, 4, 3))]).tolist() == [5, 5, 4]


def test_blank_inputs_have_the_largest_shape_after_preprocessing() -> None:
    """Blank inputs are what the model itself takes, as long as it accepts."""
    modality = Modality("m", (PIXELS,), preprocess=lambda arrays: arrays, prepared=(WORDS,))
    model = Model("m", (modality,), (PIXELS,), load=lambda *_: None)  # type: ignore[arg-type]
    inputs = blank(model, ("m",), 4)
    assert {name: array.shape for name, array in inputs.items()} == {"words": (4, 9)}
    assert (inputs["words"] == -7).all()


def test_a_blank_request_of_a_length_is_as_long() -> None:
    """Two seconds at ten entries each; without a length, the longest that is accepted."""
    wave = Tensor("wave", "FP32", (-1,), limits=(50,), per_length=10)
    model = Model(
        "m",
        (Modality("sound", (wave,)),),
        (Tensor("y", "FP32", (1,)),),
        lambda _device, _precision: lambda **_: None,
        length_buckets=(2, 5),
    )
    assert blank(model, ("sound",), 3, 2)["wave"].shape == (3, 20)
    assert blank(model, ("sound",))["wave"].shape == (1, 50)


def test_rows_are_trimmed_to_the_longest_of_them() -> None:
    """At least one entry stays, and never more than there are."""
    rows = np.arange(8).reshape(2, 4)
    assert trimmed(WORDS, rows, np.array([1, 3])).tolist() == [[0, 1, 2], [4, 5, 6]]
    assert trimmed(WORDS, rows, np.array([0, 0])).shape == (2, 1)
    assert trimmed(WORDS, rows, np.array([9, 0])).shape == (2, 4)
