"""Tensors as ONNX Runtime takes and gives them: names, types and shapes checked against a graph.

Lives in worker processes. The values of a request are not copied; BYTES are ONNX strings, which
are UTF-8 text.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dreamer.daemon.inference.tensor_checks import BYTES, pack_elements, unpack_elements
from dreamer.daemon.inference.tensors import Tensor, TensorSpec
from dreamer.protocol.errors import InputError

BF16 = "BF16"
_BF16_ELEMENT = 16  # onnx.TensorProto.BFLOAT16

# ONNX Runtime's name of a type: ours, and numpy's. numpy has no bfloat16: its bits travel as u16.
_TYPES: dict[str, tuple[str, type[np.generic]]] = {
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(bfloat16)": (BF16, np.uint16),
    "tensor(string)": (BYTES, np.object_),
}
_ELEMENTS = dict(_TYPES.values())
_DATATYPES = {np.dtype(element): name for name, element in _ELEMENTS.items() if name != BF16}

Value: TypeAlias = Any
"""An array, or an OrtValue where numpy has no such type."""


class Declared(Protocol):
    """An input or output as a session declares it."""

    name: str
    type: str
    shape: Sequence[int | str | None]


def specs(declared: Iterable[Declared]) -> tuple[TensorSpec, ...]:
    """Return the tensors among what a session declares: maps and sequences can't be asked for."""
    return tuple(
        TensorSpec(
            one.name,
            _TYPES[one.type][0],
            # A symbolic size is a name or None; what a graph leaves open, exporters write as 0.
            tuple(size if isinstance(size, int) and size > 0 else -1 for size in one.shape),
        )
        for one in declared
        if one.type in _TYPES
    )


def check_inputs(wanted: Sequence[TensorSpec], given: Sequence[Tensor]) -> None:
    """Refuse inputs that a graph doesn't have, or has otherwise.

    Raises:
        InputError: names the input, and says what the graph wants.
    """
    known = {one.name: one for one in wanted}
    for tensor in given:
        spec = known.pop(tensor.name, None)
        if spec is None:
            names = ", ".join(one.name for one in wanted)
            raise InputError(f"the model has no input {tensor.name!r:.80}; it takes {names:.300}")
        if tensor.datatype != spec.datatype or not _fits(tensor.shape, spec.shape):
            raise InputError(
                f"input {tensor.name!r:.80} is {tensor.datatype} of the shape "
                f"{list(tensor.shape)!s:.80}; the model wants {_told(spec)}"
            )
    if known:
        missing = "; ".join(f"{one.name} ({_told(one)})" for one in known.values())
        raise InputError(f"the model also needs the inputs {missing:.400}")


def _told(spec: TensorSpec) -> str:
    return f"{spec.datatype} of the shape {list(spec.shape)} (-1: any size)"


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    # An empty shape is a scalar, or one that the graph doesn't tell: ONNX Runtime knows which.
    if not wanted:
        return True
    return len(shape) == len(wanted) and all(
        want in (-1, size) for size, want in zip(shape, wanted, strict=True)
    )


def value(tensor: Tensor) -> Value:
    """Return a tensor as a session takes it; it refers to the tensor's own bytes if it can.

    Raises:
        InputError: BYTES that are not UTF-8, or don't fill the shape.
    """
    if tensor.datatype == BYTES:
        return _strings(tensor)
    element = _ELEMENTS[tensor.datatype]
    array: NDArray[Any] = np.frombuffer(tensor.data, element).reshape(tensor.shape)
    if not array.flags.aligned:
        array = array.copy()
    if tensor.datatype == BF16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BF16_ELEMENT)
    return array


def _strings(tensor: Tensor) -> NDArray[Any]:
    size = math.prod(tensor.shape)
    try:
        elements = [one.decode() for one in unpack_elements(tensor.data)]
    except UnicodeDecodeError as error:
        raise InputError(
            f"input {tensor.name!r:.80} is not UTF-8 text, which ONNX strings are; "
            "encode binary data, as base64 for one, if the model takes that"
        ) from error
    except InputError as error:
        raise InputError(f"input {tensor.name!r:.80}: {error}") from error
    if len(elements) != size:
        raise InputError(
            f"input {tensor.name!r:.80} has {len(elements)} elements; "
            f"the shape {list(tensor.shape)!s:.80} takes {size}"
        )
    array = np.empty(size, np.object_)
    array[:] = elements
    return array.reshape(tensor.shape)


def tensor(name: str, given: Value) -> Tensor:
    """Return what a session gave as a tensor; it refers to the same memory.

    Raises:
        InputError: it is no tensor that can be passed on.
    """
    if isinstance(given, onnxruntime.OrtValue):
        if given.device_name().lower() != "cpu":
            # Its address would be the GPU's. Session.run brings outputs back by itself.
            raise InputError(f"output {name!r:.80} was left on the device; ask for another")
        if given.is_tensor() and given.element_type() == _BF16_ELEMENT:
            size = given.tensor_size_in_bytes()
            bits = ctypes.string_at(given.data_ptr(), size) if size else b""
            return Tensor(name, BF16, tuple(given.shape()), bits)
        given = given.numpy()
    array = np.ascontiguousarray(given)
    # ascontiguousarray makes a vector of a scalar.
    shape = np.shape(given)
    datatype = _DATATYPES.get(array.dtype)
    if datatype is None:
        raise InputError(f"output {name!r:.80} is {array.dtype}, which can't be passed on")
    if datatype == BYTES:
        data = pack_elements([str(one).encode() for one in array.ravel()])
        return Tensor(name, BYTES, shape, data)
    return Tensor(name, datatype, shape, array.reshape(-1).view(np.uint8).data)
