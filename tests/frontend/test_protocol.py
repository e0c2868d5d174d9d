import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mosel.core.errors import InputError, TooLargeError
from mosel.frontend.calls import Call
from mosel.frontend.inference import Request
from mosel.frontend.protocol import decode, encode
from mosel.models.base import BYTES, DATATYPES, Tensor
from mosel.models.datatypes import from_wire, to_wire

FLOATS = ("FP16", "FP32", "FP64")


def body(inputs: list[dict[str, Any]], **rest: object) -> bytes:
    """Return a request body without raw tensors."""
    return json.dumps({"inputs": inputs, **rest}).encode()


def entry(data: object, shape: list[int], datatype: str = "FP32") -> dict[str, Any]:
    """Return an input with its data as JSON."""
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data}


def binary(arrays: dict[str, tuple[str, Any]], tail: bytes | None = None) -> tuple[bytes, int]:
    """Return a request body with raw tensors, and the length of its JSON object."""
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": to_wire(array, datatype).nbytes},
        }
        for name, (datatype, array) in arrays.items()
    ]
    head = body(inputs)
    raw = b"".join(to_wire(array, kind).tobytes() for kind, array in arrays.values()) if tail is None else tail
    return head + raw, len(head)


@pytest.mark.parametrize("datatype", DATATYPES)
@given(data=st.data())
def test_raw_round_trip(datatype: str, data: st.DataObject) -> None:
    """A raw tensor of any type and shape arrives as it was sent, and an output travels back the same."""
    dtype, shapes = DATATYPES[datatype], hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    values = st.binary(max_size=5) if datatype == BYTES else None
    array = data.draw(hnp.arrays(dtype, shapes, elements=values))
    array = from_wire(to_wire(array, datatype).tobytes(), datatype).reshape(
        array.shape
    )  # what the type can hold
    raw, length = binary({"other": ("INT8", np.ones(3, "int8")), "x": (datatype, array)})
    found = decode(raw, length).call.inputs[1]
    assert found.datatype == datatype
    assert found.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array, array)
    reply = encode({}, {}, [(Tensor("y", datatype, ()), array)], Request(Call(()), {}, raw_default=True))
    assert reply.header_length is not None
    head = json.loads(reply.content[: reply.header_length])
    assert head["outputs"][0]["shape"] == list(array.shape)
    assert reply.content[reply.header_length :] == to_wire(array, datatype).tobytes()


def test_raw_is_not_copied() -> None:
    """A raw tensor is a view of the body."""
    raw, length = binary({"x": ("FP32", np.arange(6, dtype="float32").reshape(2, 3))})
    array = decode(raw, length).call.inputs[0].array
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != BYTES])
def test_json_round_trip(datatype: str) -> None:
    """A tensor written as JSON, flat or nested, arrives with its type; an output is written flat."""
    array = np.array([[0, 1, 1], [1, 0, 1]], DATATYPES[datatype])
    for data in (array.tolist(), array.reshape(-1).tolist()):
        found = decode(body([entry(data, [2, 3], datatype)]), None).call.inputs[0].array
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    request = Request(Call(()), {}, raw_default=False)
    reply = encode({"id": "a"}, {"p": 1.5}, [(Tensor("y", datatype, (3,)), array)], request)
    assert reply.header_length is None
    assert json.loads(reply.content) == {
        "id": "a",
        "parameters": {"p": 1.5},
        "outputs": [{"name": "y", "datatype": datatype, "shape": [2, 3], "data": array.reshape(-1).tolist()}],
    }


def test_bytes_as_json() -> None:
    """Texts, flat or nested, arrive as their UTF-8 and leave as texts; what is no text leaves raw."""
    array = np.array([[b"a\xc3\xa9", b""], [b"\x00", b"d"]], object)
    for data in ([["aé", ""], ["\x00", "d"]], ["aé", "", "\x00", "d"]):
        found = decode(body([entry(data, [2, 2], "BYTES")]), None).call.inputs[0].array
        assert found.tolist() == array.tolist()
    request = Request(Call(()), {}, raw_default=False)
    reply = encode({}, {}, [(Tensor("y", "BYTES", (2,)), array)], request)
    assert reply.header_length is None
    assert json.loads(reply.content)["outputs"][0]["data"] == ["aé", "", "\x00", "d"]
    array[0, 0] = b"\xff"
    reply = encode({}, {}, [(Tensor("y", "BYTES", (2,)), array)], request)
    assert reply.content[reply.header_length :] == to_wire(array, BYTES).tobytes()


def test_raw_bool() -> None:
    """Any byte but 0 is true in a raw BOOL tensor."""
    raw, length = binary({"x": ("BOOL", np.array([0, 2, 255], "uint8"))})
    found = decode(raw, length).call.inputs[0].array
    assert found.dtype == np.bool_
    assert found.view(np.uint8).tolist() == [0, 1, 1]


def test_outputs_raw_and_json_in_one_answer() -> None:
    """An output's own binary_data goes before binary_data_output; id, parameters and names are kept."""
    raw = body(
        [entry([1.0], [1])],
        id="7",
        parameters={"binary_data_output": True, "accuracy_slo": 0.5},
        outputs=[{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
    )
    request = decode(raw, None)
    assert request.call.id == "7"
    assert request.call.parameters == {"accuracy_slo": 0.5}
    assert request.call.outputs == ("a", "b")
    one = np.ones(1, "float32")
    reply = encode({}, {}, [(Tensor("a", "FP32", ()), one), (Tensor("b", "FP32", ()), one)], request)
    assert reply.header_length is not None
    outputs = json.loads(reply.content[: reply.header_length])["outputs"]
    assert outputs[0]["data"] == [1.0]
    assert "parameters" not in outputs[0]
    assert outputs[1]["parameters"] == {"binary_data_size": 4}
    assert reply.content[reply.header_length :] == struct.pack("<f", 1)


def test_output_takes_its_declared_type() -> None:
    """An output that the model returned in another float type goes out as declared."""
    request = Request(Call(()), {}, raw_default=True)
    reply = encode({}, {}, [(Tensor("y", "FP32", ()), np.ones(1, "float64"))], request)
    assert reply.header_length is not None
    assert reply.content[reply.header_length :] == struct.pack("<f", 1)


@pytest.mark.parametrize(
    ("raw", "length", "said"),
    [
        (b"", None, "body has 0 bytes"),
        (b"{", None, "not valid JSON"),
        (b'{"inputs": "\xff"}', None, "JSON"),
        (b"[]", None, "Expected `object`"),
        (b"{}", None, "missing required field `inputs`"),
        (b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", None, "Expected `object`"),
        (body([entry([[1]] * 2, [2, 1])]), 10_000, "Inference-Header-Content-Length is 10000"),
        (body([{"name": "x", "shape": [1], "datatype": "FP32"}]), None, "neither data nor binary_data_size"),
        (body([entry([1, 2, 3], [2, 2])]), None, "data has 3 values; shape \\[2, 2\\] takes 4"),
        (body([entry([1, "a"], [2])]), None, "no list of numbers"),
        (body([entry([1, None], [2])]), None, "no list of numbers"),
        (body([entry([[1], [1, 2]], [2])]), None, "data cannot be read"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":NaN}]}', None, "not valid JSON"),
        (
            b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":'
            + b"[" * 5000
            + b"]" * 5000
            + b"}]}",
            None,
            "nested too deeply|data cannot be read",
        ),
        (body([entry(1.5, [1])]), None, "data is no list"),
        (body([entry([1.5], [1], "INT64")]), None, "no list of whole numbers"),
        (body([entry([1], [1], "BOOL")]), None, "no list of true and false"),
        (body([entry([300], [1], "UINT8")]), None, "expected 0 to 255"),
        (body([entry([-1], [1], "UINT64")]), None, "expected 0 to"),
        (body([entry([2**64], [1], "UINT64")]), None, "no list of whole numbers|expected 0 to"),
        (body([entry([1e6], [1], "FP16")]), None, "out of range of FP16"),
        (body([entry([1], [1], "TEXT")]), None, "datatype 'TEXT'; expected one of BOOL"),
        (body([entry([1], [1], "BYTES")]), None, "no list of texts"),
        (body([entry([None], [1], "BYTES")]), None, "no list of texts"),
        (body([entry([["a"], "b"], [2], "BYTES")]), None, "nests lists unevenly"),
        (body([entry(["a"], [2], "BYTES")]), None, r"data has 1 values; shape \[2\] takes 2"),
        (body([entry([], [0], "BYTES"), entry([], [256, 257], "BYTES")]), None, "65,792 values of BYTES"),
        (body([entry([1], [-1])]), None, "Expected `int` >= 0"),
        (body([entry([1], [1])], parameters={"binary_data_output": 1}), None, "expected true or false"),
        (
            body([entry([1], [1])], outputs=[{"name": "y", "parameters": {"classification": 3}}]),
            None,
            "classification is not supported",
        ),
        (
            body([entry([1], [1])], outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]),
            None,
            "shared memory",
        ),
        (
            body([{**entry([1], [1]), "parameters": {"shared_memory_region": "r"}}]),
            None,
            "shared memory",
        ),
        (
            body([{**entry([1], [1]), "parameters": {"binary_data_size": 4}}]),
            None,
            "both data and binary_data_size",
        ),
        (body([{**entry([1], [1]), "parameters": {"binary_data_size": -4}}]), None, "Expected `int` >= 0"),
    ],
)
def test_bad_bodies(raw: bytes, length: int | None, said: str) -> None:
    """A body that is not the protocol's is refused with what was wrong and what was expected."""
    with pytest.raises(InputError, match=said):
        decode(raw, length)


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"", "only 0 of its 8 bytes"),
        (b"1234567", "only 7 of its 8 bytes"),
        (b"123456789", "9 bytes follow the JSON object"),
    ],
)
def test_bad_tails(tail: bytes, said: str) -> None:
    """Raw bytes that do not add up to what the JSON object says are refused."""
    raw, length = binary({"x": ("FP32", np.zeros(2, "float32"))}, tail)
    with pytest.raises(InputError, match=said):
        decode(raw, length)


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"\1\0\0\0a", "binary_data_size is 5; BYTES of shape .* takes 8 bytes at least"),
        (b"\1\0\0\0a\0\0\0", "value 1 of BYTES ends behind"),
        (b"\1\0\0\0a\1\0\0\0", "value 1 of BYTES ends behind"),
        (b"\1\0\0\0a\xff\xff\xff\xff", "value 1 of BYTES ends behind"),
        (b"\0" * 12, "data has 3 values; shape .* takes 2"),
    ],
)
def test_bad_raw_bytes(tail: bytes, said: str) -> None:
    """Lengths in front of values of BYTES that do not add up are refused."""
    given = {"name": "x", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    head = body([given])
    with pytest.raises(InputError, match=said):
        decode(head + tail, len(head))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([1] * 33, "length <= 32"),
        ([0, 2**31], "Expected `int` < 2147483648|Expected `int` <= 2147483647"),
        ([0, 2**70], "out of range|Expected `int` <"),
        ([0, 2**30, 2**30, 2**30], "shape .* cannot be"),
    ],
)
@pytest.mark.parametrize("how", [{"data": []}, {"parameters": {"binary_data_size": 0}}])
def test_shapes_that_cannot_be(shape: list[int], said: str, how: dict[str, Any]) -> None:
    """Too many dimensions, or sizes beyond any memory beside a 0, are a mistake of the client."""
    raw = body([{"name": "x", "datatype": "FP32", "shape": shape, **how}])
    with pytest.raises(InputError, match=said):
        decode(raw, len(raw))


def test_json_has_a_limit() -> None:
    """A JSON object over the limit is refused with a hint to raw tensors, which do not count."""
    raw, length = binary({"x": ("UINT8", np.zeros(500, np.uint8))})
    decode(raw, length, json_limit=length)
    with pytest.raises(TooLargeError, match=f"has {length} bytes, this server takes 99; send tensors raw"):
        decode(raw, length, json_limit=99)


def test_raw_size_against_shape() -> None:
    """binary_data_size has to be what datatype and shape take."""
    head = body([{**entry(None, [2]), "parameters": {"binary_data_size": 4}}]).replace(b', "data": null', b"")
    with pytest.raises(InputError, match=r"binary_data_size is 4; FP32 of shape \[2\] takes 8 bytes"):
        decode(head + b"1234", len(head))


@given(st.binary(max_size=200), st.integers(-5, 250) | st.none())
def test_any_bytes(raw: bytes, length: int | None) -> None:
    """Whatever the bytes, decoding raises nothing but InputError."""
    try:
        decode(raw, length)
    except InputError:
        return
