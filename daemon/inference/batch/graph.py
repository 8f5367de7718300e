"""A decoder's session and what its inputs are called: what running a step needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.worker.formats import PAST_PREFIX, ModelGraph
from dreamer.protocol.errors import InputError

PRESENT_PREFIX = "present."
LOGITS = "logits"
TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids")
_ELEMENTS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


@dataclass(frozen=True)
class Past:
    """One tensor of the cache, (rows, ``heads``, tokens, ``size``), and its next value's name."""

    name: str
    present: str
    heads: int
    size: int
    element: type[np.generic]

    @property
    def bytes_per_token(self) -> int:
        """What a token takes of it."""
        return self.heads * self.size * np.dtype(self.element).itemsize


@dataclass(frozen=True)
class DecoderGraph:
    """A loaded decoder. ``device`` is where it computes, ``cpu`` or ``cuda:N``.

    ``vocabulary`` is how many logits a token has, 0 where the graph leaves that open.
    """

    session: onnxruntime.InferenceSession
    pasts: tuple[Past, ...]
    token_inputs: frozenset[str]
    shares_cache: bool
    device: str
    vocabulary: int
    logits_element: type[np.generic]

    @property
    def cache_device(self) -> str:
        """Where keys and values are kept.

        ONNX Runtime has GroupQueryAttention in CUDA for fp16 only; in fp32 it is computed on the
        CPU, and writes in place there.
        """
        half = all(one.element is np.float16 for one in self.pasts)
        return self.device if half else CPU

    @property
    def bytes_per_token(self) -> int:
        """What a token of one sequence takes of the cache."""
        return sum(one.bytes_per_token for one in self.pasts)


def decoder_graph(
    session: onnxruntime.InferenceSession, model: ModelGraph, description: Description, device: str
) -> DecoderGraph:
    """Look at a session's inputs and outputs; sizes left open come from ``description``.

    Raises:
        InputError: these aren't a decoder's.
    """
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = {one.name: one for one in session.get_outputs()}
    pasts = tuple(
        _past(one, description) for one in inputs.values() if one.name.startswith(PAST_PREFIX)
    )
    wanted = {LOGITS} | {one.present for one in pasts}
    token_inputs = inputs.keys() - {one.name for one in pasts}
    if not pasts or not wanted <= outputs.keys() or not token_inputs <= frozenset(TOKEN_INPUTS):
        raise InputError(
            "this ONNX graph is not a decoder with a key-value cache (Optimum's "
            "text-generation-with-past); export it as one"
        )
    logits = outputs[LOGITS]
    size = logits.shape[-1] if logits.shape else None
    return DecoderGraph(
        session,
        pasts,
        frozenset(token_inputs),
        model.shares_cache,
        device,
        size if isinstance(size, int) and logits.type in _ELEMENTS else 0,
        _ELEMENTS.get(logits.type, np.float32),
    )


def _past(one: Any, description: Description) -> Past:
    if len(one.shape) != 4 or one.type not in _ELEMENTS:
        raise InputError(
            f"the cache of this graph is of {one.type} and shape {one.shape!s:.60}; "
            "export the model as fp32 or fp16 with Optimum's text-generation-with-past"
        )
    _, heads, _, size = one.shape
    return Past(
        one.name,
        PRESENT_PREFIX + one.name.removeprefix(PAST_PREFIX),
        heads if isinstance(heads, int) else description.kv_heads,
        size if isinstance(size, int) else description.head_size,
        _ELEMENTS[one.type],
    )
