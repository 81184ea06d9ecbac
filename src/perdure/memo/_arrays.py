"""Large arrays beside their entries, in numpy's own format, so that a hit maps them instead of reading them.

The entry, which has a checksum, says what the file must hold; the file's own header is written for other readers and
not believed here. The bytes of the array have no checksum: checking would mean reading them. They are durable before
the entry is written, so no crash leaves a wrong array; a disk that changes bits goes unnoticed.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from perdure.fs import Fs
from perdure.missing import MISSING, Missing

_CHUNK_BYTES = 16 << 20
_FLAT_KINDS = frozenset(
    "biufcmMSUV"
)  # As numpy names them: bool, int, uint, float, complex, spans, moments, texts, bytes.


class ArrayPlace(msgspec.Struct, array_like=True, frozen=True):
    """Where an array lies and how it is read. ``size_bytes``: of the file; ``offset``: of the data in it."""

    name: str
    size_bytes: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    fortran: bool


_decoder = msgspec.msgpack.Decoder(ArrayPlace)


def is_mappable(value: object, bytes_min: int | None) -> bool:
    """Whether ``value`` is an array of plain numbers or the like, of at least ``bytes_min`` bytes."""
    numpy = sys.modules.get("numpy")
    if bytes_min is None or numpy is None or type(value) is not numpy.ndarray:
        return False
    array: Any = value
    return bool(
        array.nbytes >= max(bytes_min, 1) and numpy.dtype(array.dtype.str) == array.dtype and _is_flat(array.dtype)
    )


def _is_flat(dtype: Any) -> bool:
    """Whether items of this type are bytes and nothing else: mapped, a pointer would lead anywhere."""
    return dtype.kind in _FLAT_KINDS and not dtype.hasobject and dtype.names is None and dtype.subdtype is None


def write_array(fs: Fs, directory: str, name: str, array: Any) -> bytes:
    """Write ``array`` durably and return the payload of its entry. ``OSError``: nothing is there."""
    import numpy

    fortran = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
    if not (fortran or array.flags.c_contiguous):
        array = numpy.ascontiguousarray(array)
    header = io.BytesIO()
    described = {"descr": array.dtype.str, "fortran_order": fortran, "shape": array.shape}
    numpy.lib.format.write_array_header_2_0(header, described)
    head = header.getvalue()
    flat = array.reshape(-1, order="A").view("u1").data
    fs.write_atomically(os.path.join(directory, name), _chunks(head, flat), durable=True)
    place = ArrayPlace(name, len(head) + array.nbytes, len(head), array.dtype.str, array.shape, fortran)
    return msgspec.msgpack.encode(place)


def _chunks(head: bytes, data: memoryview) -> Iterator[Any]:
    yield head
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def array_name(payload: bytes) -> str | None:
    """The name of the file of an array, or ``None``: the payload is not that of an array in this directory."""
    try:
        name = _decoder.decode(payload).name
    except msgspec.MsgspecError:
        return None
    return name if name.endswith(".npy") and os.path.basename(name) == name else None


def map_array(fs: Fs, directory: str, payload: bytes) -> Any | Missing:
    """The array, read-only and mapped from its file; ``MISSING`` where the file is not what the entry says.

    ``FileNotFoundError``: there is no file.

    The mapping outlives the file's name: an array in use stays whole when its entry is evicted.
    """
    import numpy

    try:
        place = _decoder.decode(payload)
        dtype = numpy.dtype(place.dtype)
        # Looked at here, because numpy takes a negative offset and reads what lies before.
        end = place.offset + math.prod(place.shape) * dtype.itemsize
        is_right = place.offset >= 0 and min(place.shape, default=0) >= 0 and end == place.size_bytes
        if not is_right or not _is_flat(dtype) or os.path.basename(place.name) != place.name:
            return MISSING
        fd = fs.open_for_reading(os.path.join(directory, place.name))
        try:
            if fs.size(fd) != place.size_bytes:
                return MISSING
            mapped = mmap.mmap(fd, place.size_bytes, access=mmap.ACCESS_READ)
        finally:
            fs.close(fd)
        order: Any = "F" if place.fortran else "C"
        return numpy.ndarray(place.shape, dtype, mapped, place.offset, order=order)
    except FileNotFoundError:
        raise
    except (msgspec.MsgspecError, OSError, ValueError, TypeError, OverflowError):
        return MISSING
