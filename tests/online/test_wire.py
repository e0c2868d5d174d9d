import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosel.core.errors import ExecutionError
from mosel.online import frames, wire
from mosel.online.tensor_layout import TensorLayout

MESSAGES: list[wire.ToWorker | wire.FromWorker] = [
    wire.Start(
        1, "cpu", 2, (3,), (0, 1), (wire.WorkerModel("m:x", "x", (wire.ServedMode(("a",), "f", (1, 2)),)),)
    ),
    wire.Run(7, 1, 4096, "m", ("a", "b"), "float32", (TensorLayout("x", "<f4", 64, ((1, 2), (3, 2))),)),
    wire.Ready(),
    wire.StartFailed("no", final=True),
    wire.Done(
        7, 0, 4096, 12345, (wire.Undone(1, "a", "broken"),), (TensorLayout("y", "<f4", 0, ((3,),)),), (0.5, 1.0)
    ),
    wire.Failed(7, 1, "ValueError: no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_come_out_as_they_went_in(message: wire.ToWorker | wire.FromWorker) -> None:
    """Every message survives being framed, unframed and decoded by the side that it is for."""
    decoder = wire.to_worker if isinstance(message, wire.Start | wire.Run) else wire.from_worker
    [raw] = frames.Unframer().feed(wire.frame(message))
    assert decoder.decode(raw) == message


@given(st.lists(st.sampled_from(MESSAGES)), st.lists(st.integers(1, 40)))
def test_however_the_stream_is_chopped_the_messages_are_the_same(
    messages: list[wire.ToWorker | wire.FromWorker], cuts: list[int]
) -> None:
    """Messages do not depend on how the bytes arrive."""
    stream = b"".join(map(wire.frame, messages))
    unframer, found, start = frames.Unframer(), list[bytes](), 0
    for size in (*cuts, len(stream) + 1):
        found += unframer.feed(stream[start : start + size])
        start += size
    assert found == [msgspec.msgpack.encode(message) for message in messages]


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    """A damaged stream does not make the reader wait for gigabytes."""
    with pytest.raises(ExecutionError, match="stream is damaged"):
        frames.Unframer().feed((frames.MESSAGE_LIMIT_BYTES + 1).to_bytes(4, "little"))


def test_a_message_of_the_other_side_is_not_understood() -> None:
    """Each side decodes only what is said to it."""
    with pytest.raises(msgspec.ValidationError):
        wire.to_worker.decode(msgspec.msgpack.encode(wire.Ready()))
