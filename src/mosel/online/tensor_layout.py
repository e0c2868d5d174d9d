"""Where the tensors of a batch stand in memory that an engine and a worker share (`slab.py`)."""

import msgspec


class TensorLayout(msgspec.Struct, frozen=True, array_like=True):
    """Where one tensor of a batch stands in a slab: its parts one behind the other, each (requests, *shape).

    Parts of equal shape (save for the first dimension) therefore form one array without any copy. Values of
    BYTES stand as on the wire, `size_bytes` of them; that is 0 for all other tensors.
    """

    name: str
    dtype: str
    offset: int
    shapes: tuple[tuple[int, ...], ...]
    size_bytes: int = 0
