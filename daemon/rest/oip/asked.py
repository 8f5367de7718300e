"""A request's body as a call: the JSON, then the binary tensors in the order it names them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec

from dreamer.daemon.inference.tensors import Data, Tensor
from dreamer.daemon.open_inference.calls import Call, Parameters, refuse_extensions
from dreamer.daemon.open_inference.datatypes import (
    check_datatype,
    check_shape,
    check_size,
    pack,
)
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OIP_JSON_MAX_BYTES, OIP_JSON_MAX_LISTS

HEADER_LENGTH = "Inference-Header-Content-Length"

_KEPT_HEADS = 64
_KEPT_HEAD_BYTES = 2048
"""So many of the last requests' JSON, each of at most so many bytes, is not read again."""


@dataclass(frozen=True)
class Asked:
    """A call, and which outputs to answer as bytes: by name, ``binary_else`` for the others."""

    call: Call
    binary: Mapping[str, bool]
    binary_else: bool


def read_json(data: memoryview) -> Json:
    """Return the JSON object in ``data``; NaN and Infinity are numbers here, as clients send them.

    Raises:
        InputError: too large, not JSON, or not an object.
    """
    if len(data) > OIP_JSON_MAX_BYTES:
        raise InputError(
            f"{len(data)} bytes of JSON are more than {OIP_JSON_MAX_BYTES}: send tensors with the "
            f"binary extension ({HEADER_LENGTH})"
        )
    text = bytes(data)
    # A list takes fifty times its two bytes.
    if text.count(b"[") + text.count(b"{") > OIP_JSON_MAX_LISTS:
        raise InputError(f"more than {OIP_JSON_MAX_LISTS} lists in JSON: send tensors flat")
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"the body must be a JSON object, not {type(value).__name__}")
    return value


def _parsed(text: bytes) -> Any:
    try:
        # Several times as fast; but JSON proper has no NaN.
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


@dataclass(frozen=True)
class _Head:
    """What the JSON says. ``sizes`` has of each input how many bytes after it are its values, None
    for one that the JSON has values of.
    """

    call: Call
    sizes: tuple[int | None, ...]
    binary: Mapping[str, bool]
    binary_else: bool


def read_asked(model: str, version: str, body: memoryview, header_length: str | None) -> Asked:
    """Return what a request's body asks of a model.

    Raises:
        InputError: it is not as the protocol has it.
    """
    length = _header_length(header_length, len(body))
    text, blobs = body[:length], body[length:]
    # A client that sends one vector after another says the same of each.
    head = _read_again(bytes(text)) if length <= _KEPT_HEAD_BYTES else _read_head(text)
    inputs: list[Tensor] = []
    for one, size in zip(head.call.inputs, head.sizes, strict=True):
        inputs.append(one if size is None else _filled(one, size, blobs))
        blobs = blobs[size or 0 :]
    if len(blobs):
        raise InputError(f"{len(blobs)} bytes follow the last input's: check binary_data_size")
    call = replace(head.call, model=model, version=version, inputs=tuple(inputs))
    return Asked(call, head.binary, head.binary_else)


def _read_head(text: Data) -> _Head:
    value = read_json(memoryview(text))
    parameters = _parameters(value, "the request")
    inputs = [_input(one) for one in _objects(value, "inputs")]
    outputs = {_name(one, "output"): _binary(one) for one in _objects(value, "outputs")}
    if len(outputs) != len(value.get("outputs") or ()):
        raise InputError("an output is named twice")
    binary = {name: wanted for name, wanted in outputs.items() if wanted is not None}
    tensors, sizes = tuple(one for one, _ in inputs), tuple(size for _, size in inputs)
    call = Call("", "", _request_id(value), tensors, tuple(outputs), parameters)
    return _Head(call, sizes, binary, bool(parameters.get("binary_data_output", False)))


_read_again = lru_cache(_KEPT_HEADS)(_read_head)


def _request_id(value: Json) -> str:
    request_id = value.get("id", "")
    if not isinstance(request_id, str):
        raise InputError("id must be a text")
    try:
        request_id.encode()
    except UnicodeEncodeError:
        # JSON can write it, and no answer can repeat it.
        raise InputError("id holds half of a surrogate pair") from None
    return request_id


def _header_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not header.isdecimal() or int(header) > size:
        raise InputError(f"{HEADER_LENGTH} must be at most the body's {size}, not {header!r:.40}")
    if int(header) == 0:
        raise InputError(f"{HEADER_LENGTH} is 0: raw tensors without their JSON are not offered")
    return int(header)


def _objects(value: Json, field: str) -> list[Json]:
    found = value.get(field) or []
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    raise InputError(f"{field} must be a list of objects")


def _name(value: Json, what: str) -> str:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"an {what} has no name")
    return name


def _parameters(value: Json, of: str) -> Parameters:
    found = value.get("parameters") or {}
    if isinstance(found, dict) and all(
        isinstance(one, bool | int | float | str) for one in found.values()
    ):
        return found
    raise InputError(f"parameters of {of} must be an object of numbers, texts, true and false")


def _binary(value: Json) -> bool | None:
    parameters = _parameters(value, "an output")
    refuse_extensions(parameters)
    wanted = parameters.get("binary_data")
    return None if wanted is None else bool(wanted)


def _input(value: Json) -> tuple[Tensor, int | None]:
    """Return an input, and how many of the bytes that follow the JSON are its own."""
    name = _name(value, "input")
    datatype = check_datatype(value.get("datatype"), name)
    shape = check_shape(value.get("shape"), name)
    parameters = _parameters(value, f"input {name!r:.80}")
    refuse_extensions(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        data = pack(_flat(value.get("data"), shape, name), datatype, name)
        return Tensor(name, datatype, shape, data), None
    if type(size) is not int or size < 0:
        raise InputError(f"input {name!r:.80}: binary_data_size is {size!r:.40}")
    if "data" in value:
        raise InputError(f"input {name!r:.80} has both data and binary_data_size")
    return Tensor(name, datatype, shape, b""), size


def _filled(tensor: Tensor, size: int, blobs: memoryview) -> Tensor:
    name = tensor.name
    if size > len(blobs):
        raise InputError(
            f"input {name!r:.80}: binary_data_size is {size}, and {len(blobs)} bytes follow"
        )
    check_size(blobs[:size], tensor.datatype, tensor.shape, name)
    return Tensor(name, tensor.datatype, tensor.shape, blobs[:size])


def _flat(data: object, shape: tuple[int, ...], name: str) -> list[Any]:
    if not isinstance(data, list):
        raise InputError(f"input {name!r:.80} has neither data nor binary_data_size")
    flat = data
    if data and isinstance(data[0], list):
        level: list[Any] = [data]
        for size in shape:
            if not all(isinstance(one, list) and len(one) == size for one in level):
                raise InputError(f"input {name!r:.80}: data is not of shape {list(shape)}")
            level = list(itertools.chain.from_iterable(level))
        flat = level
    if len(flat) != math.prod(shape):
        raise InputError(
            f"input {name!r:.80}: data has {len(flat)} values; shape {list(shape)} has "
            f"{math.prod(shape)}"
        )
    return flat
