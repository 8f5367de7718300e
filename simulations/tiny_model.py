"""A Llama that fits in a megabyte: random weights in the very format of a real GGUF.

It answers any prompt with printable nonsense, the same for the same seed, and never with an end
token, so its answers are always as long as was asked. Weights are quantised as in SmolLM2's file:
Q4_1 matrices, a tied Q8_0 embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "Ġ t", "Ġt he", "i n", "a n", "an d", "Ġ and", "o r", "Ġ w", "Ġw or", "l d")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_CONTROL, _NORMAL = 3, 1

# What the layers add must drown the token itself, or a tied embedding repeats it for ever.
_LOUD = 12.0


@dataclass(frozen=True)
class TinyShape:
    """Sizes of the network; widths are multiples of 256, which ggml's K types need."""

    layers: int = 2
    hidden: int = 256
    intermediate: int = 512
    heads: int = 4
    kv_heads: int = 2
    context: int = 512
    rope_base: float = 10_000.0

    @property
    def head_size(self) -> int:
        """Values per attention head."""
        return self.hidden // self.heads


def write_tiny_gguf(
    path: Path,
    seed: int = 0,
    *,
    matrices: Kind = Kind.Q4_1,
    embedding: Kind = Kind.Q8_0,
    tied: bool = True,
    architecture: str = "llama",
    shape: TinyShape | None = None,
) -> None:
    """Write the model; the same arguments give the same bytes.

    ``matrices`` and ``embedding`` are any types that the ``gguf`` package can quantise to. A larger
    ``shape`` than the default makes a model that takes its time.
    """
    shape, tokens = shape or TinyShape(), _vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, shape)
    _write_tokenizer(writer, tokens)
    for name, values in _weights(shape, tokens, np.random.default_rng(seed), tied).items():
        kind = embedding if name in ("token_embd", "output") else matrices
        _write_tensor(writer, f"{name}.weight", values, Kind.F32 if values.ndim == 1 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: gguf.GGUFWriter, shape: TinyShape) -> None:
    writer.add_name("Tiny")
    writer.add_license("cc0-1.0")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)


def _write_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if one in SPECIAL else _NORMAL for one in tokens])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _write_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[Any], kind: Kind) -> None:
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _vocabulary() -> list[str]:
    return [*SPECIAL, *_byte_symbols(), *(merge.replace(" ", "") for merge in MERGES)]


def _byte_symbols() -> list[str]:
    """Return the character that GPT-2's byte-level BPE writes for each byte, 0 to 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _weights(
    shape: TinyShape, tokens: list[str], random: np.random.Generator, tied: bool
) -> dict[str, NDArray[np.float32]]:
    queries, keys = shape.hidden, shape.kv_heads * shape.head_size
    sizes = {
        "attn_q": (queries, shape.hidden),
        "attn_k": (keys, shape.hidden),
        "attn_v": (keys, shape.hidden),
        "attn_output": (shape.hidden, queries),
        "ffn_gate": (shape.intermediate, shape.hidden),
        "ffn_up": (shape.intermediate, shape.hidden),
        "ffn_down": (shape.hidden, shape.intermediate),
    }
    weights = {"token_embd": _embedding(tokens, shape.hidden, random)}
    for layer in range(shape.layers):
        for name, (rows, columns) in sizes.items():
            scale = _LOUD if name in ("attn_output", "ffn_down") else 1.0
            weights[f"blk.{layer}.{name}"] = _normal(random, rows, columns, scale * columns**-0.5)
        for name in ("attn_norm", "ffn_norm"):
            weights[f"blk.{layer}.{name}"] = 1 + _normal(random, 1, shape.hidden, 0.1)[0]
    weights["output_norm"] = 1 + _normal(random, 1, shape.hidden, 0.1)[0]
    if not tied:
        weights["output"] = _embedding(tokens, shape.hidden, random)
    return weights


def _embedding(tokens: list[str], hidden: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return rows that are zero for what isn't printable ASCII: such tokens are never likeliest."""
    rows = _normal(random, len(tokens), hidden, 0.1)
    silent = [one in SPECIAL or not one.replace("Ġ", " ").isascii() for one in tokens]
    rows[silent] = 0.0
    return rows


def _normal(
    random: np.random.Generator, rows: int, columns: int, scale: float
) -> NDArray[np.float32]:
    return random.normal(0.0, scale, (rows, columns)).astype(np.float32)
