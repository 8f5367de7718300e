"""What a Llama-architecture GGUF says about its model, checked once and typed from there on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.gguf.reading import GgufFile, Tensor
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GGUF_MAX_CONTEXT_TOKENS,
)

ARCHITECTURE = "llama"
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_NORMS = ("attn_norm", "ffn_norm")
_ABSURD = 1e12


@dataclass(frozen=True)
class Llama:
    """Shape of the network. ``rope_factors`` divides each rotary frequency (Llama 3.1), if any."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    norm_epsilon: float
    rope_base: float
    rope_scale: float
    rope_factors: NDArray[np.float32] | None
    tied: bool


def describe(file: GgufFile) -> Llama:
    """Return the network's shape.

    Raises:
        InputError: another architecture, a missing or absurd field, or tensors that don't fit it.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise InputError(
            f"architecture {architecture!r:.80} can't be imported; "
            "use a GGUF of the llama architecture (Llama, SmolLM, Mistral …)"
        )
    llama = _fields(file)
    _check_sizes(file, llama)
    _check_tensors(file, llama)
    return llama


def _fields(file: GgufFile) -> Llama:
    heads = _count(file, "attention.head_count")
    hidden = _count(file, "embedding_length")
    head_size = _head_size(file, hidden // heads)
    factors = file.tensors.get("rope_freqs.weight")
    return Llama(
        name=str(file.metadata.get("general.name", "")),
        layers=_count(file, "block_count"),
        hidden=hidden,
        intermediate=_count(file, "feed_forward_length"),
        heads=heads,
        kv_heads=_count(file, "attention.head_count_kv", heads),
        head_size=head_size,
        vocabulary=_tensor(file, "token_embd.weight").rows,
        context=_count(file, "context_length"),
        norm_epsilon=_number(file, "attention.layer_norm_rms_epsilon"),
        rope_base=_number(file, "rope.freq_base", 10_000.0),
        rope_scale=_rope_scale(file),
        rope_factors=None if factors is None else factors.data.view(np.float32),
        tied="output.weight" not in file.tensors,
    )


def _head_size(file: GgufFile, default: int) -> int:
    size = _count(file, "attention.key_length", default)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := _count(file, key, size)) != size:
            raise InputError(
                f"{ARCHITECTURE}.{key} is {other}, not the head size {size}; "
                "models that rotate part of a head can't be imported"
            )
    return size


def _rope_scale(file: GgufFile) -> float:
    kind = file.metadata.get(f"{ARCHITECTURE}.rope.scaling.type", "none")
    if kind == "none":
        return 1.0
    if kind != "linear":
        raise InputError(f"rope scaling {kind!r:.40} can't be imported; use a model without it")
    return _number(file, "rope.scaling.factor")


def _number(file: GgufFile, key: str, default: float | None = None) -> float:
    value = file.metadata.get(f"{ARCHITECTURE}.{key}", default)
    if not isinstance(value, int | float) or not 0 < value < _ABSURD:
        raise InputError(
            f"the GGUF has no usable {ARCHITECTURE}.{key} ({value!r:.40}); "
            "convert the model again with a current llama.cpp"
        )
    return float(value)


def _count(file: GgufFile, key: str, default: int | None = None) -> int:
    return int(_number(file, key, default))


def _tensor(file: GgufFile, name: str) -> Tensor:
    try:
        return file.tensors[name]
    except KeyError:
        raise InputError(f"the GGUF lacks the tensor {name}; download all of it again") from None


def _check_sizes(file: GgufFile, llama: Llama) -> None:
    """Refuse what would cost memory or time before a tensor could prove it wrong."""
    fits = (
        llama.layers <= len(file.tensors)
        and llama.context <= GGUF_MAX_CONTEXT_TOKENS
        and llama.heads % llama.kv_heads == 0
        and llama.head_size % 2 == 0
    )
    if not fits:
        raise InputError(
            f"the GGUF's sizes don't fit together ({llama.layers} layers, {llama.heads} heads, "
            f"{llama.kv_heads} of keys, context {llama.context}); download it again"
        )


def _expected(llama: Llama) -> dict[str, tuple[int, int]]:
    """Return (rows, columns) of every tensor that the graph is built from."""
    hidden, wide = llama.hidden, llama.intermediate
    queries, keys = llama.heads * llama.head_size, llama.kv_heads * llama.head_size
    matrices = (
        (queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries),
        (wide, hidden), (wide, hidden), (hidden, wide),
    )  # fmt: skip
    shapes = {
        "token_embd.weight": (llama.vocabulary, hidden),
        "output_norm.weight": (1, hidden),
    }
    if not llama.tied:
        shapes["output.weight"] = (llama.vocabulary, hidden)
    if llama.rope_factors is not None:
        shapes["rope_freqs.weight"] = (1, llama.head_size // 2)
    for layer in range(llama.layers):
        shapes |= {f"blk.{layer}.{name}.weight": (1, hidden) for name in _NORMS}
        named = zip(_MATRICES, matrices, strict=True)
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in named}
    return shapes


def _check_tensors(file: GgufFile, llama: Llama) -> None:
    expected = _expected(llama)
    for name, shape in expected.items():
        tensor = _tensor(file, name)
        if (tensor.rows, tensor.columns) != shape:
            raise InputError(
                f"tensor {name} is {tensor.rows} × {tensor.columns}, not {shape[0]} × {shape[1]}; "
                "the file's metadata and weights don't belong together, download it again"
            )
    if extra := sorted(file.tensors.keys() - expected.keys()):
        raise InputError(
            f"the GGUF holds tensors that a plain Llama lacks ({', '.join(extra[:3])}); "
            "mixtures of experts, biases and adapters can't be imported"
        )
