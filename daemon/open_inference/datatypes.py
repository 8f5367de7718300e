"""The protocol's data types: their sizes, and values as numbers and texts where JSON has them.

Bytes are little-endian and row-major. An element of BYTES has its length before it, as a u32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from dreamer.daemon.inference.tensors import ELEMENT_BYTES, Data
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OIP_TENSOR_MAX_DIMENSIONS

BYTES = "BYTES"

_CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
"""What ``struct`` calls a type; FP16 and BF16 have no values in JSON and travel as bytes alone."""

_LENGTH = struct.Struct("<I")


def check_datatype(datatype: object, name: str) -> str:
    """Return a data type of the protocol.

    Raises:
        InputError: it is none.
    """
    if isinstance(datatype, str) and (datatype == BYTES or datatype in ELEMENT_BYTES):
        return datatype
    known = ", ".join([*ELEMENT_BYTES, BYTES])
    raise InputError(f"tensor {name!r:.80}: datatype must be one of {known}, not {datatype!r:.40}")


def check_shape(shape: object, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor: a list of sizes, each 0 or more.

    Raises:
        InputError: it is no shape.
    """
    if (
        isinstance(shape, Sequence)
        and len(shape) <= OIP_TENSOR_MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    ):
        return tuple(shape)
    raise InputError(
        f"tensor {name!r:.80}: shape must be a list of at most {OIP_TENSOR_MAX_DIMENSIONS} whole "
        f"numbers, each 0 or more, not {shape!r:.80}"
    )


def check_size(data: Data, datatype: str, shape: tuple[int, ...], name: str) -> None:
    """Refuse bytes that are not as many as the shape says.

    Raises:
        InputError: too many or too few; or BYTES whose lengths don't add up.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        found = len(split_strings(data, name, count))
        if found != count:
            raise InputError(f"tensor {name!r:.80} of shape {list(shape)} has {found} elements")
        return
    wanted = count * ELEMENT_BYTES[datatype]
    if len(data) != wanted:
        raise InputError(
            f"tensor {name!r:.80} is {len(data)} bytes; {datatype} of shape {list(shape)} "
            f"is {wanted}"
        )


def pack(values: list[Any], datatype: str, name: str) -> bytes:
    """Return JSON's values, already in one list, as bytes.

    Raises:
        InputError: one is of another type or out of its range, or the type has no form in JSON.
    """
    if datatype == BYTES:
        return pack_strings([_encoded(value, name) for value in values])
    code = _code(datatype, name)
    if not _fits(values, datatype):
        raise InputError(f"tensor {name!r:.80}: a value in data is not of type {datatype}")
    try:
        return struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError) as error:
        raise InputError(f"tensor {name!r:.80} of {datatype}: {error}") from error


def unpack(data: Data, datatype: str, name: str) -> list[Any]:
    """Return bytes as JSON's values, in one list.

    Raises:
        InputError: they have no form in JSON (FP16, BF16, BYTES that are no UTF-8).
    """
    if datatype == BYTES:
        try:
            return [str(one, "utf-8") for one in split_strings(data, name)]
        except UnicodeDecodeError as error:
            raise InputError(f"output {name!r:.80} is no text: {_ASK_FOR_BINARY}") from error
    code = _code(datatype, name)
    return list(struct.unpack(f"<{len(data) // ELEMENT_BYTES[datatype]}{code}", data))


def pack_strings(strings: Sequence[Data]) -> bytes:
    """Return the elements of a BYTES tensor as its bytes."""
    return b"".join(part for one in strings for part in (_LENGTH.pack(len(one)), one))


def split_strings(data: Data, name: str, most: int | None = None) -> list[memoryview]:
    """Return the elements of a BYTES tensor, at most one more than ``most`` of them.

    Raises:
        InputError: the lengths don't add up.
    """
    view = memoryview(data)
    found: list[memoryview] = []
    place = 0
    while place < len(view) and (most is None or len(found) <= most):
        if place + _LENGTH.size > len(view):
            raise InputError(f"tensor {name!r:.80}: BYTES end within a length")
        (length,) = _LENGTH.unpack_from(view, place)
        place += _LENGTH.size
        if place + length > len(view):
            raise InputError(f"tensor {name!r:.80}: an element of {length} bytes is cut short")
        found.append(view[place : place + length])
        place += length
    return found


_ASK_FOR_BINARY = "ask for it with the parameter binary_data, as the binary extension has it"


def _code(datatype: str, name: str) -> str:
    try:
        return _CODES[datatype]
    except KeyError:
        raise InputError(
            f"tensor {name!r:.80}: {datatype} has no form in JSON; use the binary extension"
        ) from None


def _fits(values: list[Any], datatype: str) -> bool:
    # struct takes a bool for a number, and anything at all for a bool.
    kinds = set(map(type, values))
    if datatype == "BOOL":
        return kinds <= {bool}
    return kinds <= ({int, float} if datatype in ("FP32", "FP64") else {int})


def _encoded(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise InputError(f"tensor {name!r:.80}: BYTES are texts in JSON, not {value!r:.40}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"tensor {name!r:.80}: a text is not UTF-8") from error
