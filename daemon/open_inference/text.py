"""Models that read texts, as the protocol's tensors: decoders answer them, embedders measure them.

``text_input`` is BYTES, a text each element. A decoder gives ``text_output``, the text that goes on
from each; Triton's backends for such models have the same names, and the same two optional inputs:
``stream`` (BOOL), and ``sampling_parameters`` (BYTES), a JSON object of what may as well be
parameters of the request. An embedder gives ``embedding``, FP32 of (texts, dimensions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.daemon.inference.tensors import Tensor, TensorSpec
from dreamer.daemon.open_inference.calls import Call
from dreamer.daemon.open_inference.datatypes import BYTES, check_size, pack_strings, split_strings
from dreamer.protocol.canonical import loads_lenient
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OIP_TEXTS_MAX

TEXT_INPUT, TEXT_OUTPUT, EMBEDDING = "text_input", "text_output", "embedding"
STREAM, SAMPLING = "stream", "sampling_parameters"

DECODER_SPECS = (
    (TensorSpec(TEXT_INPUT, BYTES, (-1,)),),
    (TensorSpec(TEXT_OUTPUT, BYTES, (-1,)),),
)
"""Inputs and outputs of a model that writes."""

_NUMBERS: dict[str, type[float] | type[int]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": int,
}
_OTHERS = ("max_tokens", "stop", "chat")

# Of the protocol itself, and of no meaning for a text.
_NOT_OURS = (
    "binary_data_output",
    "priority",
    "timeout",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "triton_enable_empty_final_response",
)


def embedding_specs(dimensions: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs of a model whose vectors have so many numbers."""
    vectors = TensorSpec(EMBEDDING, "FP32", (-1, dimensions or -1))
    return (TensorSpec(TEXT_INPUT, BYTES, (-1,)),), (vectors,)


def reads_texts(call: Call) -> bool:
    """Return whether a call may be one of texts, if the model is such a one."""
    return any(one.name == TEXT_INPUT and one.datatype == BYTES for one in call.inputs)


@dataclass(frozen=True)
class TextCall:
    """What is asked of a model that reads texts; ``shape`` is that of the input."""

    texts: tuple[str, ...]
    shape: tuple[int, ...]
    stream: bool
    options: Mapping[str, Any]

    def generations(self) -> list[GenerateRequest]:
        """Return one request for each text.

        Raises:
            InputError: a parameter is unknown, or of a wrong type or range.
        """
        return [_generation(text, self.options) for text in self.texts]


def text_call(call: Call) -> TextCall:
    """Return a call of texts.

    Raises:
        InputError: another input than there is, too many texts, or one that is no UTF-8.
    """
    inputs = {one.name: one for one in call.inputs}
    if unknown := set(inputs) - {TEXT_INPUT, STREAM, SAMPLING}:
        raise InputError(
            f"there is no input {min(unknown)!r:.80}; a model that reads texts takes {TEXT_INPUT}"
        )
    texts = _texts(inputs[TEXT_INPUT])
    if not 1 <= len(texts) <= OIP_TEXTS_MAX:
        raise InputError(f"a request has 1 to {OIP_TEXTS_MAX} texts, not {len(texts)}")
    options = {name: value for name, value in call.parameters.items() if name not in _NOT_OURS}
    stream = bool(options.pop(STREAM, False))
    if SAMPLING in inputs:
        options |= loads_lenient("".join(_texts(inputs[SAMPLING])).encode())
    if STREAM in inputs:
        stream = any(inputs[STREAM].data)
    return TextCall(tuple(texts), inputs[TEXT_INPUT].shape, stream, options)


def check_outputs(call: Call, name: str) -> None:
    """Refuse to be asked for another output than the one there is.

    Raises:
        InputError: it is.
    """
    if set(call.outputs) - {name}:
        raise InputError(f"there is no output {call.outputs[0]!r:.80}; this model gives {name}")


def text_output(texts: list[str], shape: tuple[int, ...]) -> Tensor:
    """Return what was written, in the shape that the texts came in."""
    return Tensor(TEXT_OUTPUT, BYTES, shape, pack_strings([text.encode() for text in texts]))


def _texts(tensor: Tensor) -> list[str]:
    if tensor.datatype != BYTES:
        raise InputError(f"input {tensor.name!r} must be BYTES, not {tensor.datatype}")
    check_size(tensor.data, BYTES, tensor.shape, tensor.name)
    try:
        return [str(one, "utf-8") for one in split_strings(tensor.data, tensor.name)]
    except UnicodeDecodeError as error:
        raise InputError(f"input {tensor.name!r} holds a text that is not UTF-8") from error


def _generation(text: str, options: Mapping[str, Any]) -> GenerateRequest:
    if unknown := set(options) - {*_NUMBERS, *_OTHERS}:
        known = ", ".join([*_NUMBERS, *_OTHERS])
        raise InputError(f"unknown parameter {min(unknown)!r:.80}; it can be: {known}")
    numbers = {
        name: _number(name, options[name], kind)
        for name, kind in _NUMBERS.items()
        if options.get(name) is not None
    }
    request = GenerateRequest(
        raw_prompt=text, sampling=Sampling(**numbers), stop=_stops(options.get("stop"))
    )
    if options.get("max_tokens") is not None:
        request = replace(request, max_tokens=_number("max_tokens", options["max_tokens"], int))
    if options.get("chat"):
        request = replace(request, raw_prompt=None, messages=(Message("user", text),))
    request.check()
    return request


def _number(name: str, value: object, kind: type[Any]) -> Any:
    # A bool is an int to Python, and never what is meant.
    good = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, good):
        what = "a number" if kind is float else "a whole number"
        raise InputError(f"parameter {name!r} must be {what}, not {value!r:.40}")
    return kind(value)


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return tuple(found)
    raise InputError("parameter 'stop' must be a text, or a list of texts")
