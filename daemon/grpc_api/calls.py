"""Calls and answers as messages: contents typed or raw in, raw out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreamer.daemon.grpc_api.messages import message
from dreamer.daemon.inference.tensors import Data, Tensor
from dreamer.daemon.open_inference.calls import Answer, Call, Parameters, refuse_extensions
from dreamer.daemon.open_inference.datatypes import (
    BYTES,
    check_datatype,
    check_shape,
    check_size,
    pack,
    pack_strings,
)
from dreamer.protocol.errors import InputError

_Parameter = message("InferParameter")
_Response = message("ModelInferResponse")

_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field of typed contents by data type; FP16 and BF16 come raw."""


def read_call(request: Any) -> Call:
    """Return what a ``ModelInferRequest`` asks.

    Raises:
        InputError: it is not as the protocol has it.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"{len(request.inputs)} inputs have {len(raw)} raw_input_contents: give one for each "
            "input, or typed contents for all"
        )
    inputs = tuple(
        _input(one, raw[place] if raw else None) for place, one in enumerate(request.inputs)
    )
    outputs = []
    for one in request.outputs:
        refuse_extensions(_parameters(one.parameters))
        outputs.append(one.name)
    return Call(
        request.model_name,
        request.model_version,
        request.id,
        inputs,
        tuple(outputs),
        _parameters(request.parameters),
    )


def _input(one: Any, raw: bytes | None) -> Tensor:
    name = one.name
    if not name:
        raise InputError("an input has no name")
    datatype = check_datatype(one.datatype, name)
    shape = check_shape(list(one.shape), name)
    refuse_extensions(_parameters(one.parameters))
    if raw is not None and one.HasField("contents"):
        raise InputError(f"input {name!r:.80} has both contents and raw_input_contents")
    data: Data = raw if raw is not None else _typed(one.contents, datatype, name)
    check_size(data, datatype, shape, name)
    return Tensor(name, datatype, shape, data)


def _typed(contents: Any, datatype: str, name: str) -> bytes:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InputError(f"input {name!r:.80}: {datatype} must be in raw_input_contents")
    values = getattr(contents, field)
    if datatype == BYTES:
        return pack_strings(values)
    return pack(list(values), datatype, name)


def _parameters(given: Mapping[str, Any]) -> Parameters:
    found: Parameters = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InputError(f"parameter {name!r:.80} has no value")
        found[name] = getattr(value, choice)
    return found


def write_answer(answer: Answer) -> Any:
    """Return an answer as a ``ModelInferResponse``."""
    response = _Response(
        model_name=answer.model, model_version=answer.version, id=answer.request_id
    )
    for name, value in answer.parameters.items():
        set_parameter(response, name, value)
    for output in answer.outputs:
        response.outputs.add(name=output.name, datatype=output.datatype, shape=list(output.shape))
        response.raw_output_contents.append(bytes(output.data))
    return response


def set_parameter(response: Any, name: str, value: bool | int | float | str) -> None:
    """Add a parameter to a ``ModelInferResponse``."""
    # A bool is an int as well: it is asked first.
    kinds = ((bool, "bool_param"), (int, "int64_param"), (float, "double_param"))
    field = next((field for kind, field in kinds if isinstance(value, kind)), "string_param")
    response.parameters[name].CopyFrom(_Parameter(**{field: value}))
