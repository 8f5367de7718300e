"""What members ask of each other's models, as bytes: dataclasses by the names of their fields.

A field that the other side does not know is left out, one that it does not send has its default.
Whatever comes in is a stranger's: every value is checked against the field's annotation, nothing
is as large as it says. Tokens (``tuple[int, ...]``) are u32 each, little-endian.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from dreamer.protocol.errors import InputError, RemoteProtocolError
from dreamer.protocol.offload_limits import OFFLOAD_REQUEST_MAX_BYTES, OFFLOAD_TURNS_MAX

T = TypeVar("T")

_PLAIN = (str, bool, int, bytes)
_MAX_FIELDS = 64


def pack(value: object) -> bytes:
    """Return the bytes of a dataclass.

    Raises:
        InputError: it is more than a peer takes.
    """
    try:
        data = bytes(msgpack.packb(_packed(value, type(value))))
    except (ValueError, OverflowError, struct.error) as error:
        raise InputError(f"this can't be asked of a peer: {error}") from error
    if len(data) > OFFLOAD_REQUEST_MAX_BYTES:
        raise InputError(
            f"this is {len(data)} bytes, and {OFFLOAD_REQUEST_MAX_BYTES} may be asked of a peer: "
            "shorten it, or pull the model and run it here"
        )
    return data


def unpack(kind: type[T], data: bytes) -> T:
    """Return the dataclass ``kind`` that a peer packed.

    Raises:
        RemoteProtocolError: it is no such thing.
    """
    try:
        value = msgpack.unpackb(
            data,
            max_array_len=OFFLOAD_TURNS_MAX,
            max_map_len=_MAX_FIELDS,
            max_ext_len=0,
            max_str_len=len(data),
            max_bin_len=len(data),
        )
        read: T = _read(kind, value)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"a {kind.__name__} that can't be read: {error}") from error
    return read


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Return token ids as u32 each, little-endian."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def read_tokens(data: bytes) -> tuple[int, ...]:
    """Return token ids.

    Raises:
        ValueError: it is no whole number of them.
    """
    if len(data) % 4:
        raise ValueError("tokens that are not u32")
    return struct.unpack(f"<{len(data) // 4}I", data)


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    if kind not in _HINTS:
        hints = get_type_hints(kind)
        _HINTS[kind] = {one.name: hints[one.name] for one in fields(kind)}
    return _HINTS[kind]


def _is_tokens(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint) == (int, ...)


def _packed(value: Any, hint: Any) -> Any:
    hint = _without_none(hint)
    if value is None:
        return None
    if _is_tokens(hint):
        return pack_tokens(value)
    if get_origin(hint) is tuple:
        each = get_args(hint)
        kinds = [each[0]] * len(value) if each[-1] is ... else each
        return [_packed(one, kind) for one, kind in zip(value, kinds, strict=True)]
    if is_dataclass(value):
        hints = _hints(type(value))
        return {name: _packed(getattr(value, name), kind) for name, kind in hints.items()}
    return value


def _read(hint: Any, value: Any) -> Any:
    if value is None:
        if type(None) not in get_args(hint):
            raise ValueError("nothing where something is needed")
        return None
    hint = _without_none(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _read_dataclass(hint, value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{value!r:.40} is not one of {get_args(hint)}")
        return value
    if get_origin(hint) is tuple:
        return _read_tuple(hint, value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint not in _PLAIN or type(value) is not hint:
        raise ValueError(f"{type(value).__name__} where {hint} is needed")
    return value


def _read_dataclass(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"no {kind.__name__}")
    hints = _hints(kind)
    return kind(**{name: _read(hints[name], one) for name, one in value.items() if name in hints})


def _read_tuple(hint: Any, value: Any) -> tuple[Any, ...]:
    if _is_tokens(hint):
        if type(value) is not bytes:
            raise ValueError("no tokens")
        return read_tokens(value)
    if not isinstance(value, list):
        raise ValueError("no list")
    each = get_args(hint)
    kinds = [each[0]] * len(value) if each[-1] is ... else each
    return tuple(_read(kind, one) for kind, one in zip(kinds, value, strict=True))


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint
