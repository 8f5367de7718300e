"""One byte string per value: the JSON that is hashed and signed.

Sorted keys, no white space, UTF-8 without escapes beyond those JSON demands, finite numbers.
Two nodes that hold the same value hold the same bytes, so the same hash.
"""

from __future__ import annotations

import json
from typing import Any

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import JSON_MAX_ITEMS

Json = dict[str, Any]
"""A JSON object fresh from a parser; it travels no further than the codec that reads it."""


def dumps(value: object) -> bytes:
    """Return the canonical bytes of a JSON value.

    Raises:
        InputError: JSON has no form for something in it (NaN, bytes, a lone surrogate).
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"not canonical JSON: {error}") from error


def loads(data: bytes) -> Json:
    """Return the object that ``data`` is the canonical form of.

    Raises:
        InputError: not JSON, not an object, or not in canonical form (duplicate keys show here).
    """
    value = loads_lenient(data)
    if dumps(value) != data:
        raise InputError("JSON is not in canonical form")
    return value


def count_items(data: bytes | bytearray) -> int:
    """Return how many values a JSON text has, or a few more; ``loads`` bounds them."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def loads_lenient(data: bytes) -> Json:
    """Return the JSON object in ``data``, in whatever white space and key order.

    Raises:
        InputError: not UTF-8, not JSON, nested too deeply, too many values, or not an object.
    """
    # Counted first: a megabyte of "[],[],…" would take thirty in memory, and seconds to make.
    if count_items(data) > JSON_MAX_ITEMS:
        raise InputError(f"JSON of more than {JSON_MAX_ITEMS} values")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, not {type(value).__name__}")
    return value
