import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor

from mosel.models.base import BYTES, DATATYPES
from mosel.models.datatypes import BF16, WIRE_DTYPES, as_bytes, from_wire, to_wire

EDGES = [0, -0.0, 1, -1.5, np.inf, -np.inf, 3.4028235e38, 1e-45, 1.00390625, 1.01171875, 65504, np.pi]


def test_bf16_is_rounded_as_the_reference_does() -> None:
    """Bit by bit as `ml_dtypes` has it, of any FP32 that is a number: ties, limits, and random bits."""
    random = np.random.default_rng(7).integers(0, 1 << 32, 20_000, np.uint32).view(np.float32)
    values = np.concatenate([np.array(EDGES, np.float32), random[~np.isnan(random)]])
    wanted = values.astype(ml_dtypes.bfloat16)
    assert to_wire(values, BF16).tobytes() == wanted.tobytes()
    np.testing.assert_array_equal(from_wire(wanted.tobytes(), BF16), wanted.astype(np.float32))


def test_every_bf16_comes_back_the_same() -> None:
    """Each of the 65,536 there are; a NaN stays one."""
    every = np.arange(1 << 16, dtype="<u2")
    held = from_wire(every.tobytes(), BF16)
    back = to_wire(held, BF16)
    numbers = ~np.isnan(held)
    assert np.isnan(from_wire(back.tobytes(), BF16)[~numbers]).all()
    np.testing.assert_array_equal(back[numbers], every[numbers])


def test_no_nan_becomes_a_number() -> None:
    """Not even those whose upper half alone would be infinite, or would wrap round."""
    nans = np.array([0x7F800001, 0xFF80FFFF, 0xFFFFFFFF, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(from_wire(to_wire(nans, BF16).tobytes(), BF16)).all()


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != BYTES])
def test_sizes_on_the_wire(datatype: str) -> None:
    """As the protocol has them; BF16 alone is not what numpy holds."""
    values = np.ones((2, 3), DATATYPES[datatype])
    sent = to_wire(values, datatype)
    assert sent.itemsize == WIRE_DTYPES[datatype].itemsize == (2 if datatype == BF16 else values.itemsize)
    assert sent.shape == values.shape
    assert from_wire(sent.tobytes(), datatype).tolist() == [1] * 6


@given(st.lists(st.binary(max_size=300)))
def test_bytes_as_the_reference_client_has_them(values: list[bytes]) -> None:
    """Each with its length in front, and back, empty ones and zeros at the end included."""
    array = np.empty(len(values), object)
    array[:] = values
    sent = to_wire(array, BYTES).tobytes()
    reference = serialize_byte_tensor(array)
    assert sent == (reference.item() if values else b"")
    assert from_wire(sent, BYTES).tolist() == values


def test_texts_become_bytes() -> None:
    """However they are held; what is neither is refused."""
    nested = [["é", b"\xff"], ["", "a"]]
    assert as_bytes(nested).tolist() == [["é".encode(), b"\xff"], [b"", b"a"]]
    assert as_bytes(np.array(["a", "bc"])).tolist() == [b"a", b"bc"]
    with pytest.raises(TypeError, match="is int; expected bytes or a text"):
        as_bytes([b"a", 1])
