"""What no model of the paper's five should be given, modality by modality, at the two gates that it meets.

The front end refuses what is empty, too long, or of a wrong type or shape, and looks into nothing. What only
the data themselves tell is refused where they are prepared.
"""

import dataclasses
import functools
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mosel.core.errors import CorruptInputError, InputError
from mosel.core.tables import read_profile
from mosel.frontend.calls import Call, Input
from mosel.frontend.checks import Checker, Limits
from mosel.models.base import Model, Tensor
from mosel.models.registry import find
from mosel.runtime.runner import prepare
from tests.docs.blocks import ROOT
from tests.models.test_images import PIXELS, encoded

Arrays = dict[str, NDArray[Any]]
NAMES = ("tvlt-small", "vilt-small", "avhubert-small", "tbn-small", "selfmm-small")
WORSE = ("empty", "too long", "a wrong type", "a dimension too few", "a wrong size")


@functools.cache
def model_of(name: str) -> Model:
    """Return a model with random weights, whose samples are noise and quickly made."""
    return find(f"{name},seed=0")


@functools.cache
def checker_of(name: str) -> Checker:
    """Return the front end's checks of a model that can prepare nothing: to look into its data is an error."""
    model = model_of(name)
    blind = tuple(dataclasses.replace(m, preprocess=_looked_into) for m in model.modalities)
    profile = read_profile(ROOT / "profiles" / f"{name}-cpu.json").profile
    return Checker(dataclasses.replace(model, modalities=blind), profile, Limits())


def _looked_into(_: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    raise AssertionError("a modality was prepared before it was checked")


def shapes_of(tensor: Tensor, how: str) -> list[tuple[int, ...]]:
    """Return shapes of one request that are worse than declared in one dimension, by what is wrong with it."""
    good, worse = tensor.largest_shape, []
    for axis, declared in enumerate(tensor.shape):
        size = {"empty": 0, "too long": good[axis] + 1, "a wrong size": good[axis] - 1}.get(how)
        if size is not None and (declared == -1) != (how == "a wrong size"):
            worse.append((*good[:axis], size, *good[axis + 1 :]))
    return worse


def misfits(tensor: Tensor, how: str) -> list[Input]:
    """Return inputs that have the place of a tensor and do not fit it; they take no memory."""
    if how == "a wrong type":
        other = "FP64" if tensor.datatype == "FP32" else "FP32"
        return [Input(tensor.name, other, _light((1, *tensor.largest_shape), "float32"))]
    shapes = [tensor.largest_shape[1:]] if how == "a dimension too few" else shapes_of(tensor, how)
    return [Input(tensor.name, tensor.datatype, _light((1, *shape), tensor.dtype)) for shape in shapes]


def _light(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return np.broadcast_to(np.zeros((), dtype), shape)


PLACES = [
    pytest.param(name, modality.name, tensor, how, id=f"{name}: {tensor.name}, {how}")
    for name in NAMES
    for modality in model_of(name).modalities
    for tensor in modality.inputs
    for how in WORSE
    if misfits(tensor, how)
]


@pytest.mark.parametrize(("name", "modality", "tensor", "how"), PLACES)
def test_what_does_not_fit_is_refused_unseen(name: str, modality: str, tensor: Tensor, how: str) -> None:
    """Empty, too long, of a wrong type or shape: the message names the modality, and nothing is prepared."""
    for misfit in misfits(tensor, how):
        with pytest.raises(InputError, match=rf"modality '{modality}', input '{tensor.name}': .*expected"):
            checker_of(name).check(Call((misfit,)), 0, "j1")


def good(name: str, modality: str) -> Arrays:
    """Return a job of two requests, both of which can be prepared."""
    samples = model_of(name).samples
    assert samples is not None
    arrays = {tensor: np.asarray(values[0]) for tensor, values in samples().inputs[modality].items()}
    return {tensor: np.stack([array, array]) for tensor, array in arrays.items()}


Spoil = Callable[[Arrays, str], Arrays]


def holding(value: float) -> Spoil:
    """Return what puts one number into the second request."""

    def spoil(arrays: Arrays, modality: str) -> Arrays:
        arrays[modality][1].flat[7] = value
        return arrays

    return spoil


def zeros(arrays: Arrays, modality: str) -> Arrays:
    """Make the second request zeros: silent, black, or no bytes at all."""
    arrays[modality][1] = 0
    return arrays


def rate(value: int) -> Spoil:
    """Return what says another rate of the second request."""

    def spoil(arrays: Arrays, modality: str) -> Arrays:
        arrays[f"{modality}_rate"][1] = value
        return arrays

    return spoil


def smaller(arrays: Arrays, modality: str) -> Arrays:
    """Cut frames to a side that nobody expects."""
    return {**arrays, modality: arrays[modality][:, :, :64, :64]}


def file(raw: bytes) -> Spoil:
    """Return what puts these bytes in the second request's place."""

    def spoil(arrays: Arrays, modality: str) -> Arrays:
        size = max(arrays[modality].shape[1], len(raw))
        rows = [arrays[modality][0].tobytes(), raw]
        filled = np.stack([np.frombuffer(row.ljust(size, b"\0"), np.uint8) for row in rows])
        return {**arrays, modality: filled}

    return spoil


def image(kind: str, cut: int, pixels: NDArray[np.uint8] = PIXELS) -> Spoil:
    """Return what puts an image file that lacks its last bytes in the second request's place.

    The first request's file is longer than one of `PIXELS`, which is therefore filled up, and shorter than one
    of `LARGE`.
    """
    return file(encoded(pixels, kind)[:-cut].tobytes())


def huge_png(side: int) -> bytes:
    """Return the header of a PNG of so many pixels a side, with nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    end = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, end))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_npy(side: int) -> bytes:
    """Return the header of an array of so many pixels a side, with nothing behind it."""
    stream = io.BytesIO()
    declared = {"descr": "|u1", "fortran_order": False, "shape": (side, side, 3)}
    np.lib.format.write_array_header_1_0(stream, declared)
    return stream.getvalue()


def pickled() -> bytes:
    """Return an array whose elements are Python objects."""
    stream = io.BytesIO()
    np.save(stream, np.array([{}, None]), allow_pickle=True)
    return stream.getvalue()


LARGE = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
WAVES = (("tvlt-small", "audio", 16_000), ("avhubert-small", "audio", 16_000), ("tbn-small", "audio", 24_000))
TEXTS = ("vilt-small", "selfmm-small")
FRAMES = (("tvlt-small", "video"), ("avhubert-small", "video"), ("tbn-small", "rgb"), ("tbn-small", "flow"))
ROWS: list[tuple[str, str, Spoil, str]] = [
    *(
        (name, modality, spoil, words)
        for name, modality, hertz in WAVES
        for spoil, words in (
            (rate(8_000), f"a rate of 8000 a second; expected {hertz}"),
            (rate(-1), f"a rate of -1 a second; expected {hertz}"),
            (holding(np.nan), "request 1 reaches nan"),
            (holding(-np.inf), "request 1 reaches inf"),
            (holding(32_767), "request 1 reaches 32767"),
            (zeros, "request 1 holds nothing but zeros"),
        )
    ),
    *((name, modality, zeros, "request 1 holds nothing but zeros") for name, modality in FRAMES),
    ("avhubert-small", "video", rate(30), "a rate of 30 a second; expected 25"),
    ("avhubert-small", "video", smaller, "frames of 64 × 64; expected the mouth's region"),
    *(
        (name, "text", spoil, words)
        for name in TEXTS
        for spoil, words in (
            (file(b"caf\xe9"), "request 1 is no UTF-8 text"),
            (file(b"\xed\xa0\x80"), "request 1 is no UTF-8 text"),
            (file(b" \n\t"), "request 1 holds no text"),
            (zeros, "request 1 holds no text"),
        )
    ),
    *(
        ("selfmm-small", modality, spoil, words)
        for modality in ("audio", "video")
        for spoil, words in (
            (holding(np.nan), "request 1 holds features that are no finite numbers"),
            (holding(np.inf), "request 1 holds features that are no finite numbers"),
            (zeros, "request 1 holds nothing but zeros"),
        )
    ),
    *(
        ("vilt-small", "image", spoil, f"request 1 is no image that can be read: {words}")
        for spoil, words in (
            (image("JPEG", 200), "image file is truncated"),
            (image("PNG", 200), ""),
            (image("WEBP", 200, LARGE), ""),
            (image("GIF", 200), ""),
            (image("npy", 5, LARGE), ""),
            (image("TIFF", 1), "expected a file of JPEG"),
            (file(b"\xff\xd8\xff\xe0" + bytes(40)), ""),
            (file(pickled()), "an array of type object"),
            (file(huge_png(6_000)), "6000 x 6000 pixels; expected at most 33,554,432"),
            (file(huge_png(10_000)), "Image size (100000000 pixels) exceeds limit"),
            (file(huge_png(50_000)), "Image size (2500000000 pixels) exceeds limit"),
            (file(huge_npy(6_000)), "6000 x 6000 pixels; expected at most 33,554,432"),
            (zeros, "expected a file of JPEG"),
        )
    ),
]


@pytest.mark.parametrize(("name", "modality", "spoil", "words"), ROWS)
def test_what_cannot_be_prepared_is_refused(name: str, modality: str, spoil: Spoil, words: str) -> None:
    """Wrong rates, no numbers, silence, damaged files, bombs: the message names modality, request and cause."""
    arrays = spoil(good(name, modality), modality)
    with pytest.raises(CorruptInputError) as raised:
        prepare(model_of(name), modality, arrays)
    assert raised.value.modality == modality
    assert str(raised.value).startswith(f"modality {modality!r} cannot be decoded: ")
    assert words in str(raised.value)


@pytest.mark.parametrize(("name", "modality"), sorted({(name, modality) for name, modality, *_ in ROWS}))
def test_what_the_rows_spoil_was_good(name: str, modality: str) -> None:
    """Without the spoiling both requests are prepared: each refusal has the cause that its row gives."""
    prepared = prepare(model_of(name), modality, good(name, modality))
    assert all(len(array) == 2 for array in prepared.values())


def test_every_modality_has_a_row() -> None:
    """None of the five models' modalities is left out."""
    assert {row[:2] for row in ROWS} == {(n, m) for n in NAMES for m in model_of(n).modality_names}
