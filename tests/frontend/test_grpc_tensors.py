from typing import Any

import numpy as np
import pytest

from mosel.core.errors import InputError
from mosel.frontend.grpc_tensors import LISTS, call_of, write_outputs
from mosel.frontend.oip import message
from mosel.models.base import BYTES, DATATYPES, Tensor

RAW = b"\0\0\x80\x3f"


def request_of(**changes: Any) -> Any:
    """Return a request with one input of one FP32."""
    made = message("ModelInferRequest")(model_name="m")
    made.inputs.add(**{"name": "x", "datatype": "FP32", "shape": [1], **changes})
    return made


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_round_trip(datatype: str, raw: bool) -> None:
    """Every data type comes back as it was sent, raw and as lists; what has no list comes raw."""
    values = np.array([[0, 1], [1, 0]], DATATYPES[datatype])
    if datatype == BYTES:
        values = np.array([[b"", b"\xff\0"], [b"a", b"b" * 300]], object)
    reply = message("ModelInferResponse")()
    write_outputs(reply, [(Tensor("x", datatype, (2,)), values)], raw=raw)
    assert bool(reply.raw_output_contents) == (raw or datatype not in LISTS)
    output = reply.outputs[0]
    request = message("ModelInferRequest")(raw_input_contents=reply.raw_output_contents)
    request.inputs.add(name="x", datatype=datatype, shape=output.shape)
    if output.HasField("contents"):
        request.inputs[0].contents.CopyFrom(output.contents)
    asked = call_of(request, None)
    assert asked.raw == bool(reply.raw_output_contents)
    found = asked.call.inputs[0].array
    assert found.dtype == values.dtype
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("change", "raw", "said"),
    [
        ({}, [RAW, RAW], "2 raw_input_contents for 1 inputs"),
        ({}, [RAW + RAW], "has 8 bytes; FP32 of shape [1] takes 4"),
        ({"contents": {"fp32_contents": [1]}}, [RAW], "both contents and raw_input_contents"),
        ({"shape": [-1]}, [RAW], "expected at most 32 sizes from 0"),
        ({"shape": [1] * 33}, [RAW], "expected at most 32 sizes from 0"),
        ({"datatype": "FP31"}, [RAW], "datatype 'FP31'; expected one of"),
        ({"datatype": "FP31"}, [], "datatype 'FP31'; expected one of"),
        ({"datatype": "FP16"}, [], "FP16 has no list in contents; use raw_input_contents"),
        ({"contents": {"int_contents": [1]}}, [], "contents has int_contents; FP32 is in fp32_contents"),
        ({"contents": {"fp32_contents": [1, 2]}}, [], "data has 2 values; shape (1,) takes 1"),
        ({"datatype": "BYTES"}, [b"\2\0\0\0a"], "value 0 of BYTES ends behind the last of 5 bytes"),
        ({"datatype": "BYTES", "shape": [1 << 30]}, [b""], "1,073,741,824 values of BYTES; expected at most"),
        ({"datatype": "BYTES", "contents": {"int_contents": [1]}}, [], "BYTES is in bytes_contents"),
        ({"datatype": "BYTES", "contents": {"bytes_contents": [b"", b""]}}, [], "data has 2 values"),
        ({"datatype": "INT8", "contents": {"int_contents": [300]}}, [], "out of range"),
    ],
)
def test_bad_tensors(change: dict[str, Any], raw: list[bytes], said: str) -> None:
    """A tensor that is not what it says is refused."""
    request = request_of(**change)
    request.raw_input_contents.extend(raw)
    with pytest.raises(InputError) as caught:
        call_of(request, None)
    assert said in str(caught.value)


def test_output_wishes() -> None:
    """`binary_data_output` says how outputs travel and is no parameter of the job; shared memory is refused."""
    request = request_of(contents={"fp32_contents": [1]})
    request.parameters["binary_data_output"].bool_param = True
    asked = call_of(request, 5)
    assert asked.raw
    assert asked.call.parameters == {}
    assert asked.call.limit_ns == 5
    request.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InputError, match="shared_memory_region is not supported"):
        call_of(request, None)
